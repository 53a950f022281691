"""A run that has seconds and not steps: where it ends, that its rates fall to that end, and that it is judged by time.

The clock is the test's own: a step takes as long as the test says, so nothing here waits and nothing depends on speed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from cineray.errors import UsageError
from cineray.train.config import BudgetConfig, CheckpointConfig, OptimiserConfig, ValidationConfig
from cineray.train.diffusion_task import DiffusionTask
from cineray.train.ending import Ending, Planned, check_same_budget, keep_planned, planned_steps, read_planned
from cineray.train.loop import Loop, NoRecord, StepFacts, TrainResult
from cineray.train.parallel import World
from cineray.train.run_folder import RunFolder
from cineray.train.setup import make_learner
from cineray.train.stop import StopRequest


class Clock(NoRecord):
    """Each step takes so many seconds; `seconds_of` says how many."""

    def __init__(self, seconds_of: Any = lambda step: 1.0) -> None:
        self._of, self._spent = seconds_of, 0.0
        self.facts: list[StepFacts] = []
        self.judged: list[tuple[int, float]] = []

    def goes_on_from(self, training_seconds: float) -> None:
        self._spent = training_seconds

    def training_seconds(self) -> float:
        return self._spent

    def stepped(self, facts: StepFacts, batch: Any) -> None:
        self._spent += self._of(facts.step)
        self.facts.append(facts)

    def validated(self, step: int, metrics: Mapping[str, float]) -> None:
        self.judged.append((step, self._spent))


class Shelf:
    """Checkpoints in memory."""

    def __init__(self) -> None:
        self.saved: dict[int, Any] = {}

    def latest(self) -> Any:
        return self.saved[max(self.saved)] if self.saved else None

    def load(self, state: dict[str, Any], info: Any) -> None:
        state.clear()
        state.update(copy.deepcopy(info.state))

    def save(self, state: Any, step: int, metrics: Any = None, *, blocking: bool = False) -> float:
        self.saved[step] = SimpleNamespace(step=step, metrics=dict(metrics), state=copy.deepcopy(dict(state)))
        return 0.0

    def poll(self) -> None: ...


class Judge:
    def measure(self, task: DiffusionTask, model: torch.nn.Module, step: int) -> dict[str, float]:
        return {"validation/headline": 1.0}


@pytest.fixture
def run(made: ModuleType) -> Any:
    def start(job: Any, clock: Clock, **told: Any) -> tuple[TrainResult, Loop]:
        task = DiffusionTask(job, validation=Judge())
        batches = told.pop("batches", made.made_batches)
        loop = Loop(job, task, make_learner(job, task, World()), batches, world=World(), recorder=clock, **told)
        return loop.run(), loop

    return start


def adamw(**told: Any) -> OptimiserConfig:
    return OptimiserConfig(**({"kind": "adamw", "warmup_steps": 3, "decay_fraction": 0.3} | told))


def test_its_rates_fall_to_the_step_at_which_its_seconds_are_over(made: ModuleType, run: Any) -> None:
    """Ten seconds, a second a step: after seven of them three steps are left, and in these the rates fall. The loop
    knows of a step's seconds one step later, so it looks at step 8, and the run has 12."""
    clock, kept = Clock(), []
    job = made.job_of(steps=1000, budget=BudgetConfig(seconds=10), optimiser=adamw())
    ended, loop = run(job, clock, ending=Ending(job, keep=kept.append))
    assert kept == [Planned(steps=12, at_step=8, spent_seconds=7.0, budget_seconds=10.0)]
    assert (ended.next_step, ended.stopped) == (12, "")
    rates = [round(facts.lr / job.optimiser.lr, 4) for facts in clock.facts]
    assert rates == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    same, straight = Clock(), made.job_of(steps=12, optimiser=adamw())
    _, other = run(straight, same)
    assert [(facts.loss, facts.lr) for facts in same.facts] == [(facts.loss, facts.lr) for facts in clock.facts]
    weights = loop.learner.state()["ema"]
    assert all(torch.equal(value, weights[name]) for name, value in other.learner.state()["ema"].items())


