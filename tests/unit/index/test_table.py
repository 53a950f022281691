"""From packets to frames: order, durations, equal times, and whether the rate varies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cineray.index.decoded import BestEffort, filled_up
from cineray.index.packets import NO_TIME, Packets
from cineray.index.reasons import Unfit
from cineray.index.table import frame_table, rate_varies


def packets(pts: list[int], *, duration: int = 0, hidden: tuple[int, ...] = ()) -> Packets:
    n = len(pts)
    shown = np.ones(n, bool)
    shown[list(hidden)] = False
    return Packets(
        pts=np.array(pts, np.int64), dts=np.full(n, NO_TIME), duration=np.full(n, duration, np.int64),
        position=np.arange(n) * 100, size=np.full(n, 10), key=np.arange(n) == 0, shown=shown, disposable=np.zeros(n,
        bool),
    )  # fmt: skip


def test_frames_are_in_the_order_in_which_they_are_shown() -> None:
    table = frame_table(packets([0, 30, 10, 20], duration=10))
    assert table.pts.tolist() == [0, 10, 20, 30]
    assert table.decode_order.tolist() == [0, 2, 3, 1]
    assert table.position.tolist() == [0, 200, 300, 100]
    assert table.key.tolist() == [True, False, False, False]


def test_hidden_packets_are_counted_and_left_out() -> None:
    table = frame_table(packets([-20, -10, 0, 10], duration=10, hidden=(0, 1)))
    assert (table.pts.tolist(), table.hidden_packets) == ([0, 10], 2)


def test_a_missing_duration_lasts_until_the_next_frame_and_the_last_as_the_median() -> None:
    assert frame_table(packets([0, 10, 20, 50])).duration.tolist() == [10, 10, 30, 10]
    assert frame_table(packets([7])).duration.tolist() == [1]


def test_of_frames_at_one_instant_the_first_decoded_is_kept() -> None:
    table = frame_table(packets([0, 10, 10, 20], duration=10))
    assert table.pts.tolist() == [0, 10, 20]
    assert table.decode_order.tolist() == [0, 1, 3]
    assert table.hidden_packets == 1


def test_no_frames_and_no_times_are_reasons() -> None:
    with pytest.raises(Unfit, match="none of the 2 packets") as unfit:
        frame_table(packets([0, 1], hidden=(0, 1)))
    assert unfit.value.reason == "no_frames"
    with pytest.raises(Unfit) as unfit:
        frame_table(packets([0, NO_TIME]))
    assert unfit.value.reason == "bad_timestamps"


def test_times_that_jump_back_further_than_codecs_reorder_are_a_reason() -> None:
    frame_table(packets([i ^ 15 for i in range(96)]))
    with pytest.raises(Unfit, match="jump back"):
        frame_table(packets([*range(100), *range(40, 140)]))


@given(st.integers(1, 10**6), st.integers(2, 300), st.integers(-(10**9), 10**9))
def test_equal_steps_are_one_rate(step: int, n: int, start: int) -> None:
    assert not rate_varies(start + step * np.arange(n, dtype=np.int64))


@given(st.integers(4_000, 10**6), st.integers(3, 300), st.integers(0, 999))
def test_a_constant_rate_rounded_to_ticks_is_one_rate(step_in_thousandths: int, n: int, offset: int) -> None:
    assert not rate_varies((offset + step_in_thousandths * np.arange(n, dtype=np.int64)) // 1000)


@given(st.integers(1, 10**6), st.integers(4, 300), st.data())
def test_a_dropped_frame_makes_the_rate_vary(step: int, n: int, data: st.DataObject) -> None:
    dropped = data.draw(st.integers(1, n - 2))
    assert rate_varies(step * np.delete(np.arange(n, dtype=np.int64), dropped))


def test_times_from_a_decoder_follow_pts_unless_those_are_caught_out_more_often() -> None:
    clock = BestEffort()
    assert [clock.time(pts, dts) for pts, dts in [(None, 1), (2, 2), (3, 3), (None, 4), (5, None)]] == [1, 2, 3, 4, 5]
    clock = BestEffort()
    assert [clock.time(7, dts) for dts in (1, 2, 3)] == [7, 2, 3]
    assert BestEffort().time(None, None) == NO_TIME


def test_frames_without_a_time_are_put_at_the_distance_of_the_others() -> None:
    none = NO_TIME
    assert filled_up(np.array([2, 3, 4, none, none]), 9).tolist() == [2, 3, 4, 5, 6]
    assert filled_up(np.array([none, 20, none, 40]), 9).tolist() == [10, 20, 30, 40]
    assert filled_up(np.array([none, none, none]), 9).tolist() == [0, 9, 18]
