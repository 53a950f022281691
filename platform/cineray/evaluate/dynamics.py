"""How much, and how, things move: frames go in; a dynamic degree, and distances of motion from real clips, come out.

The dynamic degree is the speed of the fastest twentieth of the pixels. The Frechet distances are in the manner of FVMD:
followed points' velocities (or accelerations) are gathered by direction, weighted by how fast they are, apart for the
clip's two halves; samples and real clips are compared by the means and covariances of these sixteen numbers. All in
frame widths and real seconds, so that sizes and frame rates compare.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cineray.evaluate.distances import FrechetMetric
from cineray.evaluate.followed import Followed, followed
from cineray.evaluate.intervals import Reals
from cineray.evaluate.metric import MeanMetric

if TYPE_CHECKING:
    from cineray.evaluate.clip_set import ClipSet

ANGLES, HALVES = 8, 2


class DynamicDegree(MeanMetric):
    """How fast the fastest parts of the picture are."""

    name = "dynamic_degree"
    group = "flow"
    unit = "frame widths per second"
    better = "like real"
    says = "how much moves, and how fast"
    ranks = ("freeze", "speed")

    def rows(self, clips: ClipSet) -> Reals:
        """The mean over pairs of frames."""
        if len(clips) == 0 or clips.num_frames < 2:
            return np.full((len(clips), 1), np.nan)
        fastest_NP = followed(clips.frames_NTHWC).fastest_NP
        return np.asarray((fastest_NP / clips.width / _step_seconds(clips)).mean(axis=1, keepdims=True))


class _MotionFrechet(FrechetMetric):
    group: ClassVar[str] = "flow"
    unit: ClassVar[str] = "Frechet distance"

    least_frames: ClassVar[int]

    def rows(self, clips: ClipSet) -> Reals:
        """Sixteen numbers: per half of the clip and direction, how much moves that way."""
        if len(clips) == 0 or clips.num_frames < self.least_frames:
            return np.full((len(clips), ANGLES * HALVES), np.nan)
        vectors_NSKX, alive_NSK = self.vectors(clips, followed(clips.frames_NTHWC))
        halves = np.array_split(np.arange(vectors_NSKX.shape[1]), HALVES)
        return np.concatenate([by_direction(vectors_NSKX[:, half], alive_NSK[:, half]) for half in halves], axis=1)

    @abstractmethod
    def vectors(self, clips: ClipSet, seen: Followed) -> tuple[Reals, Reals]:
        """Of each point and step (N, S, K, X), and how much it counts (N, S, K)."""


class VelocityFrechet(_MotionFrechet):
    """How unlike real clips' velocities those of the samples are."""

    name = "velocity_frechet"
    says = "how unlike real motion the samples' velocities are"
    ranks = ("freeze", "speed")
    least_frames = 3

    def vectors(self, clips: ClipSet, seen: Followed) -> tuple[Reals, Reals]:
        """Frame widths per second."""
        return _velocities(clips, seen), seen.alive_NTK[:, 1:].astype(np.float64)


class AccelerationFrechet(_MotionFrechet):
    """How unlike real clips' accelerations those of the samples are."""

    name = "acceleration_frechet"
    says = "how unlike real motion the samples' accelerations are"
    ranks = ("jitter",)
    least_frames = 4

    def vectors(self, clips: ClipSet, seen: Followed) -> tuple[Reals, Reals]:
        """Frame widths per second, per pair of steps: how much the velocity changes."""
        return np.diff(_velocities(clips, seen), axis=1), seen.alive_NTK[:, 2:].astype(np.float64)


def by_direction(vectors_NSKX: Reals, weight_NSK: Reals) -> Reals:
    """(N, ANGLES): how much goes each way, per point and step; what lies between two directions counts for both."""
    length_NSK = np.linalg.norm(vectors_NSKX, axis=-1) * weight_NSK
    at_NSK = np.arctan2(vectors_NSKX[..., 1], vectors_NSKX[..., 0]) * ANGLES / (2 * np.pi)
    lower_NSK = np.floor(at_NSK)
    part_NSK = at_NSK - lower_NSK
    out_NA = np.zeros((len(vectors_NSKX), ANGLES))
    clip_NSK = np.broadcast_to(np.arange(len(vectors_NSKX))[:, None, None], at_NSK.shape)
    np.add.at(out_NA, (clip_NSK, lower_NSK.astype(np.int64) % ANGLES), length_NSK * (1 - part_NSK))
    np.add.at(out_NA, (clip_NSK, (lower_NSK.astype(np.int64) + 1) % ANGLES), length_NSK * part_NSK)
    # A hundredth of the points moves in a small object's clip: the square root keeps fast clips from being all.
    return np.asarray(np.sqrt(out_NA / max(1, at_NSK.shape[1] * at_NSK.shape[2])))


def _velocities(clips: ClipSet, seen: Followed) -> Reals:
    """(N, P, K, X)."""
    step_NPKX = np.diff(seen.points_NTKX, axis=1)
    return step_NPKX / clips.width / _step_seconds(clips)[:, :, None, None]


def _step_seconds(clips: ClipSet) -> Reals:
    """(N, P): the time between neighbouring frames; frames at one time (a held one) count as a thousandth apart."""
    return np.maximum(np.diff(clips.seconds_NT, axis=1), 1e-3)
