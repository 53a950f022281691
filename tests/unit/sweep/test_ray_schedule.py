"""Who ends early: Tune's schedulers are told what trials showed, without any trial or cluster; reasons come out."""

from __future__ import annotations

import math
import random
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cineray.sweep import (
    Asha,
    DataBoundConfig,
    JudgeConfig,
    Median,
    NodePrice,
    ObjectiveSpec,
    Pbt,
    PricesConfig,
    SweepJob,
    TrialBudget,
)
from cineray.sweep.parameters import FloatRange

pytest.importorskip("ray")
from cineray.sweep.clock import Clock
from cineray.sweep.ray_schedule import bound_by_data, scheduler_of, with_score
from cineray.sweep.trial_job import budget_seconds, trial_job


class Told(list[tuple[int, str, str]]):
    """What the scheduler says of trials that it ends."""

    def __call__(self, number: int, state: str, why: str) -> None:
        self.append((number, state, why))


def trial(number: int) -> Any:
    """As Tune names it: anew at every start."""
    return SimpleNamespace(trial_id=f"{id(object()):x}", config={"number": number})


def report(job: SweepJob, *, seconds: float, loss: float, waited: float = 0.0) -> dict[str, Any]:
    told = {"seconds": seconds, "step": int(seconds), "validation/headline": loss, "data_wait_fraction": waited}
    return with_score(job, told)


@pytest.fixture
def job(made: ModuleType) -> SweepJob:
    return made.sweep_job(
        objectives=(ObjectiveSpec(name="noisiest_loss"),), budget=TrialBudget(seconds=40), scheduler=Asha(first=0.25)
    )


def told_all(scheduler: Any, job: SweepJob, losses: dict[int, list[float]]) -> list[str]:
    """Trials one after the other, judged after 10, 20, 30 s; the decisions that Tune gets."""
    decisions = []
    for number, course in losses.items():
        one = trial(number)
        scheduler.on_trial_add(None, one)
        for at, loss in enumerate(course):
            decisions.append(
                scheduler.on_trial_result(None, one, report(job, seconds=10.0 * (at + 1) + 0.1, loss=loss))
            )
        scheduler.on_trial_complete(None, one, report(job, seconds=40.0, loss=course[-1]))
    return decisions


def test_asha_ends_the_worse_half_at_its_rungs_and_says_why(job: SweepJob) -> None:
    told = Told()
    decisions = told_all(
        scheduler_of(job, told, dict), job, {0: [0.5, 0.4, 0.3], 1: [0.9], 2: [0.4, 0.9, 0.8], 3: [0.45, 0.3]}
    )
    assert [(number, state) for number, state, _ in told] == [(1, "stopped"), (2, "stopped")]
    assert told[0][2] == (
        "asha: noisiest loss was 0.9 after 10.1 seconds; of the trials that got there the best 1 in 2 go on"
    )
    assert "after 20.1 seconds" in told[1][2]
    assert set(decisions) == {"CONTINUE"}, "a trial is told to end, and ends itself; Tune would only kill it"


def test_what_an_ending_trial_still_shows_decides_nothing(job: SweepJob) -> None:
    told = Told()
    told_all(scheduler_of(job, told, dict), job, {0: [0.5, 0.4], 1: [0.9, 0.95, 0.99]})
    assert [number for number, *_ in told] == [1]


def test_a_trial_that_has_trained_to_its_end_is_not_ended(job: SweepJob) -> None:
    told = Told()
    scheduler = scheduler_of(job, told, dict)
    scheduler.replay(0, [report(job, seconds=10.1, loss=0.5)])
    one = trial(1)
    scheduler.on_trial_add(None, one)
    scheduler.on_trial_result(None, one, report(job, seconds=10.1, loss=0.9) | {"last": True})
    assert told == []


def test_losses_that_are_no_numbers_are_not_compared(job: SweepJob) -> None:
    told = Told()
    told_all(scheduler_of(job, told, dict), job, {0: [0.5], 1: [math.nan]})
    assert told == []


def test_a_sweep_that_is_started_again_knows_what_trials_showed(job: SweepJob) -> None:
    told = Told()
    scheduler = scheduler_of(job, told, dict)
    scheduler.replay(0, [report(job, seconds=10.1, loss=0.5), report(job, seconds=20.1, loss=0.4)])
    scheduler.replay(1, [report(job, seconds=10.1, loss=0.6)])
    assert told == [], "what was decided then is not decided again"
    told_all(scheduler, job, {1: [0.6, 0.3], 2: [0.9]})
    assert [number for number, *_ in told] == [2], "compared with trials 0 and 1; a rung is passed once"


