"""Which bytes are asked for, from the positions in the index alone."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cineray.decode import ranges_for
from cineray.records import FrameTable, IndexedVideo


def video(position: list[int], size: list[int], keys: set[int]) -> IndexedVideo:
    """Frames stored in the order in which they are shown, at these places."""
    n = len(position)
    frames = FrameTable(
        pts=np.arange(n),
        duration=np.ones(n),
        decode_order=np.arange(n),
        key=np.array([i in keys for i in range(n)]),
        disposable=np.zeros(n),
        position=np.array(position),
        size_bytes=np.array(size),
    )
    unknown = dict.fromkeys(
        ("profile", "pixel_format", "color_range", "color_space", "color_primaries", "color_transfer"), "unknown"
    )
    return IndexedVideo(
        video_id="v", content_hash="h", size_bytes=10**9, version_tag="", container="mp4", codec="h264",
        stream_index=0, width=64, height=48, rotation_degrees=0, sample_aspect_ratio=Fraction(1), bit_depth=8,
        time_base=Fraction(1, 25), average_rate=None, nominal_rate=None, variable_rate=False, frames=frames, **unknown,
    )  # fmt: skip


def test_a_run_is_one_range_with_the_sound_that_lies_between_its_packets() -> None:
    packed = video([1000, 1600, 2200, 2800], [500] * 4, {0})
    assert ranges_for(packed, [2]) == [(1000, 2700)]


def test_runs_far_apart_are_ranges_of_their_own() -> None:
    far = video([0, 500, 10**6, 10**6 + 500], [500] * 4, {0, 2})
    assert ranges_for(far, [1, 3]) == [(0, 1000), (10**6, 10**6 + 1000)]


def test_runs_close_together_are_read_in_one_piece() -> None:
    near = video([0, 500, 1000, 40_000], [500] * 4, {0, 3})
    assert ranges_for(near, [1, 3]) == [(0, 40_500)]
    assert ranges_for(near, [1, 3], gap_bytes=1000) == [(0, 1000), (40_000, 40_500)]


def test_unknown_positions_give_no_ranges() -> None:
    assert ranges_for(video([-1, -1], [500, 500], {0}), [1]) == []


def test_no_frames_need_no_bytes() -> None:
    assert ranges_for(video([0, 500], [500, 500], {0}), []) == []


@given(st.lists(st.integers(0, 100_000), min_size=2, max_size=30), st.integers(0, 200_000))
def test_gaps_never_cost_more_than_the_packets_and_one_gap(gaps: list[int], gap_bytes: int) -> None:
    """Each packet is a key frame, so that only the wanted ones are needed."""
    starts = np.cumsum([0, *[gap + 100 for gap in gaps]]).tolist()
    scattered = video(starts, [100] * len(starts), set(range(len(starts))))
    wanted = list(range(0, len(starts), 2))
    ranges = ranges_for(scattered, wanted, gap_bytes=gap_bytes)
    read = sum(stop - start for start, stop in ranges)
    assert read <= 2 * 100 * len(wanted) + gap_bytes
    for frame in wanted:
        assert any(start <= starts[frame] and starts[frame] + 100 <= stop for start, stop in ranges)
