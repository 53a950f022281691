"""Does the thing in the clip move as it was told to? The object's track and what is true of the clip go in.

A clip is judged where its facts name a `direction` (and `speed_widths_per_second`, for speeds). A straight line in real
time is laid through the object's centres: its slope is the velocity, what lies off it the trajectory's error. A clip in
which nothing could be followed is wrong, not missing: it gets the worst row, so that a model cannot win by showing
nothing. Directions are as on a screen: y points down. What leaves through one edge and comes back through the opposite
one is one object, unless the facts say that nothing does (`"wraps": false`).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from cineray.evaluate.intervals import Reals
from cineray.evaluate.metric import MedianMetric, Metric, RateMetric
from cineray.evaluate.tracks import Tracks, tracks_within

if TYPE_CHECKING:
    from cineray.evaluate.clip_set import ClipSet

Flags = npt.NDArray[np.bool_]

DIRECTIONS: dict[str, tuple[int, int]] = {
    "right": (1, 0),
    "down-right": (1, 1),
    "down": (0, 1),
    "down-left": (-1, 1),
    "left": (-1, 0),
    "up-left": (-1, -1),
    "up": (0, -1),
    "up-right": (1, -1),
}
"""What facts may say -> steps in x (right) and y (down)."""
WITHIN_RADIANS = np.pi / 8
"""Half the angle between neighbouring directions: nearer to the right one than to any other."""
STILL_WIDTHS = 1 / 64
"""What moves less than this share of the frame's width over the clip does not move, in whatever direction."""
LEAST_SHARE, MOST_SPREAD, MOST_OF_FRAME, LEAST_PIXELS = 0.9, 2.5, 0.4, 4.0
"""One compact object: nine tenths of what stands out, rounder than a bar of 1 by 5, neither wall nor dot."""
OK_SPEED_ERROR, OK_OFF_LINE_WIDTHS = 0.3, 1 / 32
"""What a clip that is wholly right may be off by."""


@dataclass(frozen=True, slots=True, eq=False)
class Movement:
    """The straight line through each clip's track."""

    velocity_NX: Reals
    """Pixels per second."""
    off_line_px_N: Reals
    """Root mean square distance of the centres from the line."""
    followed_N: Flags
    """The object is in at least two frames, and in more than half of them."""
    seconds_N: Reals
    """How long the clip is."""


