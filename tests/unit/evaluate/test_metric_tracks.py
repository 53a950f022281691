"""Tracks and motion: the object is found where it is, to a fraction of a pixel, whatever the ground."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cineray.evaluate.clip_set import ClipSet
from cineray.evaluate.motion import DIRECTIONS, DirectionAccuracy, MotionOk, OneObject, SpeedError, TrajectoryError
from cineray.evaluate.tracks import tracks_of
from cineray.testing import shape_facts
from cineray.testing.made_clips import made_clips


def disk(centres_TX: np.ndarray, *, ground: tuple[int, int, int], colour: tuple[int, int, int]) -> np.ndarray:
    """One clip of 32 x 32 px; the disk comes round at the edges."""
    grid = np.arange(32)
    x, y = centres_TX[:, 0, None, None], centres_TX[:, 1, None, None]
    dx = np.abs((grid[None, None, :] - x + 16) % 32 - 16)
    dy = np.abs((grid[None, :, None] - y + 16) % 32 - 16)
    cover = np.clip(5.5 - np.hypot(dx, dy), 0, 1)[..., None]
    return np.rint(cover * np.array(colour) + (1 - cover) * np.array(ground)).astype(np.uint8)


@pytest.mark.parametrize("ground", [(0, 0, 0), (18, 20, 28), (120, 90, 60), (250, 250, 250)])
def test_centres_are_right_to_a_twentieth_of_a_pixel_on_any_plain_ground(ground: tuple[int, int, int]) -> None:
    centres = np.array([[10.0, 11.0], [10.3, 12.7], [11.25, 14.5], [12.9, 15.1]])
    frames = disk(centres, ground=ground, colour=(40, 200, 70))[None]
    tracks = tracks_of(frames)
    np.testing.assert_allclose(tracks.centre_NTX[0], centres, atol=0.05)
    np.testing.assert_allclose(tracks.share_NT, 1.0)
    np.testing.assert_allclose(tracks.spread_NT, 1.0, atol=0.15)


def test_a_path_goes_on_beyond_the_edge_when_the_object_comes_round() -> None:
    """From the left half through the right edge and on."""
    centres = np.stack([10.0 + 2.5 * np.arange(12), np.full(12, 12.0)], axis=1)
    tracks = tracks_of(disk(centres, ground=(0, 0, 0), colour=(255, 255, 255))[None])
    np.testing.assert_allclose(np.diff(tracks.centre_NTX[0, :, 0]), 2.5, atol=0.05)
    np.testing.assert_allclose(tracks.centre_NTX[0, :, 1], 12.0, atol=0.05)
    np.testing.assert_allclose(tracks.share_NT, 1.0)


def test_what_comes_round_though_nothing_does_in_its_world_is_not_one_object_and_not_on_its_path() -> None:
    """The same pixels, told of a world that wraps, of one that does not, and of one of which nothing is known."""
    centres = np.stack([14.0 + 2.5 * np.arange(8), np.full(8, 16.0)], axis=1)
    across = disk(centres, ground=(0, 0, 0), colour=(255, 255, 255))[None]
    inside = disk(centres - [8, 0], ground=(0, 0, 0), colour=(255, 255, 255))[None]
    told = {"direction": "right", "speed_widths_per_second": 2.5 * 8 / 32}
    worlds: list[dict[str, object]] = [{"wraps": True}, {"wraps": False}, {}, {"wraps": False}]
    clips = replace(
        made_clips(4),
        frames_NTHWC=np.concatenate([across, across, across, inside]),
        facts=tuple({**told, **world} for world in worlds),
    )
    assert OneObject().rows(clips)[:, 0].tolist() == [1, 0, 1, 1]
    assert MotionOk().rows(clips)[:, 0].tolist() == [1, 0, 1, 1]


def test_haze_and_specks_elsewhere_do_not_pull_the_centre() -> None:
    centres = np.stack([8.0 + 1.5 * np.arange(8), np.full(8, 10.0)], axis=1)
    frames = disk(centres, ground=(10, 10, 10), colour=(240, 40, 40)).astype(int)
    frames += np.random.default_rng(0).integers(-8, 9, frames.shape)
    frames[:, 27:30, 27:30] = 120
    tracks = tracks_of(np.clip(frames, 0, 255).astype(np.uint8)[None])
    np.testing.assert_allclose(tracks.centre_NTX[0], centres, atol=0.1)
    assert (tracks.share_NT < 1).all()


def test_where_nothing_stands_out_there_is_no_object() -> None:
    tracks = tracks_of(np.full((1, 4, 32, 32, 3), 77, dtype=np.uint8))
    assert np.isnan(tracks.centre_NTX).all()


def test_real_clips_pass_as_the_lab_measured_them() -> None:
    """Direction 1.00, speed and path nearly exact: the ceiling that samples are read against."""
    clips = made_clips(64)
    said = {
        metric.name: metric.score(metric.measure(clips))
        for metric in (DirectionAccuracy(), SpeedError(), TrajectoryError(), OneObject(), MotionOk())
    }
    assert said["direction_accuracy"].value == said["one_object"].value == said["motion_ok"].value == 1.0
    assert said["direction_accuracy"].low == pytest.approx(0.944, abs=1e-3)
    assert said["speed_error"].value < 0.01  # type: ignore[operator]
    assert said["trajectory_error"].value < 0.05  # type: ignore[operator]


def test_uneven_frames_are_judged_in_real_time() -> None:
    """Frames 0, 1, 4, 5, 6, 9 of a clip, at their own times, move as all of them do; at even times they would not."""
    clips = made_clips(16, frames=10)
    kept = [0, 1, 4, 5, 6, 9]
    uneven = replace(clips, frames_NTHWC=clips.frames_NTHWC[:, kept], seconds_NT=clips.seconds_NT[:, kept])
    told_even = replace(uneven, seconds_NT=np.tile(np.linspace(0, clips.seconds_NT[0, 9], 6), (16, 1)))
    metric = TrajectoryError()
    right, wrong = (metric.score(metric.measure(each)).value for each in (uneven, told_even))
    assert right < 0.05  # type: ignore[operator]
    assert wrong > 0.3  # type: ignore[operator]


def test_a_model_that_shows_nothing_is_wrong_and_not_missing() -> None:
    clips = made_clips(8)
    nothing = replace(clips, frames_NTHWC=np.zeros_like(clips.frames_NTHWC))
    said = {
        metric.name: (score := metric.score(metric.measure(nothing))) and (score.value, score.n)
        for metric in (DirectionAccuracy(), SpeedError(), TrajectoryError(), OneObject(), MotionOk())
    }
    assert said == {
        "direction_accuracy": (0.0, 8),
        "speed_error": (1.0, 8),
        "trajectory_error": (16.0, 8),
        "one_object": (0.0, 8),
        "motion_ok": (0.0, 8),
    }


def test_what_stands_still_goes_in_no_direction() -> None:
    clips = made_clips(8)
    still = replace(clips, frames_NTHWC=clips.frames_NTHWC[:, [0] * 8])
    assert DirectionAccuracy().score(DirectionAccuracy().measure(still)).value == 0.0


def test_a_seventh_of_a_pixel_over_the_clip_is_no_motion() -> None:
    """What is measured so exactly always goes somewhere, and in one of eight cases where it should."""
    centres = np.stack([12.0 + 0.02 * np.arange(8), np.full(8, 12.0)], axis=1)
    frames = disk(centres, ground=(0, 0, 0), colour=(255, 255, 255))[None]
    clip = replace(made_clips(1), frames_NTHWC=frames)
    assert clip.facts[0]["direction"] == "right"
    tracks = tracks_of(frames)
    assert 0.1 < tracks.centre_NTX[0, -1, 0] - tracks.centre_NTX[0, 0, 0] < 0.2
    assert DirectionAccuracy().score(DirectionAccuracy().measure(clip)).value == 0.0


def test_clips_without_a_told_direction_are_not_judged() -> None:
    clips = made_clips(8)
    unknown: ClipSet = replace(clips, facts=({},) * 8)
    score = MotionOk().score(MotionOk().measure(unknown))
    assert (score.value, score.skipped) == (None, "no clip's facts name a direction")


def test_directions_mean_what_made_videos_mean_by_them() -> None:
    assert {name: (x, y) for name, (x, y, _) in shape_facts.DIRECTIONS.items()} == DIRECTIONS
