"""Rows, intervals and differences: what is kept of clips, and how sure a number is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cineray.errors import UsageError
from cineray.evaluate.distances import FrechetMetric, KernelMetric
from cineray.evaluate.intervals import clopper_pearson, draws
from cineray.evaluate.metric import MeanMetric, MedianMetric, Metric, RateMetric, Rows


class Brightness(MeanMetric):
    """A metric whose rows the tests write themselves."""

    name, group, unit, better, says = "brightness", "made", "levels", "higher", "made for tests"

    def rows(self, clips):  # type: ignore[no-untyped-def]
        raise AssertionError("no clip is looked at here")


class Middle(Brightness, MedianMetric):
    """Its median."""


class Hits(RateMetric, Brightness):
    """Its rate."""


class Away(FrechetMetric, Brightness):
    """Its Frechet distance."""


class AwayByKernel(KernelMetric, Brightness):
    """Its kernel distance."""


def rows(*values: float, first: int = 0) -> Rows:
    return Rows(tuple(f"clip-{first + at:03d}" for at in range(len(values))), np.array(values, float)[:, None])


def normal(n: int, d: int = 1, *, seed: int, mean: float = 0.0) -> Rows:
    return Rows(tuple(f"clip-{at:03d}" for at in range(n)), np.random.default_rng(seed).standard_normal((n, d)) + mean)


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_rows_are_in_the_order_of_names_however_they_came() -> None:
    kept = Rows(("b", "c", "a"), np.array([[2.0], [3.0], [1.0]]))
    assert (kept.names, kept.values_ND.tolist()) == (("a", "b", "c"), [[1.0], [2.0], [3.0]])


def test_a_clip_that_two_machines_saw_counts_once() -> None:
    assert rows(1, 2).merge(rows(2, 3, first=1)).values_ND.ravel().tolist() == [1, 2, 3]


def test_two_different_rows_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="clip 'clip-001' has two different rows"):
        rows(1, 2).merge(rows(9, first=1))


def test_rows_of_clips_of_another_length_are_refused() -> None:
    with pytest.raises(UsageError, match="rows of widths 1 and 2 cannot be merged"):
        rows(1).merge(Rows(("clip-009",), np.array([[1.0, 2.0]])))


def test_a_clip_of_which_nothing_can_be_said_does_not_count() -> None:
    score = Brightness().score(rows(1, np.nan, 3))
    assert (score.value, score.n) == (2.0, 2)


def test_clips_of_which_none_can_be_judged_say_why() -> None:
    score = Brightness().score(rows(np.nan, np.nan))
    assert (score.value, score.n, score.skipped) == (None, 0, "the clips are too short to say anything")


# ---- intervals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(191, 192, 0.9713, 0.9999), (0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (1, 2, 0.0126, 0.9874)],
)
def test_rates_have_the_exact_interval(hits: int, n: int, low: float, high: float) -> None:
    """Numbers from tables of Clopper and Pearson's interval; the first is that of TRAINING.md."""
    assert clopper_pearson(hits, n) == pytest.approx((low, high), abs=6e-5)
    score = Hits().score(rows(*[1.0] * hits, *[0.0] * (n - hits)))
    assert (score.value, score.low, score.high) == pytest.approx((hits / n, low, high), abs=6e-5)


@pytest.mark.parametrize(("metric", "wanted"), [(Brightness(), 0.0), (Middle(), 0.0)])
def test_an_interval_holds_the_truth_about_19_times_in_20(metric: Metric, wanted: float) -> None:
    """Two hundred sets of fifty clips: between 180 and 199 of their intervals hold what all clips together have."""
    held = 0
    for seed in range(200):
        score = metric.score(normal(50, seed=seed), bootstrap=300, seed=seed)
        assert score.low is not None
        assert score.high is not None
        held += score.low <= wanted <= score.high
    assert 180 <= held < 200


def test_one_clip_has_a_value_and_no_interval() -> None:
    """What does not exist is None, since JSON has no other word for it."""
    score = Brightness().score(rows(3))
    assert (score.value, score.low, score.high, score.n) == (3.0, None, None, 1)
    assert json.loads(json.dumps(score.to_dict(), allow_nan=False))["low"] is None