def movement(tracks: Tracks, seconds_NT: Reals) -> Movement:
    """Least squares over the frames in which the object was seen."""
    seen_NT = np.asarray(np.isfinite(tracks.centre_NTX).all(axis=-1))
    count_N = seen_NT.sum(axis=1)
    centre_NTX = np.where(seen_NT[..., None], tracks.centre_NTX, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        time_NT = np.where(seen_NT, seconds_NT - ((seconds_NT * seen_NT).sum(axis=1) / count_N)[:, None], 0)
        mean_NX = centre_NTX.sum(axis=1) / count_N[:, None]
        velocity_NX = np.einsum("nt,ntx->nx", time_NT, centre_NTX) / (time_NT**2).sum(axis=1)[:, None]
        line_NTX = mean_NX[:, None] + velocity_NX[:, None] * time_NT[..., None]
        square_NT = ((centre_NTX - line_NTX) ** 2).sum(axis=-1) * seen_NT
        off_line_px_N = np.sqrt(square_NT.sum(axis=1) / count_N)
    followed_N = (count_N >= 2) & (count_N * 2 > seen_NT.shape[1])
    return Movement(velocity_NX, off_line_px_N, followed_N, seconds_NT.max(axis=1) - seconds_NT.min(axis=1))


def told_directions(clips: ClipSet) -> Reals:
    """(N, X): unit steps; nan where the facts name none."""
    steps = [DIRECTIONS.get(str(facts.get("direction", "")), (np.nan, np.nan)) for facts in clips.facts]
    step_NX = np.array(steps, dtype=np.float64).reshape(-1, 2)
    unit_NX: Reals = step_NX / np.linalg.norm(step_NX, axis=1, keepdims=True)
    return unit_NX


def told_speeds(clips: ClipSet) -> Reals:
    """(N,): frame widths per second; nan where the facts name none."""
    return np.array([float(facts.get("speed_widths_per_second") or np.nan) for facts in clips.facts])


def may_wrap(clips: ClipSet) -> Flags:
    """(N,): may things come round the frame's edges? Where nobody says so, they may."""
    return np.array([facts.get("wraps") is not False for facts in clips.facts], dtype=bool)


def goes_right(clips: ClipSet, moved: Movement) -> Flags:
    """Is the told direction the nearest to where the object went?"""
    told_NX = told_directions(clips)
    speed_N = np.linalg.norm(moved.velocity_NX, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine_N = (moved.velocity_NX * told_NX).sum(axis=1) / speed_N
        moves_N = speed_N * moved.seconds_N > STILL_WIDTHS * clips.width
        return np.asarray(moved.followed_N & moves_N & (cosine_N > np.cos(WITHIN_RADIANS)))


def speed_errors(clips: ClipSet, moved: Movement) -> Reals:
    """(N,): |speed - told| / told; 1 where nothing was followed, nan where no speed was told."""
    told_N = told_speeds(clips) * clips.width
    error_N = np.abs(np.linalg.norm(moved.velocity_NX, axis=1) - told_N) / told_N
    return np.where(np.isfinite(told_N) & ~moved.followed_N, 1.0, error_N)


def one_object(clips: ClipSet, tracks: Tracks) -> Flags:
    """In every frame one thing stands out, compact, neither dot nor wall."""
    most_px = MOST_OF_FRAME * clips.width * clips.height
    with np.errstate(invalid="ignore"):
        fine_NT = (tracks.share_NT >= LEAST_SHARE) & (tracks.spread_NT <= MOST_SPREAD)
        fine_NT &= (tracks.area_NT >= LEAST_PIXELS) & (tracks.area_NT <= most_px)
    return np.asarray(fine_NT.all(axis=1))


class _Motion(Metric):
    """Of clips whose facts name a direction."""

    group: ClassVar[str] = "motion"
    nothing: ClassVar[str] = "no clip's facts name a direction"

    def rows(self, clips: ClipSet) -> Reals:
        """One number per clip."""
        judged_N = np.isfinite(told_directions(clips)).all(axis=1)
        if not judged_N.any():
            return np.full((len(clips), 1), np.nan)
        tracks = tracks_within(clips.frames_NTHWC, may_wrap(clips))
        value_N = self.judged(clips, tracks, movement(tracks, clips.seconds_NT))
        return np.where(judged_N, value_N, np.nan)[:, None]

    @abstractmethod
    def judged(self, clips: ClipSet, tracks: Tracks, moved: Movement) -> Reals:
        """(N,): this metric's number of each clip."""


class DirectionAccuracy(_Motion, RateMetric):
    """Which part of the clips moves in the direction that it was told."""

    name = "direction_accuracy"
    better = "higher"
    says = "the object moves in the direction that was asked for"
    ranks = ("shuffle",)

    def judged(self, clips: ClipSet, tracks: Tracks, moved: Movement) -> Reals:
        """1 or 0."""
        del tracks
        return goes_right(clips, moved).astype(np.float64)


class SpeedError(_Motion, MedianMetric):
    """By how much of the told speed the object is too fast or too slow."""

    name = "speed_error"
    unit = "of the told speed"
    better = "lower"
    says = "how far the object's speed is from the one that was asked for"
    nothing = "no clip's facts name a direction and a speed"
    ranks = ("speed",)

    def judged(self, clips: ClipSet, tracks: Tracks, moved: Movement) -> Reals:
        """Relative, never negative."""
        del tracks
        return speed_errors(clips, moved)


class TrajectoryError(_Motion, MedianMetric):
    """How far the object's centres lie from a straight line in real time."""

    name = "trajectory_error"
    unit = "px"
    better = "lower"
    says = "how far the object strays from a straight, even path"
    ranks = ("jitter", "shuffle")

    def judged(self, clips: ClipSet, tracks: Tracks, moved: Movement) -> Reals:
        """Root mean square; half the frame's width where nothing was followed."""
        del tracks
        return np.where(moved.followed_N, moved.off_line_px_N, clips.width / 2)


class OneObject(_Motion, RateMetric):
    """Which part of the clips shows exactly one compact thing in every frame."""

    name = "one_object"
    better = "higher"
    says = "one compact object is there in every frame"
    ranks = ("ghost",)

    def judged(self, clips: ClipSet, tracks: Tracks, moved: Movement) -> Reals:
        """1 or 0."""
        del moved
        return one_object(clips, tracks).astype(np.float64)


class SizeConstancy(_Motion, MedianMetric):
    """How much the object's size changes over the clip."""

    name = "size_change"
    unit = "of the size"
    better = "lower"
    says = "how much the object swells or shrinks"
    ranks = ("grow",)

    def judged(self, clips: ClipSet, tracks: Tracks, moved: Movement) -> Reals:
        """Standard deviation over mean; 1 where nothing was followed."""
        del clips
        area_NT = np.where(moved.followed_N[:, None], tracks.area_NT, 1.0)
        change_N = np.nanstd(area_NT, axis=1) / np.nanmean(area_NT, axis=1)
        return np.where(moved.followed_N, change_N, 1.0)


class ColourConstancy(_Motion, MedianMetric):
    """How much the object's colour changes over the clip."""

    name = "colour_change"
    unit = "levels of 255"
    better = "lower"
    says = "how much the object changes its colour"
    ranks = ("colour drift",)

    def judged(self, clips: ClipSet, tracks: Tracks, moved: Movement) -> Reals:
        """Root mean square distance from its mean colour; 255 where nothing was followed."""
        del clips
        colour_NTC = np.where(moved.followed_N[:, None, None], tracks.colour_NTC, 0.0)
        away_NT = ((colour_NTC - np.nanmean(colour_NTC, axis=1, keepdims=True)) ** 2).sum(axis=-1)
        return np.where(moved.followed_N, np.sqrt(np.nanmean(away_NT, axis=1)), 255.0)


class MotionOk(_Motion, RateMetric):
    """Which part of the clips is right in all of it: direction, speed, path, one object."""

    name = "motion_ok"
    better = "higher"
    says = "direction, speed, path and object are all right"
    ranks = ("jitter", "shuffle")

    def judged(self, clips: ClipSet, tracks: Tracks, moved: Movement) -> Reals:
        """1 or 0."""
        error_N = np.nan_to_num(speed_errors(clips, moved), nan=0.0)  # no speed was told: none can be wrong
        with np.errstate(invalid="ignore"):
            on_line_N = moved.off_line_px_N < OK_OFF_LINE_WIDTHS * clips.width
        fine_N = goes_right(clips, moved) & one_object(clips, tracks) & (error_N < OK_SPEED_ERROR) & on_line_N
        return fine_N.astype(np.float64)
