"""Members of a population that take turns: a stand-in for Tune's controller asks the scheduler who is next, trains that
one to its next judgement, and does what the scheduler says. No actor and no cluster; who ends on the way is varied.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cineray.sweep import ObjectiveSpec, Pbt, SweepJob, TrialBudget
from cineray.sweep.parameters import FloatRange

pytest.importorskip("ray")
from ray.tune.experiment import Trial

from cineray.sweep.ray_schedule import scheduler_of, with_score

WHOLE = 40
"""Steps of a member; it is judged every 5 of them, and compared every 10."""


class Member:
    """What the scheduler needs of Tune's trial."""

    def __init__(self, number: int) -> None:
        self.config: dict[str, Any] = {"number": number, "sweep": "here"}
        self.trial_id, self.status, self.at = f"t{number}", Trial.PENDING, 0
        self.experiment_tag, self.last_result = "", dict[str, Any]()
        self.temporary_state = SimpleNamespace(saving_to=None)
        config = SimpleNamespace(num_to_keep=None)
        latest = SimpleNamespace(checkpoint_config=config, _latest_checkpoint_result=None)
        self.run_metadata = SimpleNamespace(checkpoint_manager=latest)
        self.taken: list[int] = []

    @property
    def number(self) -> int:
        return int(self.config["number"])

    @property
    def checkpoint(self) -> str:
        return f"{self.number}@{self.at}"

    def is_finished(self) -> bool:
        return self.status in (Trial.TERMINATED, Trial.ERROR)

    def set_experiment_tag(self, tag: str) -> None:
        pass

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config

    def go_on(self) -> None:
        """Its actor starts again: where it is told to take over, from there."""
        pointer = self.run_metadata.checkpoint_manager._latest_checkpoint_result
        if pointer is not None:
            number, _, step = pointer.checkpoint.partition("@")
            self.taken.append(int(number))
            self.at = int(step)
            self.run_metadata.checkpoint_manager._latest_checkpoint_result = None


class Controller:
    """One place. `ends`: member -> the step at which it ends, and how."""

    search_alg = None

    def __init__(self, scheduler: Any, job: SweepJob, members: int, ends: dict[int, tuple[int, str]]) -> None:
        self.scheduler, self.job, self.ends = scheduler, job, ends
        self.members = [Member(number) for number in range(members)]
        self.before_each: Callable[[Member], None] = lambda _: None
        for one in self.members:
            scheduler.on_trial_add(self, one)

    def get_trials(self) -> list[Member]:
        return self.members

    def get_live_trials(self) -> set[Member]:
        """As Tune's: those that failed for good are still in there."""
        return {one for one in self.members if one.status != Trial.TERMINATED}

    def _schedule_trial_save(self, one: Member, result: Any) -> str:  # only Tune's own way asks for it
        return one.checkpoint

    def pause_trial(self, one: Member, should_checkpoint: bool = True) -> None:  # the same
        one.status = Trial.PAUSED

    def stop_trial(self, one: Member) -> None:
        one.status = Trial.TERMINATED

    def run(self) -> None:
        """Until nobody is left, as Tune would; raises where Tune would wait for ever."""
        for _ in range(200):
            one = self.scheduler.choose_trial_to_run(self)
            left = [one for one in self.members if not one.is_finished()]
            if not left:
                return
            # Tune itself begins with those that wait to be begun; only those that are paused wait to be chosen.
            one = one or next((one for one in left if one.status == Trial.PENDING), None)
            assert one is not None, f"nobody is next, and {[one.number for one in left]} wait for ever"
            self.turn(one)
        raise AssertionError("it did not end")

    def turn(self, one: Member) -> None:
        one.status = Trial.RUNNING
        one.go_on()
        while one.status == Trial.RUNNING:
            self.before_each(one)
            if one.is_finished():
                return
            one.at += 5
            at, how = self.ends.get(one.number, (WHOLE, Trial.TERMINATED))
            if one.at >= at:
                one.status = how
                tell = self.scheduler.on_trial_error if how == Trial.ERROR else self.scheduler.on_trial_complete
                tell(self, one, *([] if how == Trial.ERROR else [one.last_result]))
                return
            told = with_score(self.job, {"step": one.at, "validation/headline": 0.1 * (one.number + 1)})
            if self.scheduler.on_trial_result(self, one, told) == "PAUSE":
                one.status = Trial.PAUSED
            one.last_result = told


