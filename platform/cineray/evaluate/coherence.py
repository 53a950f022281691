"""Does a clip hang together over time? Frames go in; how alike neighbours are, and whether things keep their looks.

Temporal coherence is the correlation of what moves: each frame without the clip's mean picture, against the next one.
Identity persistence follows points by the flow and asks how much of what they first looked like is still there; a
point that the flow loses has lost its looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cineray.evaluate.followed import followed
from cineray.evaluate.intervals import Reals
from cineray.evaluate.metric import MeanMetric

if TYPE_CHECKING:
    from cineray.evaluate.clip_set import ClipSet


class TemporalCoherence(MeanMetric):
    """How alike neighbouring frames are in what is not always there."""

    name = "temporal_coherence"
    group = "coherence"
    unit = "correlation"
    better = "like real"
    says = "how alike neighbouring frames are in what moves"
    ranks = ("jitter", "shuffle")

    def rows(self, clips: ClipSet) -> Reals:
        """The mean over pairs of frames; 1 where nothing ever changes."""
        if len(clips) == 0 or clips.num_frames < 2:
            return np.full((len(clips), 1), np.nan)
        value_N = np.empty(len(clips))
        for at, frames_THWC in enumerate(clips.frames_NTHWC):  # one at a time: a float copy of all would be large
            moving_TP = frames_THWC.reshape(clips.num_frames, -1).astype(np.float32)
            moving_TP -= moving_TP.mean(axis=0)
            together_P = np.einsum("tp,tp->t", moving_TP[:-1], moving_TP[1:], dtype=np.float64)
            square_T = np.einsum("tp,tp->t", moving_TP, moving_TP, dtype=np.float64)
            whole_P = np.sqrt(square_T[:-1] * square_T[1:])
            value_N[at] = np.divide(together_P, whole_P, out=np.ones_like(whole_P), where=whole_P > 0).mean()
        return value_N[:, None]


class IdentityPersistence(MeanMetric):
    """How much of what things looked like at first they still look like."""

    name = "identity_persistence"
    group = "coherence"
    unit = "1 = the same"
    better = "higher"
    says = "how much things keep the looks that they begin with"
    ranks = ("colour drift",)

    def rows(self, clips: ClipSet) -> Reals:
        """The mean over all frames but the first."""
        if len(clips) == 0 or clips.num_frames < 2:
            return np.full((len(clips), 1), np.nan)
        lost_NT = followed(clips.frames_NTHWC).lost_looks_NT[:, 1:]
        return 1 - np.asarray(lost_NT.mean(axis=1, keepdims=True))
