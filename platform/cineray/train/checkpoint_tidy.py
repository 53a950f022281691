"""Making room: a folder of checkpoints and a rule go in; what the rule does not keep, and what kills left, goes.

A checkpoint goes manifest first: killed in between, it is no checkpoint any more, rather than a damaged one. Called
after a save, by the one process that writes, and only then: what has no manifest is nobody's any more.
"""

from __future__ import annotations

import contextlib
import os

from cineray.errors import PlaceMissing
from cineray.storage import delete_object, is_remote, join_uri
from cineray.train.checkpoint_keep import KeepRule, kept_steps
from cineray.train.checkpoint_manifest import (
    MANIFEST,
    CheckpointDamaged,
    CheckpointInfo,
    leftovers,
    read_manifest,
    step_uri,
    steps_in,
)


def known(checkpoints: str) -> list[CheckpointInfo]:
    """What the manifests say, files unverified; manifests that cannot be read are left out."""
    found = []
    for step in steps_in(checkpoints):
        with contextlib.suppress(CheckpointDamaged, PlaceMissing):
            found.append(read_manifest(step_uri(checkpoints, step)))
    return found


def apply_rule(checkpoints: str, rule: KeepRule, newest: int | None = None) -> list[int]:
    """Delete what the rule does not keep; returns the steps that went.

    Steps after `newest` are left alone, and do not count: a run that went back to an earlier checkpoint, because the
    last ones were damaged, must not take those for its newest.
    """
    infos = [info for info in known(checkpoints) if newest is None or info.step <= newest]
    kept = kept_steps(infos, rule)
    gone = [info for info in infos if info.step not in kept]
    for info in gone:
        delete_object(join_uri(info.uri, MANIFEST))
        delete_object(info.uri, recursive=True)
    return [info.step for info in gone]


def remove_leftovers(checkpoints: str, newest: int) -> None:
    """Delete what saves that were killed left behind, up to the step `newest`."""
    whole = {info.step: info.folder for info in known(checkpoints)}
    for step, folders in leftovers(checkpoints).items():
        for folder in folders - {whole.get(step)}:
            if step <= newest:
                delete_object(join_uri(step_uri(checkpoints, step), folder), recursive=True)
    if not is_remote(checkpoints):
        for folder, _, _ in os.walk(checkpoints, topdown=False):
            with contextlib.suppress(OSError):  # those with something in them stay
                os.rmdir(folder)