@pytest.fixture
def job(made: ModuleType) -> SweepJob:
    found: SweepJob = made.sweep_job(
        space={"lr": FloatRange(field="optimiser.lr", low=1e-5, high=1e-1, log=True)},
        objectives=(ObjectiveSpec(name="noisiest_loss"),),
        budget=TrialBudget(steps=WHOLE),
        scheduler=Pbt(every=0.25, quantile=0.25, explore=("lr",), resample=0.0),
        trials=4,
    )
    return found


def scheduler(job: SweepJob, **told: Any) -> Any:
    return scheduler_of(job, lambda *_: None, lambda number: {"lr": 10.0 ** -(number + 1)}, places=1, **told)


def test_all_wait_for_the_last_one_and_then_the_worst_takes_over_from_the_best(job: SweepJob) -> None:
    controller = Controller(scheduler(job), job, 4, {})
    begun: list[tuple[int, int]] = []
    controller.before_each = lambda one: begun.append((one.number, one.at))
    controller.run()
    assert [one.status for one in controller.members] == [Trial.TERMINATED] * 4
    assert begun[:8] == [(0, 0), (0, 5), (1, 0), (1, 5), (2, 0), (2, 5), (3, 0), (3, 5)]
    assert set(begun[8:16]) == {(number, at) for number in range(4) for at in (10, 15)}
    assert [one.taken for one in controller.members] == [[], [], [], [0, 0, 0]], "at 10, 20 and 30 of 40 steps"
    assert json.loads(controller.members[3].config["values"])["lr"] in (0.08, 0.1)


@pytest.mark.parametrize("at", [5, 15, 25], ids=lambda at: f"step {at}")
@pytest.mark.parametrize("how", [Trial.ERROR, Trial.TERMINATED])
@pytest.mark.parametrize("number", [0, 3])
def test_who_ends_on_the_way_is_not_waited_for(job: SweepJob, number: int, how: str, at: int) -> None:
    """By its own config, by its machines, by an interrupt: the last one that the others wait for reports no more."""
    controller = Controller(scheduler(job), job, 4, {number: (at, how)})
    controller.run()
    assert [one.at for one in controller.members if one.number != number] == [WHOLE] * 3
    worst = max(one.number for one in controller.members if one.number != number)
    assert controller.members[worst].taken, "those that are left are compared"


def test_a_member_that_was_told_to_end_is_waited_for_until_it_has_left(job: SweepJob) -> None:
    controller = Controller(asked := scheduler(job), job, 4, {3: (15, Trial.TERMINATED)})
    controller.before_each = lambda one: asked._ending.add(3) if (one.number, one.at) == (3, 5) else None
    controller.run()
    assert [one.at for one in controller.members] == [WHOLE, WHOLE, WHOLE, 15], "what it still showed changed nothing"


def test_when_the_sweep_is_told_to_stop_nobody_that_waits_is_begun_again(job: SweepJob) -> None:
    closing: list[int] = []
    controller = Controller(scheduler(job, is_closing=lambda: bool(closing)), job, 4, {})

    def interrupt(one: Member) -> None:
        if (one.number, one.at) == (2, 5) or closing:  # a trial that is at work, or is begun after that, ends
            closing.append(one.number)
            one.status = Trial.TERMINATED

    controller.before_each = interrupt
    controller.run()
    assert closing == [2, 3]
    assert [one.at for one in controller.members] == [10, 10, 5, 0]


def test_after_a_restart_members_catch_up_and_are_compared_by_what_they_showed_before(job: SweepJob) -> None:
    """Members 0 and 1 had got to step 10, the others had not when the driver was killed."""
    asked = scheduler(job)
    for number, steps in {0: 10, 1: 10, 2: 5}.items():
        asked.replay(
            number, [with_score(job, {"step": steps, "validation/headline": 0.1 * (number + 1), "trial": number})]
        )
    controller = Controller(asked, job, 4, {})
    for number, steps in {0: 10, 1: 10, 2: 5}.items():
        controller.members[number].at = steps
    controller.run()
    assert [one.at for one in controller.members] == [WHOLE] * 4
    assert controller.members[3].taken[0] == 0, "the first comparison after it is one"


def test_who_is_taken_over_from_follows_from_the_seed(job: SweepJob) -> None:
    """And not from what else draws random numbers in the driver's process."""
    half = job.model_copy(update={"scheduler": Pbt(every=0.25, quantile=0.5, explore=("lr",), resample=0.0)})

    def taken() -> list[list[int]]:
        controller = Controller(scheduler(half), half, 4, {})
        controller.run()
        return [one.taken for one in controller.members]

    first = taken()
    assert first[2] + first[3]
    assert [taken() for _ in range(5)] == [first] * 5
