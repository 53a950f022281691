"""Which frames a standardised video has, when each is shown, and the way back to the source, in integers."""

from __future__ import annotations

import zlib
from fractions import Fraction

import numpy as np
import pytest

from cineray.curate.standardise.times import Moved, SourceTimes, times_of
from cineray.errors import LakeError, UsageError
from cineray.plan import made_video
from cineray.records import FrameTable, IndexedVideo


def video(pts: list[int], *, last: int = 10, base: Fraction = Fraction(1, 600)) -> IndexedVideo:
    """A video whose frames are shown at these times."""
    from dataclasses import replace

    times = np.array(pts)
    count = len(pts)
    frames = FrameTable(
        pts=times,
        duration=np.append(np.diff(times), last),
        decode_order=np.arange(count),
        key=np.arange(count) == 0,
        disposable=np.zeros(count, bool),
        position=np.full(count, -1),
        size_bytes=np.ones(count),
    )
    return replace(made_video(count), frames=frames, time_base=base)


def test_kept_times_are_the_sources_own_from_zero() -> None:
    times = times_of(video([300, 325, 350, 500], last=25), None)
    assert times.pts_T.tolist() == [0, 25, 50, 200]
    assert times.frame_numbers_T.tolist() == [0, 1, 2, 3]
    assert (times.end_pts, times.time_base, times.start_seconds) == (225, Fraction(1, 600), Fraction(1, 2))


def test_a_time_base_that_is_no_unit_fraction_keeps_every_instant() -> None:
    source = video([0, 1, 2], last=1, base=Fraction(1001, 30000))
    times = times_of(source, None)
    assert times.time_base == Fraction(1, 30000)
    assert [at * times.time_base for at in times.pts_T.tolist()] == [n * Fraction(1001, 30000) for n in range(3)]


def test_a_constant_rate_shows_at_each_instant_the_frame_that_is_on_screen_then() -> None:
    """Every 24 ticks, against frames at 0, 25 (a tick too late for the second instant), 60 (a long one) and 180."""
    times = times_of(video([0, 25, 60, 180], last=30), Fraction(25))
    assert [at * times.time_base for at in times.pts_T.tolist()] == [Fraction(n, 25) for n in range(9)]
    assert times.frame_numbers_T.tolist() == [0, 0, 1, 2, 2, 2, 2, 2, 3]
    assert times.end_pts * times.time_base == Fraction(210, 600)


@pytest.mark.parametrize("rate", ["24", "30000/1001", "8"])
def test_a_frame_of_a_constant_rate_and_a_tick_of_the_source_are_whole_ticks(rate: str) -> None:
    times = times_of(video(list(range(0, 600, 20))), Fraction(rate))
    assert (Fraction(1, 600) / times.time_base).denominator == 1
    assert np.diff(times.pts_T).min() == np.diff(times.pts_T).max() == 1 / Fraction(rate) / times.time_base


def test_a_rate_that_no_mp4_holds_is_refused() -> None:
    with pytest.raises(UsageError, match="which MP4 cannot hold"):
        times_of(video([0, 1]), Fraction(2**32 + 1, 2**28))


def test_the_way_back_names_the_sources_frame_and_time_of_every_new_frame() -> None:
    source = video([0, 30, 60, 180], last=30)
    way = SourceTimes.of(source, times_of(source, Fraction(25)), "abc")
    again = SourceTimes.from_json(way.to_json())
    assert again.pts_T.tolist() == [0, 0, 30, 60, 60, 60, 60, 60, 180]
    assert again.frame_numbers_T.tolist() == [0, 0, 1, 2, 2, 2, 2, 2, 3]
    assert (again.video_id, again.time_base, again.encoding) == (source.video_id, Fraction(1, 600), "abc")


def test_an_even_rate_is_kept_as_one_run() -> None:
    source = video(list(range(512, 512 * 1001, 512)), base=Fraction(1, 12800))
    told = SourceTimes.of(source, times_of(source, None), "").to_json()
    assert '"pts":[[512,512,1000]]' in told
    assert len(told) < 200


def test_uneven_times_come_back_as_they_were() -> None:
    pts = np.cumsum(np.random.default_rng(1).integers(1, 4, 500)).tolist()
    source = video(pts)
    assert SourceTimes.from_json(SourceTimes.of(source, times_of(source, None), "").to_json()).pts_T.tolist() == pts


def test_a_damaged_way_back_is_refused() -> None:
    with pytest.raises(LakeError, match="source_times is damaged"):
        SourceTimes.from_json('{"video_id": "a", "time_base": "1/600", "frames": [[0, 1, 3]], "pts": [[0, 1, 2]]}')


def moved(source: IndexedVideo, rate: Fraction | None) -> Moved:
    times = times_of(source, rate)
    return Moved(
        video_id="new",
        source_start_pts=source.frames.start_pts,
        source_end_pts=source.frames.end_pts,
        source_base=source.time_base,
        new_base=times.time_base,
        new_end_pts=times.end_pts,
        source_size=(640, 480),
        new_size=(64, 48),
        packed_times=zlib.compress(SourceTimes.of(source, times, "").to_json().encode()),
    )


def test_spans_move_with_the_start_and_end_with_the_video() -> None:
    here = moved(video([300, 325, 350, 500], last=25), None)
    assert here.span(300, 525) == (0, 225)
    assert here.span(331, 470) == (31, 170)
    assert here.span(0, 9000) == (0, 225)
    assert here.span(525, 600) == (224, 225)


def test_frames_move_to_the_first_new_frame_that_shows_them() -> None:
    source = video([0, 30, 60, 180], last=30)
    assert [moved(source, None).frame(n) for n in (0, 3, 4)] == [0, 3, None]
    assert [moved(source, Fraction(25)).frame(n) for n in range(4)] == [0, 2, 3, 8]
    assert [moved(source, Fraction(10)).frame(n) for n in range(4)] == [0, None, 1, 3]