def test_constant_rates_end_with_the_step_that_the_seconds_are_over_at(made: ModuleType, run: Any) -> None:
    clock = Clock()
    job = made.job_of(steps=1000, budget=BudgetConfig(seconds=6), optimiser=adamw(schedule="constant"))
    ended, _ = run(job, clock)
    assert ended.next_step == 7, "what step 6 took is known with step 7"
    assert [facts.lr for facts in clock.facts[3:]] == [job.optimiser.lr] * 4


def test_steps_are_the_most_that_a_run_has_however_many_seconds_are_left(made: ModuleType, run: Any) -> None:
    clock, straight = Clock(), Clock()
    run(made.job_of(steps=10, budget=BudgetConfig(seconds=1000), optimiser=adamw()), clock)
    run(made.job_of(steps=10, optimiser=adamw()), straight)
    assert [facts.lr for facts in clock.facts] == [facts.lr for facts in straight.facts]
    assert len(clock.facts) == 10


def test_whoever_goes_on_with_it_goes_on_to_the_same_end_whatever_its_machine_does(made: ModuleType, run: Any) -> None:
    """Stopped at step 10 of 12 and gone on with where a step takes a hundred times as long."""
    job = made.job_of(steps=1000, budget=BudgetConfig(seconds=10), optimiser=adamw())
    whole, first, second, shelf, stop = Clock(), Clock(), Clock(lambda step: 100.0), Shelf(), StopRequest()
    run(job, whole)

    def until_ten(steps: range) -> Any:
        for batch in made.made_batches(steps):
            if batch.step == 9:
                stop.wish("enough")
            yield batch

    kept: list[Planned] = []
    told = {"keeper": shelf, "ending": Ending(job, keep=kept.append)}
    ended, _ = run(job, first, stop=stop, batches=until_ten, **told)
    assert (ended.next_step, shelf.saved[10].metrics["training_seconds"]) == (10, 10.0)
    ended, _ = run(job, second, keeper=shelf, ending=Ending(job, steps=kept[0].steps))
    assert (ended.first_step, ended.next_step) == (10, 12)
    assert second.training_seconds() == 210.0
    told_whole = [(facts.loss, facts.lr) for facts in whole.facts]
    assert [(facts.loss, facts.lr) for facts in first.facts + second.facts] == told_whole


def test_a_run_that_is_gone_on_with_before_its_end_is_fixed_counts_on(made: ModuleType, run: Any) -> None:
    job = made.job_of(steps=1000, budget=BudgetConfig(seconds=10), optimiser=adamw())
    shelf, stop, second = Shelf(), StopRequest(), Clock()

    def until_four(steps: range) -> Any:
        for batch in made.made_batches(steps):
            if batch.step == 3:
                stop.wish("enough")
            yield batch

    run(job, Clock(), stop=stop, batches=until_four, keeper=shelf)
    ended, _ = run(job, second, keeper=shelf)
    assert (ended.first_step, ended.next_step) == (4, 12)
    assert second.training_seconds() == 12.0


def test_seconds_that_end_within_the_warm_up_end_the_run_and_say_so(made: ModuleType, run: Any) -> None:
    clock = Clock()
    job = made.job_of(steps=1000, budget=BudgetConfig(seconds=4), optimiser=adamw(warmup_steps=99))
    with pytest.warns(UserWarning, match=r"ends this run at step 6, within its warm-up of 99 steps"):
        run(job, clock)
    assert [facts.lr / job.optimiser.lr for facts in clock.facts] == pytest.approx([n / 100 for n in range(1, 7)])


