"""What each mode picks, frame by frame, on videos whose timing can be counted on fingers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from cineray.index import index_video
from cineray.plan import (
    CatalogClip,
    Draws,
    MemoryCatalog,
    Plan,
    Recipe,
    SamplingSpec,
    made_video,
    sampler_of,
    stretch_of,
)
from cineray.plan.pace import Picked
from cineray.records import IndexedVideo, Place, VideoFile
from cineray.testing import stamp_video

TEN = made_video(10, ticks_per_frame=100, time_base=Fraction(1, 1000), gop=4)  # ten frames a second, keys 0 4 8
VARIABLE = made_video(0, pts=[0, 100, 150, 400, 900, 1000], ticks_per_frame=100, time_base=Fraction(1, 1000))


def pick(
    video: IndexedVideo, frames: int, *, clip: int = 0, window: int = 0, cuts: tuple[int, ...] = (), **how: Any
) -> Picked:
    table = video.frames
    draws = Draws(1, dataset=0, clip_number=clip, epoch=0, draw=0)
    span = stretch_of(video, table.start_pts, table.end_pts)
    return sampler_of(SamplingSpec(**how)).pick(span, frames, draws, cuts_pts=cuts, window=window)


def starts(video: IndexedVideo, frames: int, **how: Any) -> list[int]:
    """All frames that clips begin with, over many draws."""
    return sorted({pick(video, frames, clip=clip, **how).frame_numbers[0] for clip in range(300)})


def test_uniform_takes_the_middle_of_equal_parts() -> None:
    assert pick(TEN, 4, mode="uniform").frame_pts == [125, 375, 625, 875]
    assert pick(TEN, 4, mode="uniform").frame_numbers == [1, 3, 6, 8]
    assert pick(VARIABLE, 4, mode="uniform").frame_numbers == [1, 3, 3, 4]  # 137, 412, 687, 962 of 1100


def test_stride_counts_frames_and_tells_their_own_times() -> None:
    assert pick(TEN, 4, mode="stride", stride=3, start="first").frame_numbers == [0, 3, 6, 9]
    picked = pick(VARIABLE, 3, mode="stride", stride=2, start="first")
    assert (picked.frame_numbers, picked.frame_pts) == ([0, 2, 4], [0, 150, 900])


def test_middle_leaves_as_much_before_as_after() -> None:
    assert pick(TEN, 4, mode="stride", stride=1, start="middle").frame_numbers == [3, 4, 5, 6]


def test_fps_shows_what_is_on_screen_at_each_instant() -> None:
    """Five instants a second: 0, 200, 400, ... of a thousand ticks, on a video whose third frame stays for long."""
    picked = pick(VARIABLE, 6, mode="fps", fps="5", start="first")
    assert picked.frame_pts == [0, 200, 400, 600, 800, 1000]
    assert picked.frame_numbers == [0, 2, 3, 3, 3, 5]


def test_fps_on_a_film_in_ntsc_time_is_exact() -> None:
    """8 a second of 30000/1001 frames a second: instant n is the last tick at or before n / 8 s, after an hour too."""
    hour = made_video(110_000, ticks_per_frame=1001, time_base=Fraction(1, 30_000))
    picked = pick(hour, 4096, mode="fps", fps="8", start="first")
    assert picked.frame_pts == [n * 30_000 // 8 for n in range(4096)]
    assert picked.frame_numbers == [n * 30_000 // 8 // 1001 for n in range(4096)]
    film = pick(hour, 4096, mode="fps", fps="24000/1001", start="first")
    assert film.frame_pts == [n * 5_005 // 4 for n in range(4096)]
    assert film.frame_numbers == [n * 1001 * 30_000 // 24_000 // 1001 for n in range(4096)]


def test_a_random_clip_begins_anywhere_that_it_fits() -> None:
    assert starts(TEN, 4, mode="random") == [0, 1, 2, 3, 4, 5, 6]
    assert starts(TEN, 4, mode="random", stride=3) == [0]
    assert starts(TEN, 4, mode="random", fps="5") == [0, 1, 2, 3]  # 600 ticks from the first to the last instant


def test_every_place_is_as_likely_as_any_other() -> None:
    drawn = [pick(TEN, 4, clip=clip, mode="random").frame_numbers[0] for clip in range(3_500)]
    assert all(400 < drawn.count(place) < 600 for place in range(7))


def test_keyframes_begin_at_key_frames() -> None:
    assert starts(TEN, 2, mode="keyframes") == [0, 4, 8]
    assert starts(TEN, 4, mode="keyframes") == [0, 4]  # from frame 8 on there are only two
    assert starts(TEN, 2, mode="keyframes", fps="5") == [0, 4]  # an instant 200 ticks after frame 8 is past the end


def test_scenes_are_never_left() -> None:
    cuts = (300, 400)  # frames 0-2, 3, 4-9
    for clip in range(300):
        numbers = pick(TEN, 3, clip=clip, mode="scene", cuts=cuts).frame_numbers
        assert numbers[-1] < 3 or numbers[0] >= 4
    assert starts(TEN, 3, mode="scene", cuts=cuts) == [0, 4, 5, 6, 7]


def test_a_cut_between_two_frames_begins_with_the_next() -> None:
    """The frame on screen at the cut still shows the scene before it."""
    assert starts(TEN, 3, mode="scene", cuts=(350,)) == [0, 1, 4, 5, 6, 7]
    assert starts(TEN, 2, mode="scene", fps="10", cuts=(350,)) == [0, 1, 2, 4, 5, 6, 7, 8]


def test_all_windows_tile_a_video() -> None:
    tiles = [pick(TEN, 4, window=n, mode="all_windows", short_videos="pad") for n in range(3)]
    assert [tile.frame_numbers for tile in tiles] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 9, 9]]
    assert [sum(tile.is_real) for tile in tiles] == [4, 4, 2]
    overlap = [pick(TEN, 4, window=n, mode="all_windows", hop=3).frame_numbers for n in range(3)]
    assert overlap == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]


@pytest.mark.parametrize(("short", "windows"), [("skip", 2), ("pad", 3), ("loop", 3)])
def test_all_windows_are_counted_as_short_videos_are_treated(short: str, windows: int) -> None:
    sampling = SamplingSpec(mode="all_windows", frames=4, short_videos=short)
    row = CatalogClip(clip_id="c", video_id="v", start_pts=0, end_pts=1000)
    plan = Plan([MemoryCatalog([(row, TEN)])], Recipe(sampling=sampling, batch_size=windows), 1)
    assert plan.clips_per_epoch == windows
    assert sorted(spec.frame_numbers[0] for spec in plan.batch(0)) == [0, 4, 8][:windows]


def test_jitter_moves_each_frame_within_its_own_part() -> None:
    moved = [pick(TEN, 3, clip=clip, mode="stride", stride=3, start="first", jitter=1.0) for clip in range(300)]
    assert [sorted({picked.frame_numbers[at] for picked in moved}) for at in range(3)] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
    ]
    spread = [pick(TEN, 2, clip=clip, mode="uniform", jitter=1.0).frame_pts for clip in range(300)]
    assert all(first < 500 <= second < 1000 for first, second in spread)
    assert min(first for first, _ in spread) < 20
    assert max(second for _, second in spread) > 980


def test_a_span_takes_only_frames_that_begin_within_it() -> None:
    """[250, 650) of the ten: frames 3 to 6, though frame 2 is still on screen at 250."""
    span = stretch_of(TEN, 250, 650)
    assert (span.first, span.stop, span.start_pts, span.end_pts) == (3, 7, 300, 650)


def test_a_real_variable_rate_file_is_resampled_as_it_would_be_played(tmp_path: Path) -> None:
    """Written by FFmpeg, read by the index: the frames on screen at 10 instants a second, found by hand."""
    times = [0, 20, 45, 130, 150, 300, 310, 420, 500, 590]  # in 1/600 s
    stamp_video(tmp_path / "v.mkv", pts=times)
    video = index_video(VideoFile(name="v", place=Place(uri=str(tmp_path / "v.mkv"))))
    assert isinstance(video, IndexedVideo)
    picked = pick(video, 9, mode="fps", fps="10", start="first")
    by_hand = [max(n for n, begins in enumerate(times) if begins <= instant) for instant in range(0, 540, 60)]
    assert picked.frame_numbers == by_hand == [0, 2, 2, 4, 4, 5, 6, 7, 7]


@pytest.mark.parametrize("mode", ["uniform", "random", "keyframes", "scene", "all_windows"])
def test_real_videos_give_clips_in_bounds(media_dir: Path, mode: str) -> None:
    rows = []
    for path in sorted(media_dir.iterdir()):
        video = index_video(VideoFile(name=path.name, place=Place(uri=str(path))))
        if isinstance(video, IndexedVideo):
            ends = {"start_pts": video.frames.start_pts, "end_pts": video.frames.end_pts}
            rows.append((CatalogClip(clip_id=path.name, video_id=video.video_id, **ends), video))
    recipe = Recipe(sampling=SamplingSpec(mode=mode, frames=12, short_videos="pad"), batch_size=4)
    plan = Plan([MemoryCatalog(rows)], recipe, 1)
    specs = [spec for step in range(plan.first_step(2)) for spec in plan.batch(step)]
    assert {spec.clip_id for spec in specs} == {row.clip_id for row, _ in rows}
    for spec in specs:
        video = rows[spec.clip_number][1]
        assert video.frames.shown_at(list(spec.frame_pts)).tolist() == list(spec.frame_numbers)  # type: ignore[arg-type]
        turned = video.rotation_degrees % 180 != 0
        width, height = (video.height, video.width) if turned else (video.width, video.height)
        assert 0 <= spec.crop.left <= spec.crop.left + spec.crop.width <= width
        assert 0 <= spec.crop.top <= spec.crop.top + spec.crop.height <= height
