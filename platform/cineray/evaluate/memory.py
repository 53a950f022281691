"""Are samples copies of training clips? Training clips and others go in; how near the nearest one is comes out.

Clips are shrunk to four times of eight by eight, since a copy need not be exact, and compared value by value. Held-out
clips, which the model never saw, say how near a training clip lies by chance: samples that lie much nearer are copies.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cineray.evaluate.intervals import Integers, Reals, clopper_pearson
from cineray.evaluate.metric import MedianMetric, Metric, Span
from cineray.evaluate.scores import MetricUnavailable
from cineray.evaluate.shared import Frames

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cineray.evaluate.clip_set import ClipSet
    from cineray.evaluate.metric import Rows
    from cineray.evaluate.registry import Setting
    from cineray.evaluate.scores import Score

SMALL_THW = (4, 8, 8)
CHANCE = 0.01
"""A copy is nearer to a training clip than all but this share of held-out clips are."""


def shrunk(frames_NTHWC: Frames) -> Reals:
    """(N, values): means over blocks of the clip."""
    import torch
    import torch.nn.functional as F

    n = len(frames_NTHWC)
    small = np.empty((n, int(np.prod(SMALL_THW)) * 3))
    for at, frames_THWC in enumerate(frames_NTHWC):
        x_CTHW = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(3, 0, 1, 2).float()
        small[at] = F.adaptive_avg_pool3d(x_CTHW, SMALL_THW).flatten().numpy()
    return small


def nearest(clips_NV: Reals, train_MV: Reals) -> Reals:
    """(N,): root mean square difference to the nearest, in levels."""
    square_NM = np.square(clips_NV).sum(axis=1)[:, None] + np.square(train_MV).sum(axis=1) - 2 * clips_NV @ train_MV.T
    return np.asarray(np.sqrt(np.maximum(square_NM.min(axis=1), 0) / clips_NV.shape[1]))


class _Nearest(Metric):
    group: ClassVar[str] = "memory"

    def __init__(self, train: ClipSet) -> None:
        self.train_MV = shrunk(train.frames_NTHWC)

    @classmethod
    def make(cls, setting: Setting) -> Metric:
        """Needs training clips."""
        if setting.train is None or len(setting.train) == 0:
            raise MetricUnavailable("it compares with the training clips, and none were given")
        return cls(setting.train)

    def facts(self) -> dict[str, Any]:
        """Of which clips the nearest was taken: under others, values do not compare."""
        return {
            "training_clips": len(self.train_MV),
            "training_clips_sha256": hashlib.sha256(self.train_MV.tobytes()).hexdigest(),
        }

    def rows(self, clips: ClipSet) -> Reals:
        """How far the nearest training clip is."""
        if len(clips) == 0:
            return np.empty((0, 1))
        return nearest(shrunk(clips.frames_NTHWC), self.train_MV)[:, None]


class NearestTrain(_Nearest, MedianMetric):
    """How near the nearest training clip is."""

    name = "nearest_train"
    unit = "levels of 255"
    better = "like real"
    says = "how near the nearest training clip is; far nearer than for held-out clips means copies"


class CopiedClips(_Nearest):
    """Which part of the samples is nearer to a training clip than held-out clips ever are."""

    name = "copied_clips"
    unit = "fraction"
    better = "lower"
    says = "samples that are nearer to a training clip than held-out clips are"
    needs_real = True

    def statistic(self, rows_ND: Reals, real_MD: Reals | None) -> float:
        """The fraction below what is chance among held-out clips."""
        if real_MD is None or not len(rows_ND) or not len(real_MD):
            return float("nan")
        return float((rows_ND[:, 0] < np.quantile(real_MD[:, 0], CHANCE)).mean())

    def interval(self, rows_ND: Reals, real_MD: Reals | None, *, times: int, seed: int) -> Span:
        """Clopper and Pearson's."""
        del times, seed
        return clopper_pearson(round(self.statistic(rows_ND, real_MD) * len(rows_ND)), len(rows_ND))

    def controls(self, rows: Rows, real: Rows, *, bootstrap: int, seed: int) -> Mapping[str, Score]:
        """None: of the clips that set the mark, by definition one in a hundred is below it."""
        del rows, real, bootstrap, seed
        return {}

    def resampled(
        self, rows_ND: Reals, real_MD: Reals | None, index_RN: Integers, real_index_RM: Integers | None
    ) -> Reals:
        """Against the mark that all held-out clips set."""
        del real_index_RM
        mark = np.nan if real_MD is None else np.quantile(real_MD[:, 0], CHANCE)
        return np.asarray((rows_ND[:, 0] < mark)[index_RN].mean(axis=1))
