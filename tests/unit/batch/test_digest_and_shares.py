"""A step's digest is the same for every number of ranks, and another for any other content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cineray.batch import batch_digest, concat, split, take_slots
from cineray.errors import UsageError
from cineray.records import Batch, Substitution

BatchOf = Callable[..., Batch]


def test_the_digest_of_a_known_batch_is_pinned(batch_of: BatchOf) -> None:
    """Update it only with the name of the format: recorded runs are compared by it."""
    assert batch_digest([batch_of(0, 4, 4)]) == "22f3073332f7d1bc73c53203993d5229cb9fa254e88298a2828621f5a1a82aa0"


def test_the_digest_is_the_same_for_every_number_of_ranks_in_any_order(batch_of: BatchOf) -> None:
    whole = batch_of(0, 7, 7)
    expected = batch_digest([whole])
    for world in range(1, 8):
        assert batch_digest(split(whole, world)[::-1]) == expected


def test_shares_made_by_ranks_of_their_own_give_the_digest_of_the_whole(batch_of: BatchOf) -> None:
    assert batch_digest([batch_of(0, 2, 5), batch_of(2, 5, 5)]) == batch_digest([batch_of(0, 5, 5)])


@pytest.mark.parametrize("what", ["pixel", "mask", "time", "start", "caption", "no caption", "label", "order"])
def test_any_other_content_has_another_digest(what: str, batch_of: BatchOf) -> None:
    batch, other = batch_of(0, 3, 3), batch_of(0, 3, 3)
    if what == "pixel":
        other.frames_BTHWC[2, 1, 3, 5, 2] += 1
    elif what == "mask":
        other.frame_is_real_BT[1, 1] = False
    elif what == "time":
        other.seconds_BT[0, 2] = np.nextafter(other.seconds_BT[0, 2], 1)
    elif what == "start":
        other.start_seconds_B[1] += 1
    elif what in ("caption", "no caption", "label"):
        text = {"caption": {"caption": "other"}, "no caption": {"caption": None}, "label": {"label": "other"}}[what]
        other = replace(other, specs=(replace(other.specs[0], **text), *other.specs[1:]))
    else:
        other = replace(
            other, **{n: getattr(other, n)[::-1] for n in ("frames_BTHWC", "seconds_BT", "start_seconds_B")}
        )
    assert batch_digest([other]) != batch_digest([batch])


def test_the_content_alone_counts_not_the_step_nor_the_memory_layout(batch_of: BatchOf) -> None:
    batch = batch_of(0, 3, 3)
    strided = np.empty((3, 3, 4, 12, 3), np.uint8)[:, :, :, ::2]
    strided[...] = batch.frames_BTHWC
    assert batch_digest([replace(batch, step=99, frames_BTHWC=strided)]) == batch_digest([batch])


def test_a_share_that_is_missing_or_doubled_is_named(batch_of: BatchOf) -> None:
    first, second = split(batch_of(0, 4, 4), 2)
    with pytest.raises(UsageError, match="step 7 has slots 0 to 3, and these 1 shares hold 2"):
        batch_digest([first])
    with pytest.raises(UsageError, match="hold 4"):
        batch_digest([first, first])
    with pytest.raises(UsageError, match="shares of one step"):
        batch_digest([first, replace(second, step=8)])


def test_split_gives_each_rank_the_slots_that_the_plan_gives_it(batch_of: BatchOf) -> None:
    shares = split(batch_of(0, 7, 7), 3)
    assert [(share.first_slot, len(share.specs)) for share in shares] == [(0, 2), (2, 2), (4, 3)]
    assert [share.frames_BTHWC[0, 0, 0, 0, 0] for share in shares] == [0, 20, 40]
    assert sum(share.frames_decoded for share in shares) == 35


def test_shares_are_views(batch_of: BatchOf) -> None:
    batch = batch_of(0, 4, 4)
    assert all(np.shares_memory(share.frames_BTHWC, batch.frames_BTHWC) for share in split(batch, 2))


def test_substitutions_go_with_their_slots(batch_of: BatchOf) -> None:
    told = tuple(
        Substitution(step=7, slot=slot, wanted_clip_id="a", used_clip_id="b", reason="corrupt", detail="")
        for slot in (1, 3)
    )
    shares = split(replace(batch_of(0, 4, 4), substitutions=told), 2)
    assert [[s.slot for s in share.substitutions] for share in shares] == [[1], [3]]
    assert concat(shares).substitutions == told


def test_concat_undoes_split(batch_of: BatchOf) -> None:
    whole = batch_of(0, 5, 5, padded=1)
    again = concat(split(whole, 3)[::-1])
    for name in ("frames_BTHWC", "frame_is_real_BT", "seconds_BT", "start_seconds_B"):
        assert np.array_equal(getattr(again, name), getattr(whole, name))
    assert (again.specs, again.first_slot, again.frames_decoded) == (whole.specs, 0, whole.frames_decoded)


def test_what_cannot_be_taken_or_joined_is_refused(batch_of: BatchOf) -> None:
    whole = batch_of(0, 4, 4)
    with pytest.raises(UsageError, match="slots 3 to 5 are asked"):
        take_slots(whole, 3, 5)
    with pytest.raises(UsageError, match="cannot be split among 5 ranks"):
        split(whole, 5)
    with pytest.raises(UsageError, match="slot 1 of step 7 is missing"):
        concat([take_slots(whole, 0, 1), take_slots(whole, 2, 4)])
    with pytest.raises(UsageError, match="no batches"):
        concat([])
