"""Frechet and kernel distances, against what is known of Gaussians, and the floors that they are read against."""

from __future__ import annotations

import numpy as np
import pytest

from cineray.evaluate.distances import FrechetMetric, KernelMetric, frechet, kernel_distance
from cineray.evaluate.metric import Rows


class Away(FrechetMetric):
    """A Frechet distance whose rows the tests write themselves."""

    name, group, says = "away", "made", "made for tests"

    def rows(self, clips):  # type: ignore[no-untyped-def]
        raise AssertionError("no clip is looked at here")


class AwayByKernel(KernelMetric):
    """The same by kernels."""

    name, group, says = "away_by_kernel", "made", "made for tests"

    def rows(self, clips):  # type: ignore[no-untyped-def]
        raise AssertionError("no clip is looked at here")


def normal(n: int, d: int, *, seed: int, mean: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return mean + scale * np.random.default_rng(seed).standard_normal((n, d))


def rows(values_ND: np.ndarray) -> Rows:
    return Rows(tuple(f"clip-{at:04d}" for at in range(len(values_ND))), values_ND)


def test_frechet_equals_the_formula_with_roots_of_matrices() -> None:
    a = normal(50, 4, seed=1) @ normal(4, 4, seed=2)
    b = normal(70, 4, seed=3, mean=0.5) @ normal(4, 4, seed=4)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real).sum()
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    assert frechet(a, b) == pytest.approx(apart + np.trace(cov_a) + np.trace(cov_b) - 2 * roots)


def test_frechet_of_two_known_gaussians() -> None:
    """Means 1 apart, deviations 1 and 2, in 3 dimensions: 3 * (1 + 1)."""
    assert frechet(normal(20000, 3, seed=1), normal(20000, 3, seed=2, mean=1.0, scale=2.0)) == pytest.approx(
        6, rel=0.05
    )


def test_frechet_holds_for_fewer_clips_than_dimensions() -> None:
    a = normal(8, 40, seed=1)
    assert frechet(a, a) == pytest.approx(0.0, abs=1e-9)
    assert frechet(a, normal(8, 40, seed=2)) > 0


def test_frechet_of_few_clips_is_mostly_bias_and_the_kernel_distance_is_not() -> None:
    """Two sets of one source, 64 dimensions: TRAINING.md measured 0.155 and 0.042 per dimension for 128 and 512."""
    few, many = (
        np.mean([frechet(normal(n, 64, seed=s), normal(2048, 64, seed=100 + s)) / 64 for s in range(4)])
        for n in (128, 512)
    )
    assert few == pytest.approx(0.155, abs=0.03)
    assert many == pytest.approx(0.042, abs=0.01)
    unbiased = [kernel_distance(normal(128, 64, seed=s), normal(128, 64, seed=100 + s)) for s in range(16)]
    assert abs(np.mean(unbiased)) < 3 * np.std(unbiased) / 4


@pytest.mark.parametrize("metric", [Away(), AwayByKernel()])
def test_sets_are_cut_to_one_size(metric: Away) -> None:
    score = metric.score(rows(normal(30, 4, seed=1)), rows(normal(90, 4, seed=2)), bootstrap=20)
    same = metric.score(rows(normal(30, 4, seed=1)), rows(normal(90, 4, seed=2)[:30]), bootstrap=20)
    assert score.n == 30
    assert score == same


def test_beside_a_distance_stand_its_floor_and_the_distance_at_the_floors_size() -> None:
    """Samples from the real source lie at the floor, others clearly above it."""
    real = rows(normal(128, 8, seed=1))
    good, bad = (Away().score(rows(normal(128, 8, seed=2, mean=m)), real, bootstrap=50) for m in (0.0, 1.0))
    for score in (good, bad):
        assert score.controls["real halves"]["n"] == score.controls["as few samples"]["n"] == 64
    floor, at_floor, above = (
        good.controls["real halves"],
        good.controls["as few samples"]["value"],
        bad.controls["as few samples"]["value"],
    )
    assert floor["value"] is not None
    assert at_floor == pytest.approx(floor["value"], rel=0.4)
    assert above is not None
    assert floor["high"] is not None
    assert above > 5 * floor["high"]


def test_the_interval_lies_round_the_value_although_resamples_repeat_clips() -> None:
    score = Away().score(rows(normal(60, 16, seed=1)), rows(normal(60, 16, seed=2)), bootstrap=200)
    assert score.low is not None
    assert score.high is not None
    assert score.value is not None
    assert score.low < score.value < score.high


def test_without_real_clips_there_is_no_distance() -> None:
    score = Away().score(rows(normal(10, 4, seed=1)))
    assert (score.value, score.skipped) == (None, "it compares with real clips, and there are none")


def test_few_clips_in_many_dimensions_are_said_to_be_mostly_bias() -> None:
    score = Away().score(rows(normal(16, 80, seed=1)), rows(normal(16, 80, seed=2)), bootstrap=5)
    assert score.note == "16 clips in 80 dimensions: mostly bias below 2048 clips; see its floor"
