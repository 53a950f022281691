"""How unlike real clips the samples are as a whole: two sets of rows go in, a Frechet or a kernel distance comes out.

Both sets are cut to one size, since these distances depend on it. A Frechet distance of few clips is mostly bias, so
beside it stands the same distance between two halves of the real clips, and between as many samples and real clips:
what counts is how far the second lies above the first. The kernel distance (the unbiased estimate of MMD^2, with a
polynomial kernel) has no such bias and is the one to follow over checkpoints.

The features are those of a net that learnt on the training clips (feature_net.py); distances compare only under one
net, whose sha256 stands in the score's facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cineray.evaluate.intervals import Integers, Reals, middle
from cineray.evaluate.metric import Metric, Rows, Span
from cineray.evaluate.scores import Better, Difference, MetricUnavailable, Score, number

if TYPE_CHECKING:
    from cineray.evaluate.clip_set import ClipSet
    from cineray.evaluate.feature_net import FeatureNet
    from cineray.evaluate.registry import Setting

FLOOR_SPLITS = 10
ENOUGH_FOR_FRECHET, FEW_DIMENSIONS = 2048, 64
"""A Frechet distance in more dimensions than the second is mostly bias below the first number of clips."""


def frechet(a_ND: Reals, b_MD: Reals) -> float:
    """|mean - mean|^2 + trace(A + B - 2 (A B)^1/2), of the rows' means and covariances; nan below two rows.

    With A = a'a and B = b'b, the trace of the root of A B is the sum of the singular values of a b', which needs no
    root of a matrix and holds for fewer rows than dimensions.
    """
    if min(len(a_ND), len(b_MD)) < 2:
        return float("nan")
    a_KD, b_KD = (np.asarray(np.linalg.qr(_centred(each), mode="r")) for each in (a_ND, b_MD))
    shared = np.linalg.svd(a_KD @ b_KD.T, compute_uv=False).sum()
    apart = np.square(a_ND.mean(axis=0) - b_MD.mean(axis=0)).sum()
    return float(max(0.0, apart + np.square(a_KD).sum() + np.square(b_KD).sum() - 2 * shared))


def _centred(rows_ND: Reals) -> Reals:
    return np.asarray((rows_ND - rows_ND.mean(axis=0)) / np.sqrt(len(rows_ND) - 1))


def polynomial_kernel(a_ND: Reals, b_MD: Reals) -> Reals:
    """(x.y / d + 1)^3, the kernel of KID."""
    return np.asarray((a_ND @ b_MD.T / a_ND.shape[1] + 1) ** 3)


def kernel_distance(a_ND: Reals, b_MD: Reals) -> float:
    """The unbiased estimate of MMD^2; about 0, also below, for two sets from one source; nan below two rows."""
    if min(len(a_ND), len(b_MD)) < 2:
        return float("nan")
    ones = np.ones((1, len(a_ND))), np.ones((1, len(b_MD)))
    return float(_weighted_mmd(a_ND, b_MD, *ones)[0])


def _weighted_mmd(a_ND: Reals, b_MD: Reals, times_RN: Reals, times_RM: Reals) -> Reals:
    """(R,): MMD^2 where row i counts so many times. A row is never paired with itself, nor with its own repeats."""
    within_a = _within(polynomial_kernel(a_ND, a_ND), times_RN)
    within_b = _within(polynomial_kernel(b_MD, b_MD), times_RM)
    between_R = np.einsum("rn,nm,rm->r", times_RN, polynomial_kernel(a_ND, b_MD), times_RM, optimize=True)
    return np.asarray(within_a + within_b - 2 * between_R / (times_RN.sum(axis=1) * times_RM.sum(axis=1)))


def _within(kernel_NN: Reals, times_RN: Reals) -> Reals:
    """(R,): the mean of the kernel over pairs of different rows."""
    square_RN = times_RN**2
    pairs_R = times_RN.sum(axis=1) ** 2 - square_RN.sum(axis=1)
    whole_R = np.einsum("rn,nm,rm->r", times_RN, kernel_NN, times_RN, optimize=True) - square_RN @ kernel_NN.diagonal()
    return np.asarray(whole_R / pairs_R)


class DistanceMetric(Metric):
    """Two sets of one size; beside it the floor that real clips have against each other."""

    better: ClassVar[Better] = "lower"
    needs_real: ClassVar[bool] = True

    def score(self, rows: Rows, real: Rows | None = None, *, bootstrap: int = 1000, seed: int = 0) -> Score:
        """Of as many clips as both sets have."""
        if real is not None and len(rows.known()) and len(real.known()):
            rows, real = _equally_many(rows.known(), real.known())
        return super().score(rows, real, bootstrap=bootstrap, seed=seed)

    def difference(
        self, a: Rows, b: Rows, real: Rows | None = None, *, bootstrap: int = 1000, seed: int = 0
    ) -> Difference:
        """Both against the same real clips, all three of one size."""
        common = sorted(set(a.known().names) & set(b.known().names))
        if real is not None and common:
            real = real.known()
            common = common[: len(real)]
            a, b, real = a.only(common), b.only(common), real.only(real.names[: len(common)])
        return super().difference(a, b, real, bootstrap=bootstrap, seed=seed)

    def controls(self, rows: Rows, real: Rows, *, bootstrap: int, seed: int) -> Mapping[str, Score]:
        """At half the size: two halves of the real clips (the floor), and samples against real clips."""
        del bootstrap
        half = len(real) // 2
        if half < 2:
            return {}
        generator = np.random.Generator(np.random.Philox(key=[seed, 3]))
        floors, beside = [], []
        for _ in range(FLOOR_SPLITS):
            real_ND = real.values_ND[generator.permutation(len(real))]
            some_ND = rows.values_ND[generator.permutation(len(rows))[:half]]
            floors.append(self.statistic(real_ND[:half], real_ND[half : 2 * half]))
            beside.append(self.statistic(some_ND, real_ND[:half]))
        return {"real halves": self._over(floors, half), "as few samples": self._over(beside, half)}

    def _over(self, values: list[float], n: int) -> Score:
        """The mean over splits, and how far splits differ."""
        low, high = middle(np.array(values))
        value = number(float(np.mean(values)))
        return replace(self.skip(""), value=value, low=number(low), high=number(high), n=n)


def _equally_many(rows: Rows, real: Rows) -> tuple[Rows, Rows]:
    """The first of each by name: the same ones every time."""
    n = min(len(rows), len(real))
    return rows.only(rows.names[:n]), real.only(real.names[:n])


class FrechetMetric(DistanceMetric):
    """The Frechet distance of rows."""

    unit: ClassVar[str] = "Frechet distance"
    most_resamples: ClassVar[int] = 200
    repeats_shift: ClassVar[bool] = True

    def statistic(self, rows_ND: Reals, real_MD: Reals | None) -> float:
        """Against real rows."""
        return float("nan") if real_MD is None else frechet(rows_ND, real_MD)

    def interval(self, rows_ND: Reals, real_MD: Reals | None, *, times: int, seed: int) -> Span:
        """No distance is below 0."""
        low, high = super().interval(rows_ND, real_MD, times=times, seed=seed)
        return float(np.maximum(0.0, low)), high

    def score(self, rows: Rows, real: Rows | None = None, *, bootstrap: int = 1000, seed: int = 0) -> Score:
        """With a word where it is mostly bias."""
        score = super().score(rows, real, bootstrap=bootstrap, seed=seed)
        if score.value is None or rows.values_ND.shape[1] <= FEW_DIMENSIONS or score.n >= ENOUGH_FOR_FRECHET:
            return score
        dimensions = rows.values_ND.shape[1]
        return score.with_note(
            f"{score.n} clips in {dimensions} dimensions: mostly bias below {ENOUGH_FOR_FRECHET} clips; see its floor"
        )


class KernelMetric(DistanceMetric):
    """The kernel distance of rows."""

    unit: ClassVar[str] = "MMD^2"

    def statistic(self, rows_ND: Reals, real_MD: Reals | None) -> float:
        """Against real rows."""
        return float("nan") if real_MD is None else kernel_distance(rows_ND, real_MD)

    def resampled(
        self, rows_ND: Reals, real_MD: Reals | None, index_RN: Integers, real_index_RM: Integers | None
    ) -> Reals:
        """All at once, from kernels computed once."""
        assert real_MD is not None
        assert real_index_RM is not None
        return _weighted_mmd(rows_ND, real_MD, _times(index_RN), _times(real_index_RM))


def _times(index_RN: Integers) -> Reals:
    """How often each row is drawn."""
    resamples, n = index_RN.shape
    flat = index_RN + np.arange(resamples)[:, None] * n
    return np.bincount(flat.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


class _OfFeatures(Metric):
    """By the features of a net that learnt on the training clips."""

    group: ClassVar[str] = "features"

    def __init__(self, net: FeatureNet) -> None:
        self.net = net

    @classmethod
    def make(cls, setting: Setting) -> Metric:
        """Needs the net."""
        if setting.feature_net is None:
            raise MetricUnavailable("there is no feature net; train one on the training clips, or give its file")
        return cls(setting.feature_net)

    def facts(self) -> dict[str, Any]:
        """Only scores under one hash compare."""
        return {"feature_net_sha256": self.net.sha256}

    def rows(self, clips: ClipSet) -> Reals:
        """Features of whole clips: looks and motion."""
        return self.net.features(clips.frames_NTHWC)


class FeatureFrechet(_OfFeatures, FrechetMetric):
    """How unlike real clips the samples are, by means and covariances of features."""

    name = "feature_frechet"
    says = "how unlike real clips the samples are, to a net that learnt on real ones"
    ranks = ("shuffle",)


class FeatureKernel(_OfFeatures, KernelMetric):
    """The same without bias."""

    name = "feature_kernel"
    says = "how unlike real clips the samples are, without the bias of few samples"
    ranks = ("shuffle",)


class FrameFrechet(_OfFeatures, FrechetMetric):
    """How unlike real frames the samples' frames are, whatever moves."""

    name = "frame_frechet"
    says = "how unlike real pictures single frames are"
    ranks = ("blur", "colour drift")

    def rows(self, clips: ClipSet) -> Reals:
        """Features of clips that hold one frame still; the mean of several frames, from all of the clip."""
        return self.net.frame_features(clips.frames_NTHWC)