def test_median_stopping_compares_with_the_trials_before(made: ModuleType) -> None:
    job = made.sweep_job(
        objectives=(ObjectiveSpec(name="noisiest_loss"),),
        budget=TrialBudget(seconds=40),
        scheduler=Median(first=0.25, least_trials=2),
    )
    told = Told()
    scheduler = scheduler_of(job, told, dict)
    scheduler.replay(0, [report(job, seconds=at, loss=0.5) for at in (10.1, 20.1, 40.0)])
    decisions = told_all(scheduler, job, {1: [0.7, 0.6], 2: [0.8, 0.4], 3: [0.5, 0.5]})
    assert [(number, state) for number, state, _ in told] == [(2, "stopped")]
    assert told[0][2].startswith("median: the best noisiest loss so far, 0.8 after 10.1 seconds")
    assert set(decisions) == {"CONTINUE"}


def loss_of(job: SweepJob, seconds: float, loss: float) -> dict[str, Any]:
    return report(job, seconds=seconds, loss=loss)


def median_job(made: ModuleType, **told: Any) -> SweepJob:
    names = (ObjectiveSpec(name="noisiest_loss"),)
    job: SweepJob = made.sweep_job(
        objectives=names, **{"budget": TrialBudget(seconds=40), "scheduler": Median()} | told
    )
    return job


def test_median_stopping_compares_trials_that_were_judged_a_moment_after_one_another(made: ModuleType) -> None:
    """Judged at the first step after 10.5 s, 21 s and 31.5 s, each as its steps happen to fall."""
    job = median_job(made)
    drawn = random.Random(0)
    ended = 0
    for _ in range(100):
        told = Told()
        scheduler = scheduler_of(job, told, dict)
        for number in range(4):
            course = [loss_of(job, 10.5 * at + drawn.uniform(0, 0.1), 0.5) for at in (1, 2, 3)]
            scheduler.replay(number, [*course, loss_of(job, drawn.uniform(39, 41), 0.4)])
        scheduler.on_trial_result(None, trial(9), loss_of(job, 10.5 + drawn.uniform(0, 0.1), 50.0))
        ended += len(told)
    assert ended == 100


def test_median_stopping_compares_with_what_was_shown_until_then_and_not_with_ends(made: ModuleType) -> None:
    """Who ended a moment before its time was not that good at its last judgement."""
    job = median_job(made)
    told = Told()
    scheduler = scheduler_of(job, told, dict)
    for number in range(4):
        scheduler.replay(number, [loss_of(job, at, 1.0) for at in (10.6, 21.1, 31.6)] + [loss_of(job, 39.5, 0.0)])
    one = trial(9)
    for at in (10.5, 21.0, 31.5):
        scheduler.on_trial_result(None, one, loss_of(job, at, 0.99))
    assert told == []


def test_median_stopping_ends_nobody_before_its_first_share(made: ModuleType) -> None:
    """Of 40 s the judgement after 10.5 s is before 0.3 of them, and behind 0.26 of them."""
    for first, ended in ((0.3, 0), (0.26, 1)):
        job, told = median_job(made, scheduler=Median(first=first)), Told()
        scheduler = scheduler_of(job, told, dict)
        for number in range(4):
            scheduler.replay(number, [loss_of(job, 10.6, 0.5), loss_of(job, 21.1, 0.5)])
        scheduler.on_trial_result(None, trial(9), loss_of(job, 10.5, 50.0))
        assert len(told) == ended


def test_a_judgement_that_is_made_again_after_a_kill_or_told_again_at_the_end_counts_once(made: ModuleType) -> None:
    job = median_job(made)
    scheduler = scheduler_of(job, Told(), dict)
    course = [loss_of(job, 10.6, 0.5), loss_of(job, 21.1, 0.4)]
    scheduler.replay(3, course)
    one = trial(3)
    scheduler.on_trial_add(None, one)
    scheduler.on_trial_result(None, one, {**course[1], "seconds": 21.3})
    end = loss_of(job, 40.1, 0.3)
    scheduler.on_trial_result(None, one, end)
    scheduler.on_trial_complete(None, one, end)
    (shown,) = scheduler._results.values()
    assert [(told["seconds"], told["score"]) for told in shown] == [(10, 0.5), (20, 0.4), (40, 0.3)]


