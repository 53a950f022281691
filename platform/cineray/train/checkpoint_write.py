"""Writing one checkpoint: a state that nobody changes goes in, whole files and then a manifest come to lie at the run.

    every rank   torch.distributed.checkpoint writes its shards to a local folder, each forced to disk
    every rank   hashes what it wrote; of a remote run, uploads it
    rank 0       puts manifest.json, if absent: only now is there a checkpoint

Why files first and then an upload, and not a stream into the store: the hash is known before a byte is sent, an upload
that breaks is sent again from the file, and the store sees whole objects only. It costs local disk for one checkpoint's
shards. If any rank fails, all raise one error, what was written is removed, and the checkpoint before stays as it was.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_saver import save

from cineray.errors import CinerayError
from cineray.plan import PlanIdentity
from cineray.storage import delete_object, is_remote, join_uri, put_if_absent, upload_file
from cineray.train.checkpoint_manifest import (
    MANIFEST,
    CheckpointDamaged,
    CheckpointInfo,
    FileFacts,
    check_files,
    hash_file,
    read_manifest,
    step_uri,
)
from cineray.train.ranks import Ranks, RanksDisagree


class CheckpointFailed(CinerayError):
    """A checkpoint could not be written; the one before it is whole, and the run can go on from there."""

    def __init__(self, message: str, *, no_room: bool = False) -> None:
        super().__init__(message)
        self.no_room = no_room
        """The disk is full, or a quota is: trying again would end the same way."""


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """What is to be written, beside the tensors."""

    checkpoints: str
    step: int
    plan: PlanIdentity | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    staging: str = ""
    """Where shards lie until they are uploaded, for remote runs; empty: the system's folder for temporary files."""


def write_checkpoint(state: Mapping[str, Any], told: Writing, ranks: Ranks) -> CheckpointInfo:
    """Write it, every rank its part; returns what the manifest says. Called by all ranks, from one thread of each."""
    attempt = ranks.only_first(lambda: secrets.token_hex(4))
    info = CheckpointInfo(
        uri=step_uri(told.checkpoints, told.step),
        step=told.step,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        folder=attempt,
        files=(),
        plan=None if told.plan is None else told.plan.to_dict(),
        metrics=dict(told.metrics),
        facts=dict(told.facts) | {"world_size": ranks.world},
    )
    remote = is_remote(told.checkpoints)
    folder = tempfile.mkdtemp(prefix="cineray-checkpoint-", dir=told.staging or None) if remote else info.data_uri
    try:
        return _written(state, info, folder, ranks)
    # CheckpointException is no Exception to Python, only a BaseException.
    except (CheckpointException, RanksDisagree, CinerayError, OSError, RuntimeError) as error:
        _remove_files(info, ranks)
        sentence = _sentence(error, info, folder)
        # By its words: of another rank's error nothing else arrives here.
        no_room = any(os.strerror(number) in sentence for number in _NO_ROOM)
        raise CheckpointFailed(sentence, no_room=no_room) from error
    finally:
        if remote:
            shutil.rmtree(folder, ignore_errors=True)


def _written(state: Mapping[str, Any], info: CheckpointInfo, folder: str, ranks: Ranks) -> CheckpointInfo:
    ranks.each(lambda: os.makedirs(folder, exist_ok=True))
    writer = _Writer(folder, overwrite=False)
    save(dict(state), storage_writer=writer, process_group=ranks.group, no_dist=ranks.world == 1)
    parts = ranks.each(lambda: _sealed(info, folder, ranks))
    files = sorted((one for part in parts for one in part), key=lambda one: one.name)
    return ranks.only_first(lambda: _put_manifest(replace(info, files=tuple(files))))


class _Writer(FileSystemWriter):
    """torch's own, but a disk that is full is said to be full.

    torch closes its archive after the failed write, fails at that too ("unexpected pos 704 vs 598"), and only that
    would reach the other ranks.
    """

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Any:
        try:
            return super().write_data(plan, planner)
        except Exception as error:
            system = system_error(error)
            if system is None:
                raise
            raise system from error


def system_error(error: BaseException | None) -> OSError | None:
    """The operating system's complaint among what an error was raised from or during."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _sealed(info: CheckpointInfo, folder: str, ranks: Ranks) -> list[FileFacts]:
    """Hash what this rank wrote; upload it, or make sure that the folder's names are on disk too."""
    mine = [name for name in sorted(os.listdir(folder)) if _is_mine(name, ranks)]
    files = [hash_file(os.path.join(folder, name)) for name in mine]
    if is_remote(info.uri):
        for name in mine:
            upload_file(os.path.join(folder, name), join_uri(info.data_uri, name))
    else:
        for path in (folder, os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))):
            _sync_folder(path)
    return files


def _is_mine(name: str, ranks: Ranks) -> bool:
    """torch names shards `__<rank>_<number>.distcp`; the table of contents, `.metadata`, is rank 0's."""
    return name.startswith(f"__{ranks.rank}_") or (name == ".metadata" and ranks.first)


def _put_manifest(info: CheckpointInfo) -> CheckpointInfo:
    place = join_uri(info.uri, MANIFEST)
    if put_if_absent(place, info.to_bytes()):
        return info
    try:
        there = read_manifest(info.uri)
        check_files(there)
    except CheckpointDamaged as damage:
        # This is why the step is saved again: its first checkpoint could not be loaded.
        warnings.warn(f"replacing the damaged checkpoint of step {info.step}: {damage}", stacklevel=2)
        delete_object(place)
        if put_if_absent(place, info.to_bytes()):
            return info
        there = read_manifest(info.uri)
    warnings.warn(
        f"step {info.step} has a whole checkpoint already, at {there.data_uri}; it is kept, and what was written now "
        "is removed. If two processes train this run at once, end one of them",
        stacklevel=2,
    )
    delete_object(info.data_uri, recursive=True)
    return there


def _remove_files(info: CheckpointInfo, ranks: Ranks) -> None:
    """Nobody's checkpoint: without a manifest it never was one, and the space is wanted."""
    if not ranks.first:
        return
    try:
        delete_object(info.data_uri, recursive=True)
        if not is_remote(info.uri) and os.path.isdir(info.uri) and not os.listdir(info.uri):
            os.rmdir(info.uri)
    except (CinerayError, OSError) as error:
        warnings.warn(f"what is left at {info.data_uri} could not be removed: {error}", stacklevel=2)


def _sentence(error: BaseException, info: CheckpointInfo, folder: str) -> str:
    if isinstance(error, CheckpointException):
        cause = "; ".join(f"rank {rank}: {type(one[0]).__name__}: {one[0]}" for rank, one in error.failures.items())
    else:
        cause = str(error) if isinstance(error, RanksDisagree) else f"{type(error).__name__}: {error}"
    free = _free_bytes(folder)
    room = f"; {free / 1e9:.3f} GB are free there" if free is not None else ""
    return (
        f"the checkpoint of step {info.step} could not be written to {info.uri}: {cause[:2000]}{room}. What was "
        "written of it is removed and the checkpoint before it is whole: make room or repair the place, then resume"
    )


def _free_bytes(folder: str) -> int | None:
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        return shutil.disk_usage(folder or "/").free
    except OSError:
        return None


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
