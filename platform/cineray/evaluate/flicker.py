"""Do pictures flicker? Frames go in; how much neighbours differ, and how much that changes, come out.

Both are meant to be like those of real clips: less is not better. A frozen clip flickers least of all, so a flicker
score stands only where the samples move about as much as real clips do; otherwise it is void, and says so.
Where frames are unevenly spaced, changes are taken per mean interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cineray.evaluate.intervals import Reals
from cineray.evaluate.metric import MeanMetric
from cineray.evaluate.scores import Better, Score
from cineray.evaluate.shared import Frames

if TYPE_CHECKING:
    from cineray.evaluate.clip_set import ClipSet

DYNAMICS_WITHIN = 0.2
"""Samples that move by more than this share less, or more, than real clips have no flicker score."""
VOID = ("flicker", "second_difference")


class _Flicker(MeanMetric):
    group: ClassVar[str] = "flicker"
    better: ClassVar[Better] = "like real"


class Flicker(_Flicker):
    """How much neighbouring frames differ."""

    name = "flicker"
    unit = "levels of 255"
    says = "how much each frame differs from the one before"
    ranks = ("freeze", "jitter")

    def rows(self, clips: ClipSet) -> Reals:
        """The mean over pixels and pairs of frames."""
        if clips.num_frames < 2:
            return np.full((len(clips), 1), np.nan)
        pace_NP = _pace(clips.seconds_NT)
        frames_NTHWC = clips.frames_NTHWC
        value_N = np.zeros(len(clips))
        for at in range(pace_NP.shape[1]):
            step = np.abs(_pair(frames_NTHWC, at)).mean(axis=(1, 2, 3), dtype=np.float64)
            value_N += step * pace_NP[:, at] / pace_NP.shape[1]
        return value_N[:, None]


class SecondDifference(_Flicker):
    """How much of the change between frames is not change that goes on: 0 for a fade, about 2 for a strobe."""

    name = "second_difference"
    unit = "ratio"
    says = "how much of the change between frames comes and goes"
    ranks = ("jitter", "shuffle")

    def rows(self, clips: ClipSet) -> Reals:
        """Change of change over change; 0 where nothing changes."""
        if clips.num_frames < 3:
            return np.full((len(clips), 1), np.nan)
        pace_NP = _pace(clips.seconds_NT)[:, :, None, None, None]
        first_N, second_N = np.zeros(len(clips)), np.zeros(len(clips))
        before = None
        for at in range(pace_NP.shape[1]):
            step = _pair(clips.frames_NTHWC, at) * pace_NP[:, at]
            first_N += np.abs(step).mean(axis=(1, 2, 3), dtype=np.float64) / pace_NP.shape[1]
            if before is not None:
                second_N += np.abs(step - before).mean(axis=(1, 2, 3), dtype=np.float64) / (pace_NP.shape[1] - 1)
            before = step
        return np.divide(second_N, first_N, out=np.zeros_like(first_N), where=first_N > 0)[:, None]


def _pair(frames_NTHWC: Frames, at: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """What changes from frame `at` to the next."""
    after = frames_NTHWC[:, at + 1].astype(np.float32)
    after -= frames_NTHWC[:, at]
    return after


def _pace(seconds_NT: Reals) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(N, T-1): by what to multiply a change to have it per mean interval of its clip; 1 where frames are even."""
    step_NP = np.diff(seconds_NT, axis=1)
    even_NP = np.where(step_NP > 0, step_NP, 1.0)
    pace_NP = np.where(step_NP > 0, step_NP.mean(axis=1, keepdims=True) / even_NP, 1.0)
    return pace_NP.astype(np.float32)


def void_unless_moving(scores: Mapping[str, Score]) -> dict[str, Score]:
    """Flicker scores without a value where the samples' dynamic degree is not within 20 % of that of real clips."""
    out = dict(scores)
    moving = scores.get("dynamic_degree")
    if moving is None or moving.value is None:
        return out
    real = moving.controls["real"]["value"] if "real" in moving.controls else None
    if real is None or abs(moving.value - real) <= DYNAMICS_WITHIN * abs(real):
        return out
    told = f"void: samples move {moving.value:.3g} {moving.unit}, real clips {real:.3g}; "
    told += f"wanted within {DYNAMICS_WITHIN:.0%}"
    for name in VOID:
        if name in out and out[name].value is not None:
            measured = {"measured": out[name].value}
            out[name] = replace(
                out[name], value=None, low=None, high=None, skipped=told, facts={**out[name].facts, **measured}
            ).with_note(told)
    return out
