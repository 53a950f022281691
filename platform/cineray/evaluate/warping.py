"""Does the next frame hold what the flow says went there? Frames go in; what is left over, in levels, comes out.

Each frame is compared with the next one brought back by our own flow, only where both see the same (occlusion
is masked by going there and back). What is left over is light that changed, edges that crawl, and motion that no flow
explains. A frozen clip has none of it, so the number is read beside that of real clips;
and what jumps so far that no flow finds it again is masked, so shuffled frames are for others to see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cineray.evaluate.followed import followed
from cineray.evaluate.intervals import Reals
from cineray.evaluate.metric import MeanMetric

if TYPE_CHECKING:
    from cineray.evaluate.clip_set import ClipSet


class WarpingError(MeanMetric):
    """What the flow does not explain of the next frame."""

    name = "warping_error"
    group = "flow"
    unit = "levels of 255"
    better = "like real"
    says = "what changes from frame to frame that motion does not explain"
    nothing = "no two neighbouring frames show the same, or the clips are too short"
    ranks = ("colour drift",)

    def rows(self, clips: ClipSet) -> Reals:
        """The mean over the pairs of frames that see enough of each other."""
        if len(clips) == 0 or clips.num_frames < 2:
            return np.full((len(clips), 1), np.nan)
        return mean_over_pairs(followed(clips.frames_NTHWC).warping_NP)[:, None]


def mean_over_pairs(away_NP: Reals) -> Reals:
    """(N,): of the pairs that have a value; nan where none has."""
    known_NP = np.isfinite(away_NP)
    count_N = known_NP.sum(axis=1)
    sum_N = np.where(known_NP, away_NP, 0).sum(axis=1)
    return np.asarray(np.divide(sum_N, count_N, out=np.full(len(away_NP), np.nan), where=count_N > 0))