def test_resamples_of_one_seed_are_the_same_and_of_others_are_not() -> None:
    assert np.array_equal(draws(5, 3, seed=1), draws(5, 3, seed=1))
    assert not np.array_equal(draws(50, 3, seed=1), draws(50, 3, seed=2))
    assert not np.array_equal(draws(50, 3, seed=1), draws(50, 3, seed=1, stream=1))


@pytest.mark.parametrize("metric", [Brightness(), Middle(), Hits(), AwayByKernel()])
def test_resamples_at_once_equal_resamples_one_by_one(metric: Metric) -> None:
    """The fast way of each kind of metric, against the definition; a row is not paired with its own repeats."""
    a, b = normal(9, 3, seed=1).values_ND, normal(7, 3, seed=2).values_ND
    if isinstance(metric, RateMetric):
        a = (a > 0).astype(float)
    index_a, index_b = draws(9, 4, seed=3), draws(7, 4, seed=4)
    got = metric.resampled(a, b, index_a, index_b)
    if isinstance(metric, KernelMetric):
        wanted = [_mmd_by_pairs(a, b, i, j) for i, j in zip(index_a, index_b, strict=True)]
    else:
        wanted = [metric.statistic(a[index], b) for index in index_a]
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


def _mmd_by_pairs(a, b, index_a, index_b) -> float:  # type: ignore[no-untyped-def]
    def k(u, v):  # type: ignore[no-untyped-def]
        return (u @ v / len(u) + 1) ** 3

    def within(x, index):  # type: ignore[no-untyped-def]
        return np.mean([k(x[i], x[j]) for i in index for j in index if i != j])

    return float(
        within(a, index_a) + within(b, index_b) - 2 * np.mean([k(a[i], b[j]) for i in index_a for j in index_b])
    )


# ---- two sets --------------------------------------------------------------------------------------------------------


def test_paired_by_name_a_small_difference_shows_that_unpaired_drowns() -> None:
    """Clips differ by 10 levels among themselves, the two checkpoints by one tenth on each."""
    hard = 10 * normal(40, seed=0).values_ND
    a, b = Rows(tuple(f"p{n:02d}" for n in range(40)), hard), Rows(tuple(f"p{n:02d}" for n in range(40)), hard + 0.1)
    other = Rows(tuple(f"q{n:02d}" for n in range(40)), hard + 0.1)
    paired, unpaired = Brightness().difference(a, b), Brightness().difference(a, other)
    assert (paired.difference, paired.n, paired.beyond_noise) == (pytest.approx(0.1), 40, True)
    assert (unpaired.difference, unpaired.n, unpaired.beyond_noise) == (pytest.approx(0.1), 0, False)
    assert unpaired.note == "no clip is in both: resampled apart"


def test_only_clips_that_both_have_are_compared() -> None:
    got = Brightness().difference(rows(1, 2, 3, 50), rows(2, 3, 4))
    assert (got.a, got.b, got.difference, got.n) == (2.0, 3.0, 1.0, 3)
    assert got.note == "only the 3 clips that both have"


def test_two_draws_of_one_source_differ_beyond_noise_about_once_in_20() -> None:
    beyond = sum(
        Brightness().difference(normal(40, seed=2 * s), normal(40, seed=2 * s + 1), bootstrap=300).beyond_noise
        for s in range(100)
    )
    assert beyond <= 12


@pytest.mark.parametrize("metric", [Away(), AwayByKernel()])
def test_a_distance_knows_which_of_two_sets_is_nearer(metric: Metric) -> None:
    real, near, far = normal(60, 4, seed=1), normal(60, 4, seed=2), normal(60, 4, seed=3, mean=1.0)
    got = metric.difference(near, far, real)
    assert got.difference is not None
    assert got.difference > 0
    assert got.beyond_noise
    assert not metric.difference(near, normal(60, 4, seed=4), real).beyond_noise
