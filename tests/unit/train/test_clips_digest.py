"""A step's clips have one name, whoever held which, and other clips have another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from cineray.records import Batch
from cineray.train.clips_digest import clips_digest, clips_halves


def named(shares: Iterable[Batch]) -> str:
    """As the loop does it: the halves are summed over the ranks."""
    return clips_digest(sum(halves) for halves in zip(*map(clips_halves, shares), strict=True))


@pytest.mark.parametrize("world", [2, 3, 5])
def test_it_does_not_matter_how_many_ranks_share_a_step(made: ModuleType, world: int) -> None:
    shares = [made.made_batch(4, rank=rank, world=world) for rank in range(world)]
    assert named(shares) == named(reversed(shares)) == named([made.made_batch(4)])


@pytest.mark.parametrize(
    "changed",
    [
        {"clip_id": "another"},
        {"frame_numbers": (0, 1, 2, 4)},
        {"frame_is_real": (True, True, True, False)},
        {"caption": "another"},
        {"label": "up"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_clip_gives_another_name(made: ModuleType, changed: dict[str, Any]) -> None:
    batch = made.made_batch(4)
    other = replace(batch, specs=(*batch.specs[:-1], replace(batch.specs[-1], **changed)))
    assert named([other]) != named([batch])


def test_another_crop_or_the_same_clips_in_other_slots_give_another_name(made: ModuleType) -> None:
    batch = made.made_batch(4)
    mirrored = replace(batch.specs[0], crop=replace(batch.specs[0].crop, flip=not batch.specs[0].crop.flip))
    assert named([replace(batch, specs=(mirrored, *batch.specs[1:]))]) != named([batch])
    assert named([replace(batch, specs=batch.specs[::-1])]) != named([batch])


def test_the_name_is_kept(made: ModuleType) -> None:
    """Ledgers of runs that ended years ago have it: change it never."""
    assert named([made.made_batch(4)]) == "3ddd467fda4552fd"
