"""Made videos are what they say: decoded again, their times, motion, captions and numbers are those that we made."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cineray.errors import CinerayError, UsageError
from cineray.testing import MadeVideo, broken_videos, make_shapes, read_stamp, stamp_video
from cineray.testing.shape_facts import COLOURS, DIRECTIONS, SHAPES, SPEEDS, WORLDS, ShapeFacts
from cineray.testing.shapes import draw, write_splits, write_truth


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[MadeVideo]:
    return make_shapes(tmp_path_factory.mktemp("shapes"), videos=8, seed=5)


def decoded(path: Path) -> tuple[Fraction, list[int], list[np.ndarray]]:
    """Time base, timestamps and RGB pictures, by a plain sequential decode."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        time_base = container.streams.video[0].time_base
    assert time_base is not None
    return time_base, [frame.pts for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames]


def centre_xy(picture: np.ndarray) -> np.ndarray:
    """The middle of the bright shape as two angles' means, because shapes wrap round the borders; in frame widths."""
    light = picture.max(axis=2).astype(float)
    light = np.where(light > 90, light, 0)
    turns = np.exp(2j * np.pi * (np.arange(len(light)) + 0.5) / len(light))
    return np.angle([(light.sum(axis=axis) * turns).sum() for axis in (0, 1)]) / (2 * np.pi)


def test_frames_lie_exactly_at_the_times_that_were_asked_for(made: list[MadeVideo]) -> None:
    for video in made:
        time_base, pts, _ = decoded(video.path)
        assert (time_base, tuple(pts)) == (video.time_base, video.pts)


def test_every_fourth_video_has_a_variable_rate_and_the_others_a_constant_one(made: list[MadeVideo]) -> None:
    steps = [len(set(np.diff(video.pts))) for video in made]
    assert [count > 1 for count in steps] == [video.variable_rate for video in made] == ([False] * 3 + [True]) * 2


def test_decoded_pictures_look_like_the_drawn_ones(made: list[MadeVideo]) -> None:
    _, _, pictures = decoded(made[0].path)
    drawn = np.stack(list(draw(made[0], seed=5))).astype(float)
    assert np.abs(np.stack(pictures) - drawn).mean() < 6  # 4:2:0 colour and crf 20 smear the edges, no more


def test_shapes_move_in_the_direction_and_at_the_speed_of_their_caption(made: list[MadeVideo]) -> None:
    """Measured on decoded pixels in true time, so a dropped frame makes a wider step and not a slower shape."""
    for video in made:
        _, pts, pictures = decoded(video.path)
        steps = np.diff([centre_xy(picture) for picture in pictures], axis=0)
        steps = (steps + 0.5) % 1.0 - 0.5
        measured = steps.sum(axis=0) / float((pts[-1] - pts[0]) * video.time_base)
        aim = np.array(DIRECTIONS[video.direction][:2])
        wanted = aim / np.linalg.norm(aim) * SPEEDS[video.speed]
        assert np.allclose(measured, wanted, atol=0.04), video.caption


def test_a_shape_whose_way_is_short_enough_stays_inside_the_picture_for_the_whole_video(tmp_path: Path) -> None:
    videos = make_shapes(tmp_path, videos=32, frames=24, size_px=64, seed=3)
    assert {video.speed for video in videos} == {"slow", "fast"}
    for video in videos:
        border = np.concatenate([np.r_[p[0], p[-1], p[:, 0], p[:, -1]] for p in draw(video, seed=3)])
        assert (border == border[0]).all(), video.path.name  # nothing but the ground


def test_a_way_that_is_too_long_leaves_at_one_side_and_comes_in_at_the_other(tmp_path: Path) -> None:
    fast = [video for video in make_shapes(tmp_path, videos=8, frames=48, size_px=32) if video.speed == "fast"]
    for video in fast:
        middles = np.array([centre_xy(picture) for picture in draw(video, seed=0)])
        assert np.abs(np.diff(middles, axis=0)).max() > 0.5, video.path.name


def test_in_laps_a_disk_looked_at_every_eighth_frame_is_here_and_there_and_every_second_one_shows_where_it_goes(
    tmp_path: Path,
) -> None:
    """Half a lap forwards is half a lap backwards."""
    made = make_shapes(tmp_path, videos=4, world=WORLDS["laps"], frames=40, rate=20, size_px=32, variable_rate_every=0)
    assert [video.direction for video in made] == ["left", "right"] * 2
    for video in made:
        _, _, pictures = decoded(video.path)
        place = np.array([centre_xy(picture)[0] for picture in pictures])
        away = {stride: (np.diff(place[::stride]) + 0.5) % 1.0 - 0.5 for stride in (2, 8, 16)}
        forwards = DIRECTIONS[video.direction][0]
        assert np.allclose(away[2], forwards / 8, atol=0.02)
        assert np.allclose(np.abs(away[8]), 1 / 2, atol=0.02)
        assert np.allclose(away[16], 0, atol=0.02)


def test_directions_mean_what_they_say_on_a_screen_whose_rows_grow_downwards() -> None:
    for name, (right, down, words) in DIRECTIONS.items():
        parts = {1: "right", -1: "left"}.get(right), {1: "down", -1: "up"}.get(down)
        assert set(name.split("-")) == {part for part in parts if part}
        assert all(part in words for part in name.split("-"))


