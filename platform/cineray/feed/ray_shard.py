"""One rank's end of the Ray feed: rows come out of Ray Data, batches leave, each checked to be the one that is due.

Waiting is watched: when no row comes for too long, the error says what Ray knows. Arrays are read-only views of Ray's
shared memory, which is held as long as they are: let batches go.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray

from cineray import errors
from cineray.errors import CinerayError, FeedOrderError, FeedStalled
from cineray.feed.limit import SubstitutionLimit
from cineray.feed.ray_pull import RowPuller
from cineray.feed.wire import ARRAYS, LATENTS, unpack
from cineray.records import Batch

_log = logging.getLogger("cineray.feed")


@dataclass(slots=True)
class FeedTimes:
    """What a shard has measured so far."""

    waited_seconds: float = 0.0
    """How long the trainer waited for batches."""
    tasks: int = 0
    task_seconds: float = 0.0
    """How long workers took for the tasks that arrived."""
    batches: int = 0


class RayShard:
    """The batches of one rank. Small and picklable: hand it to the process that trains."""

    def __init__(
        self,
        iterator: Any,
        steps: range,
        *,
        rank: int,
        max_substituted_fraction: float,
        stall_seconds: float = 600.0,
    ) -> None:
        self.iterator, self.steps, self.rank = iterator, steps, rank
        self.max_substituted_fraction = max_substituted_fraction
        self.stall_seconds = stall_seconds
        self.times = FeedTimes()

    def batches(self) -> Iterator[Batch]:
        """The batches of this rank, from the first step to the last. Close it (or end the loop) to stop decoding."""
        limit = SubstitutionLimit(self.max_substituted_fraction)
        rows = RowPuller(self.iterator)
        due, spilled = self.steps.start, _spilled()
        try:
            while due < self.steps.stop:
                for batch in self._checked(self._next(rows, due), due):
                    limit.check(batch)
                    due += 1
                    self.times.batches += 1
                    rows.look()
                    yield batch
                del batch  # its memory is not held while the next row is waited for
        finally:
            rows.close()
        _warn_of_spilling(_spilled() - spilled)

    def _next(self, rows: RowPuller, due: int) -> dict[str, Any]:
        began = time.monotonic()
        try:
            row = rows.get(self.stall_seconds)
        except TimeoutError:
            raise FeedStalled(self._stalled(due)) from None
        finally:
            self.times.waited_seconds += time.monotonic() - began
        if row is None:
            raise FeedOrderError(f"rank {self.rank}: Ray Data has no more rows where step {due} was due; restart there")
        rows.ahead = int(row["in_hand"][0])
        self.times.tasks += 1
        self.times.task_seconds += float(row["seconds"][0])
        return row

    def _checked(self, row: dict[str, Any], due: int) -> list[Batch]:
        found = int(row["first_step"][0]), int(row["rank"][0])
        if found != (due, self.rank):
            raise FeedOrderError(
                f"rank {self.rank} was to get step {due} and got step {found[0]} of rank {found[1]}: Ray Data did not "
                f"keep the order. Nothing was trained on it; restart from step {due}, and report that it is Ray "
                f"{ray.__version__}"
            )
        if ARRAYS[0] not in row:
            raise _told(str(row["meta"][0]))
        arrays = {name: row[name][0] for name in (*ARRAYS, LATENTS) if name in row}
        batches = unpack(arrays, str(row["meta"][0]))
        if [batch.step for batch in batches] != list(range(due, due + len(batches))):
            raise FeedOrderError(f"rank {self.rank}: the row of step {due} holds steps {[b.step for b in batches]}")
        return batches

    def _stalled(self, due: int) -> str:
        known = []
        for name, ask in (("resources", ray.cluster_resources), ("free", ray.available_resources)):
            try:
                known.append(f"{name}: { {k: v for k, v in ask().items() if not k.startswith('node:')} }")
            except Exception as error:
                known.append(f"{name}: unknown ({error})")
        return (
            f"rank {self.rank}: no batch for {self.stall_seconds:g} s, step {due} is due; {self.times.tasks} tasks had "
            f"come, of {self.times.task_seconds / max(1, self.times.tasks):.1f} s each. {'; '.join(known)}. Are there "
            "cores for decoding (nodes with the decode label, not all held by trainers)? `ray status` tells; a restart "
            "goes on from here"
        )


def _told(meta: str) -> CinerayError:
    """An error of ours that was raised in a worker, as it was."""
    told = json.loads(meta)
    kind = getattr(errors, told["error"], CinerayError)
    return kind(told["message"]) if issubclass(kind, CinerayError) else CinerayError(told["message"])


def spilled_bytes() -> int:
    """What this Ray's object stores have written to disk since it was started."""
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    address = ray.get_runtime_context().gcs_address
    return int(get_memory_info_reply(get_state_from_address(address)).store_stats.spilled_bytes_total)


def _spilled() -> int:
    try:
        return spilled_bytes()
    except Exception as error:  # a question to Ray's internals, for a warning alone: no reason to fail
        _log.info("whether Ray's object stores have spilled could not be found out: %s", error)
        return 0


def _warn_of_spilling(spilled: int) -> None:
    """The bound on what is ahead is meant to keep the feed from it; other users of the same Ray may not."""
    if spilled > 0:
        _log.warning(
            "meanwhile Ray's object stores have written %.1f MB to disk, which slows the feed; give them more memory, "
            "or lower feed.ahead_bytes",
            spilled / 1e6,
        )