@pytest.mark.parametrize("decay", [0.05, 0.1, 0.25, 0.3, 0.5, 0.7, 0.95])
def test_no_rate_before_the_end_is_fixed_depends_on_where_it_is(made: ModuleType, decay: float) -> None:
    """For any step at which it is fixed: all rates till then are those of a run with so many steps."""
    from cineray.train.schedule import rate_at

    config = adamw(decay_fraction=decay)
    job = made.job_of(steps=10**9, budget=BudgetConfig(seconds=1), optimiser=config)
    for done in range(3, 200):
        ending = Ending(job)
        ending.look(done, 1.0)
        before = [rate_at(config, step, 10**9) for step in range(done)]
        assert [rate_at(config, step, ending.steps) for step in range(done)] == before, (done, ending.steps)
        assert ending.steps * (1 - decay) < done + 1, "and it is the nearest such number"


def test_it_is_judged_at_multiples_of_its_seconds_and_at_its_end(made: ModuleType, run: Any) -> None:
    """Steps of 0.75 s, judged every 2 s: with the first step at whose beginning another two are over. One step that
    takes 5 s passes 8 and 10, and is judged once for both."""
    clock = Clock(lambda step: 5.0 if step == 9 else 0.75)
    judging = ValidationConfig(every_steps=0, every_seconds=2)
    run(made.job_of(steps=16, validation=judging, optimiser=adamw()), clock)
    assert clock.judged == [(4, 3.0), (7, 5.25), (9, 6.75), (11, 12.5), (12, 13.25), (14, 14.75), (16, 16.25)]


def test_a_restart_neither_repeats_nor_forgets_a_judgement(made: ModuleType, run: Any) -> None:
    shelf, stop, first, second = Shelf(), StopRequest(), Clock(), Clock()
    job = made.job_of(steps=12, validation=ValidationConfig(every_steps=0, every_seconds=4), optimiser=adamw())

    def until_six(steps: range) -> Any:
        for batch in made.made_batches(steps):
            if batch.step == 5:
                stop.wish("enough")
            yield batch

    run(job, first, keeper=shelf, stop=stop, batches=until_six)
    run(job, second, keeper=shelf)
    assert first.judged + second.judged == [(5, 5.0), (9, 9.0), (12, 12.0)]


@pytest.mark.parametrize(
    ("optimiser", "why"),
    [
        ({"schedule": "cosine"}, "optimiser.schedule is cosine, which must know the last step"),
        ({"decay_fraction": 1.0}, "optimiser.decay_fraction is 1"),
    ],
)
def test_rates_that_fall_from_the_first_step_on_are_refused(made: ModuleType, optimiser: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        made.job_of(budget=BudgetConfig(seconds=10), optimiser=adamw(**optimiser))
    made.job_of(budget=BudgetConfig(), optimiser=adamw(**optimiser))


def test_what_a_run_fixed_lies_in_its_folder_and_other_seconds_come_too_late(made: ModuleType, tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), {})
    job = made.job_of(steps=1000, budget=BudgetConfig(seconds=10), optimiser=adamw())
    assert (read_planned(folder), planned_steps(folder, job)) == (None, 1000)
    planned = Planned(steps=12, at_step=8, spent_seconds=7.0, budget_seconds=10.0)
    keep_planned(folder, planned)
    keep_planned(folder, Planned(steps=99, at_step=70, spent_seconds=7.0, budget_seconds=10.0))
    assert (read_planned(folder), planned_steps(folder, job)) == (planned, 12), "the first one stays"
    check_same_budget(folder, job)
    with pytest.raises(
        UsageError, match=r"ends after step 12, which was fixed at step 8 for budget.seconds=10, and 60"
    ):
        check_same_budget(folder, made.job_of(steps=1000, budget=BudgetConfig(seconds=60), optimiser=adamw()))
    by_steps = made.job_of(steps=20, checkpoint=CheckpointConfig(), optimiser=adamw())
    check_same_budget(folder, by_steps)
    assert planned_steps(folder, by_steps) == 20, "without a budget the steps say it"


def test_an_end_that_is_far_away_warns_nobody(made: ModuleType) -> None:
    ending = Ending(made.job_of(steps=1000, budget=BudgetConfig(seconds=10), optimiser=adamw()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ending.look(8, 7.0)
    assert (ending.steps, ending.rated_steps) == (12, 12)
