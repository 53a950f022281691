"""Figures of a training that had the cluster to itself: rates over all steps, and intervals that cover the truth."""

from __future__ import annotations

import numpy as np
import pytest

from cineray.sweep.measured import after_warmup, figures, step_seconds
from cineray.train.goodput import CAUSES
from cineray.train.verdict import judge


def row(step: int, seconds: float, *, waited: float = 0.0, saved: float = 0.0) -> dict[str, float]:
    told = {
        "step": step,
        "step_s": seconds + saved,
        "checkpoint_s": saved,
        "validation_s": 0.0,
        "clips": 8,
        "frames": 32,
    }
    return told | {"data_wait_s": waited, "longest_wait_s": waited, "gpu_stall_s": np.nan, "mfu": np.nan}


def test_rates_are_of_all_seconds_that_train() -> None:
    rows = [row(step, 0.5 if step % 2 else 1.5, waited=0.25, saved=3.0 * (step == 4)) for step in range(10)]
    found = figures([rows])
    assert {name: one["value"] for name, one in found.items()} == {
        "clips_per_s": pytest.approx(8.0),
        "frames_per_s": pytest.approx(32.0),
        "data_wait": pytest.approx(0.25),
    }, "the ledger knows no GPU, and without prices there is no cost"
    assert found["clips_per_s"]["n"] == 10
    assert step_seconds(rows[4]) == 1.5


def test_mfu_is_the_same_figure_in_the_sweep_and_alone() -> None:
    """Of all seconds that train, and not of most steps: a third of these waits nine times as long."""
    flops = 0.6  # of what the device could in a second
    rows = [row(step, 0.9 if step % 3 == 0 else 0.1, saved=1.1 * (step == 5)) for step in range(12)]
    told = {"attempt": 1, "at": 99.0, "bucket": "4x16x16", "compute_s": 0.1}
    rows = [told | one | {"mfu": 0.1 * flops / one["step_s"]} for one in rows]
    alone = figures([rows])["mfu"]["value"]
    assert alone == pytest.approx(0.1 * flops * 12 / (4 * 0.9 + 8 * 0.1))
    steady = 2  # what a run passes over, as it does for its clips per second
    beside = judge(rows, {"goodput": 1.0, "lifetime_s": 9.0, "seconds": dict.fromkeys(CAUSES, 0.0)}, driver="ray")
    assert beside.mfu == pytest.approx(figures([rows[steady:]])["mfu"]["value"])


def test_money_for_a_million_clips_follows_from_the_pace() -> None:
    found = figures([[row(step, 2.0) for step in range(20)]], rate_per_hour=3.6)
    assert found["cost_per_million_clips"]["value"] == pytest.approx(3.6 / 3600 * 2.0 / 8 * 1e6)


def test_steps_that_began_in_the_warm_up_do_not_count() -> None:
    """Of three slow ones of 5 s the last begins in the 11th second; the first that counts begins in the 16th."""
    rows = [row(step, 5.0 if step < 3 else 1.0) for step in range(13)]
    kept = after_warmup(list(reversed(rows)), 12.0)
    assert [one["step"] for one in kept] == list(range(3, 13))
    assert figures([kept])["clips_per_s"]["value"] == pytest.approx(8.0)
    assert len(after_warmup(rows, 0.0)) == 13
    assert figures([after_warmup(rows, 50.0)]) == {}


def test_an_interval_covers_the_true_rate_as_often_as_it_says() -> None:
    """Steps in stretches: a slow visit makes ten steps slow together."""
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(60):
        slow = np.repeat(generator.gamma(4, 0.25, 40), 10)
        rows = [row(step, float(seconds)) for step, seconds in enumerate(slow)]
        one = figures([rows], seed=seed)["clips_per_s"]
        hits += one["low"] <= 8.0 <= one["high"]
    assert hits >= 50, "about 95 % of 60; one by one they would cover it in about 30"


@pytest.mark.parametrize("trainings", [2, 3, 5])
def test_an_interval_over_few_trainings_covers_the_true_rate_as_often_as_it_says(trainings: int) -> None:
    """Each training has a pace of its own, 5 % apart, beside steps that differ: resampling two such trainings covers
    the truth in 60 of 100, three in 80."""
    generator = np.random.default_rng(trainings)
    hits = {"clips_per_s": 0, "data_wait": 0}
    for _ in range(300):
        kept = []
        for pace in np.exp(0.05 * generator.standard_normal(trainings)):
            steps = pace * np.repeat(generator.gamma(100, 0.01, 6), 10)
            share = 0.2 + 0.02 * generator.standard_normal()
            kept.append([row(step, float(one), waited=share * float(one)) for step, one in enumerate(steps)])
        found = figures(kept)
        for name, truth in (("clips_per_s", 8.0), ("data_wait", 0.2)):
            hits[name] += found[name]["low"] <= truth <= found[name]["high"]
    assert all(275 <= hit <= 296 for hit in hits.values()), f"285 of 300, and what chance makes of that: {hits}"


def test_of_a_share_an_interval_does_not_leave_what_a_share_can_be() -> None:
    found = figures([[row(step, 1.0, waited=share) for step in range(9)] for share in (0.0, 0.3)])["data_wait"]
    assert (found["low"], found["high"]) == (0.0, 1.0), "two trainings that differ so much say nothing"
    assert found["value"] == pytest.approx(0.15)


def test_trainings_that_differ_are_less_sure_than_ones_that_agree() -> None:
    def width(*seconds: float) -> float:
        one = figures([[row(step, pace) for step in range(50)] for pace in seconds])["clips_per_s"]
        return float(one["high"] - one["low"])

    assert width(1.0, 1.0) == pytest.approx(0)
    assert width(1.0, 2.0) > 3