def test_the_eight_directions_come_in_turn_as_folders_with_captions_beside_the_videos(made: list[MadeVideo]) -> None:
    assert [video.path.parent.name for video in made] == list(DIRECTIONS)
    for video in made:
        words = f"a {video.colour} {video.shape} moves {DIRECTIONS[video.direction][2]}, {video.speed}"
        assert video.path.with_suffix(".txt").read_text() == words + "\n" == video.caption + "\n"
        assert video.colour in COLOURS


def test_sixteen_combinations_are_held_out_but_no_look_no_way_and_no_pair_of_them() -> None:
    told = [
        ShapeFacts(direction=direction, speed="slow", shape=shape, colour=colour)
        for direction, shape, colour in itertools.product(DIRECTIONS, SHAPES, COLOURS)
    ]
    held, trained = [one for one in told if one.held_out], [one for one in told if not one.held_out]
    assert Counter(one.direction for one in held) == dict.fromkeys(DIRECTIONS, 2)
    for first, second in itertools.combinations(("direction", "shape", "colour"), 2):
        pairs = {(getattr(one, first), getattr(one, second)) for one in told}
        assert {(getattr(one, first), getattr(one, second)) for one in trained} == pairs


def test_splits_and_truth_are_written_as_an_ingest_and_an_annotation_read_them(
    tmp_path: Path, made: list[MadeVideo]
) -> None:
    folder = made[0].path.parents[1]
    rows = write_splits(folder, made).read_text().splitlines()
    (folder / "metadata.csv").unlink()
    assert rows[0] == "file_name,split"
    assert [row.split(",") for row in rows[1:]] == [
        [f"{video.direction}/{video.path.name}", "validation" if video.held_out else "train"] for video in made
    ]
    truth = [json.loads(line) for line in write_truth(tmp_path / "truth.jsonl", made).read_text().splitlines()]
    assert [row["uri"] for row in truth] == [str(video.path) for video in made]
    first = made[0]
    assert truth[0]["value"] == {
        "direction": "right",
        "speed": first.speed,
        "shape": first.shape,
        "colour": first.colour,
        "speed_widths_per_second": SPEEDS[first.speed],
        "held_out": first.held_out,
        "wraps": first.speed == "fast",  # in two seconds it goes further than the frame is wide
    }


def test_validation_has_all_held_out_videos_and_some_of_every_direction(tmp_path: Path) -> None:
    videos = make_shapes(tmp_path, videos=96, frames=2, size_px=16)
    judged = [video for video in videos if video.split == "validation"]
    assert {video.number for video in videos if video.held_out} < {video.number for video in judged}
    assert {video.direction for video in judged if not video.held_out} == set(DIRECTIONS)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, made: list[MadeVideo]) -> None:
    again = make_shapes(tmp_path / "again", videos=2, seed=5)
    other = make_shapes(tmp_path / "other", videos=2, seed=6)
    assert [video.path.read_bytes() for video in again] == [video.path.read_bytes() for video in made[:2]]
    assert {video.path.read_bytes() for video in other}.isdisjoint(video.path.read_bytes() for video in made)


def test_key_frames_and_b_frames_are_as_asked(tmp_path: Path) -> None:
    (video,) = make_shapes(tmp_path, videos=1, gop=6, b_frames=3)
    with av.open(str(video.path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    keys = [packet.pts // 25 for packet in packets if packet.is_keyframe]
    assert all(b - a <= 6 for a, b in itertools.pairwise(keys))
    assert [packet.pts for packet in packets] != sorted(video.pts)  # decode order differs: there are B-frames


def test_a_rate_without_exact_ticks_is_refused() -> None:
    with pytest.raises(UsageError, match="rate is 29 frames a second; it must divide 600"):
        make_shapes("unused", videos=1, rate=29)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts"])
def test_a_stamped_video_gives_back_each_frames_number(tmp_path: Path, name: str) -> None:
    times = stamp_video(tmp_path / name, frames=40)
    time_base, pts, pictures = decoded(tmp_path / name)
    assert [read_stamp(picture) for picture in pictures] == list(range(40))
    seconds = [float(time_base * (at - pts[0])) for at in pts]
    assert seconds == pytest.approx([at / 600 for at in times], abs=float(time_base))


def test_stamps_survive_a_coarse_codec_and_hundreds_of_irregular_times(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(0).integers(1, 90, 700)).tolist()
    codec = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "40", "-pix_fmt", "yuv420p"]
    assert stamp_video(tmp_path / "a.mp4", pts=times, codec=codec) == tuple(times)
    _, pts, pictures = decoded(tmp_path / "a.mp4")
    assert pts == times
    assert [read_stamp(picture) for picture in pictures] == list(range(700))


def test_an_encoder_that_ffmpeg_does_not_have_is_an_error_in_ffmpegs_words(tmp_path: Path) -> None:
    with pytest.raises(CinerayError, match=r"ffmpeg could not make .*Unknown encoder 'nonsense'"):
        stamp_video(tmp_path / "a.mp4", codec=["-c:v", "nonsense"])


def test_broken_videos_are_the_four_kinds_that_piles_hold(tmp_path: Path, ffmpeg: Callable[..., None]) -> None:
    broken = broken_videos(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in broken)
    assert set(broken.values()) == {"truncated", "empty", "not_video", "lfs_pointer"}
    for path in broken:
        with pytest.raises(AssertionError):
            ffmpeg("-xerror", "-i", path, "-f", "null", "-")