def test_a_judgement_counts_as_of_its_part_of_the_budget(made: ModuleType) -> None:
    seconds, steps = median_job(made), median_job(made, budget=TrialBudget(steps=10))
    assert [Clock.of(seconds).judged_at(seconds, {"seconds": at}) for at in (10.5, 24.0, 40.2, 43)] == [10, 20, 40, 40]
    assert [Clock.of(steps).judged_at(steps, {"step": at}) for at in (3, 6, 9, 10)] == [2.5, 5, 7.5, 10]
    by_clips = median_job(made, budget=TrialBudget(clips=100))
    told = [Clock.of(by_clips).judged_at(by_clips, {"clips": at}) for at in (64, 128)]
    assert told == [50, 100], "two steps of 64 are all of 100, and no more"
    clips = median_job(made, scheduler=Median(unit="clips", longest=1000))
    assert Clock.of(clips).judged_at(clips, {"clips": 333}) == 333, "trials are judged at unlike numbers of clips"


@pytest.mark.parametrize("unit", ["seconds", "cost"])
def test_of_many_judgements_each_counts_as_the_one_that_it_is(made: ModuleType, unit: str) -> None:
    """The 19th of 20 by the clock comes at nearly the 20th even share of it, a step earlier or later."""
    prices = PricesConfig(nodes={"a": NodePrice(per_hour=36, cpus=4)}, train="a")
    job = median_job(made, budget=TrialBudget(**{unit: 40}), judge=JudgeConfig(times=20), prices=prices)
    definite = made.judged(job)
    every = trial_job(definite, {"stride": 1}).validation.every_seconds
    assert every is not None
    every *= 40 / budget_seconds(definite, definite.base)  # as much of the budget
    for late in (0.0, 0.001, 0.05, 0.9 * every):
        told = [Clock.of(job).judged_at(job, {unit: every * number + late}) for number in range(1, 19)]
        assert told == pytest.approx([2.0 * number for number in range(1, 19)])
    assert Clock.of(job).judged_at(job, {unit: 19 * every + 0.05}) == pytest.approx(38)


@pytest.mark.parametrize(
    ("waited", "seconds", "why"),
    [
        (0.6, 20, "waited for data 60% of its training, which is more than data_bound.share=50%"),
        (0.4, 20, ""),
        (0.6, 5, ""),
        (math.nan, 20, ""),
    ],
    ids=["bound", "below", "too early", "not known"],
)
def test_trials_that_mostly_wait_for_data_end_and_say_so(
    made: ModuleType, waited: float, seconds: float, why: str
) -> None:
    job = made.sweep_job(budget=TrialBudget(seconds=40), data_bound=DataBoundConfig(share=0.5))
    assert bound_by_data(job, {"seconds": seconds, "data_wait_fraction": waited}) == why
    told = Told()
    scheduler = scheduler_of(job, told, dict)
    scheduler.on_trial_result(None, trial(3), {"seconds": seconds, "data_wait_fraction": waited})
    assert told == ([(3, "data-bound", why)] if why else [])


def test_budgets_are_counted_in_their_own_unit(made: ModuleType) -> None:
    job = made.sweep_job(
        objectives=(ObjectiveSpec(name="noisiest_loss"),),
        budget=TrialBudget(steps=40),
        scheduler=Asha(first=0.25),
        data_bound=DataBoundConfig(share=0.5),
    )
    told = Told()
    told_all(scheduler_of(job, told, dict), job, {0: [0.5], 1: [0.9]})
    assert told[0][2].startswith("asha: noisiest loss was 0.9 after 10 step")
    assert bound_by_data(job, {"step": 10, "data_wait_fraction": 0.9})
    assert not bound_by_data(job, {"step": 9, "data_wait_fraction": 0.9})


def test_a_member_that_takes_over_keeps_its_number_and_gets_values_near_the_better_ones(made: ModuleType) -> None:
    job = made.sweep_job(
        space={"lr": FloatRange(field="optimiser.lr", low=1e-5, high=1e-1, log=True)},
        objectives=(ObjectiveSpec(name="noisiest_loss"),),
        scheduler=Pbt(explore=("lr",), resample=0.0),
    )
    scheduler = scheduler_of(job, Told(), dict)
    worse, better = trial(4), trial(2)
    worse.last_result = {"step": 10}
    worse.config |= {"values": '{"lr": 0.05}', "sweep": "here"}
    better.config |= {"values": '{"lr": 0.001}', "sweep": "here"}
    config, _ = scheduler._get_new_config(worse, better)
    assert (config["number"], config["sweep"]) == (4, "here")
    assert config["values"] in {'{"lr": 0.0008}', '{"lr": 0.00125}'}
