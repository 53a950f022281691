"""What a trial costs: the share of each machine that nobody else can use because of it."""

from __future__ import annotations

import math
from types import ModuleType

import pytest

from cineray.errors import UsageError
from cineray.sweep import Choice, NodePrice, PricesConfig
from cineray.sweep.capacity import Share
from cineray.sweep.costs import bill_of, cost_of, machines, rate_per_hour
from cineray.sweep.trial_job import trial_job

GPU, CPU = NodePrice(per_hour=32, cpus=64, gpus=8), NodePrice(per_hour=4, cpus=16)


def rate(made: ModuleType, prices: PricesConfig, *, workers: int, gpus: int | None, decode: int) -> float:
    job = made.base_job(
        parallel={"workers": workers, "gpus_per_worker": gpus, "cpus_per_worker": 2}, feed={"workers": decode}
    )
    return rate_per_hour(job, prices)


def test_a_machine_is_taken_by_its_scarcer_part() -> None:
    assert machines(GPU, cpus=16, gpus=4) == 0.5
    assert machines(GPU, cpus=64, gpus=1) == 1.0
    assert machines(CPU, cpus=4) == 0.25


@pytest.mark.parametrize(
    ("decode_on", "expected"),
    [
        ("", 32 * 2 / 8),  # 2 GPUs of 8 are more than 4 + 12 cores of 64
        ("cpu", 32 * 2 / 8 + 4 * 12 / 16),
    ],
)
def test_decoding_costs_where_it_takes_machines_of_its_own(made: ModuleType, decode_on: str, expected: float) -> None:
    prices = PricesConfig(nodes={"gpu": GPU, "cpu": CPU}, train="gpu", decode=decode_on)
    assert rate(made, prices, workers=2, gpus=1, decode=12) == expected


def test_a_trainer_takes_a_gpu_where_there_is_one(made: ModuleType) -> None:
    of_gpus = PricesConfig(nodes={"gpu": GPU}, train="gpu")
    of_cpus = PricesConfig(nodes={"cpu": CPU}, train="cpu")
    assert rate(made, of_gpus, workers=1, gpus=None, decode=1) == 32 / 8
    assert rate(made, of_cpus, workers=1, gpus=None, decode=2) == 4 * 4 / 16
    with pytest.raises(UsageError, match="a machine of type cpu has none"):
        rate(made, of_cpus, workers=1, gpus=1, decode=2)


def test_who_is_given_a_larger_share_pays_for_it_and_nobody_decodes_with_more(made: ModuleType) -> None:
    """A core is 1 an hour; each trial trains on one."""
    prices = PricesConfig(nodes={"cpu": NodePrice(per_hour=8, cpus=8)}, train="cpu")
    job = made.judged(made.sweep_job(base=made.base_job(feed={"cpus_per_task": 0.5})))
    rates = [rate_per_hour(trial_job(job, {"stride": 1}, share=Share(cpus)), prices) for cpus in (0.5, 1.0, 3.0)]
    assert rates == [1.5, 2.0, 4.0]
    by_workers = made.sweep_job(space={"workers": Choice(field="feed.workers", values=(2, 0))})
    with pytest.raises(UsageError, match=r"feed\.workers is 0, .* also for those of other trials"):
        trial_job(made.judged(by_workers), {"workers": 0}, share=Share(2.0))


def test_money_is_seconds_at_a_rate() -> None:
    assert cost_of(1800, 3.0) == 1.5
    assert math.isnan(cost_of(1800, None))


def test_a_sweep_is_paid_for_more_than_seconds_of_training() -> None:
    trained = {"rate_per_hour": 36.0, "spent_seconds": 100.0, "wall_seconds": 130.0, "alone": None}
    told = [
        trained | {"seconds_by_cause": {"productive": 100.0, "init": 20.0, "checkpoint_save": 30.0}},
        trained | {"seconds_by_cause": {}, "alone": {"seconds": 10.0, "repeats": 3}},
        # It failed before it was judged, and has no report.
        {"rate_per_hour": 36.0, "spent_seconds": 0.0, "wall_seconds": None, "alone": None}
        | {"seconds_by_cause": {"init": 15.0}},
    ]
    assert bill_of(told) == {"training": pytest.approx(2.0), "whole": pytest.approx(1.5 + 1.6 + 0.15)}
    assert bill_of([one | {"rate_per_hour": None} for one in told]) == {}
