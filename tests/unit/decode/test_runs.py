"""Which packets are decoded for which frames: arithmetic on frame tables that are small enough to draw."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cineray.decode import Run, runs_for


def table(types: str, *, position: list[int] | None = None, size: int = 100):
    """A frame table from picture types in *decode* order with their display places: `I0 P3 B1 B2`."""
    from cineray.records import FrameTable

    words = types.split()
    shown = np.array([int(word[1:]) for word in words])
    order = np.argsort(shown)
    n = len(words)
    return FrameTable(
        pts=np.arange(n) * 10,
        duration=np.full(n, 10),
        decode_order=order,
        key=np.array([words[i][0] in "IR" for i in order]),
        disposable=np.array([words[i][0] == "b" for i in order]),
        position=np.array(position)[order] if position else np.arange(n)[order] * size,
        size_bytes=np.full(n, size),
    )


CLOSED = table("I0 P3 B1 B2 P6 B4 B5 I7 P10 B8 B9 P13 B11 B12")
OPEN = table("I0 P3 B1 B2 I6 B4 B5 P9 B7 B8")  # frames 4 and 5 are stored after the key frame 6, and shown before it


def test_a_key_frame_alone_is_a_run_of_one() -> None:
    assert runs_for(CLOSED, [7]) == [Run(key_frame=7, first=7, last=7, wanted=(7,))]


def test_a_frame_begins_at_its_group_and_ends_with_its_own_packet() -> None:
    assert runs_for(CLOSED, [1]) == [Run(key_frame=0, first=0, last=2, wanted=(1,))]


def test_two_frames_of_a_group_are_one_run() -> None:
    assert runs_for(CLOSED, [5, 1]) == [Run(key_frame=0, first=0, last=6, wanted=(1, 5))]


def test_a_key_frame_in_the_gap_is_jumped_to() -> None:
    assert runs_for(CLOSED, [1, 8]) == [
        Run(key_frame=0, first=0, last=2, wanted=(1,)),
        Run(key_frame=7, first=7, last=9, wanted=(8,)),
    ]


def test_a_frame_before_an_open_key_frame_is_served_by_the_one_before() -> None:
    assert runs_for(OPEN, [5]) == [Run(key_frame=0, first=0, last=6, wanted=(5,))]


def test_a_frame_after_an_open_key_frame_is_served_by_it() -> None:
    assert runs_for(OPEN, [7]) == [Run(key_frame=6, first=4, last=8, wanted=(7,))]


def test_runs_that_begin_inside_each_other_are_one() -> None:
    assert runs_for(OPEN, [5, 6]) == [Run(key_frame=0, first=0, last=6, wanted=(5, 6))]


def test_what_lies_before_the_first_key_frame_begins_at_the_first_packet() -> None:
    cut = table("P0 P1 I2 P3")
    assert runs_for(cut, [1, 3]) == [
        Run(key_frame=-1, first=0, last=1, wanted=(1,)),
        Run(key_frame=2, first=2, last=3, wanted=(3,)),
    ]


def test_one_key_frame_further_back_when_asked() -> None:
    assert runs_for(CLOSED, [8], keys_back=1) == [Run(key_frame=0, first=0, last=9, wanted=(8,))]
    assert runs_for(CLOSED, [1], keys_back=1) == [Run(key_frame=-1, first=0, last=2, wanted=(1,))]


def test_a_frame_that_the_video_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="frames 3 to 14 are asked of a video that has 14"):
        runs_for(CLOSED, [3, 14])


@given(st.sets(st.integers(0, 13), min_size=1), st.sampled_from([CLOSED, OPEN]))
def test_every_wanted_frame_lies_in_exactly_one_run_and_runs_do_not_meet(wanted: set[int], frames) -> None:
    wanted = {n for n in wanted if n < len(frames)} or {0}
    runs = runs_for(frames, wanted)
    assert sorted(n for run in runs for n in run.wanted) == sorted(wanted)
    assert all(before.last < after.first for before, after in pairwise(runs))
    for run in runs:
        places = [int(frames.decode_order[n]) for n in run.wanted]
        assert run.first <= min(places)
        assert run.last == max(places)
        assert run.key_frame <= min(run.wanted)
