"""Who ends a trial early, or lets it go on from a better one: reports go in, Tune's decisions come out, with reasons.

    asha     Tune's asynchronous halving, over training seconds, clips or steps
    median   Tune's median stopping
    pbt      Tune's population-based training; pointers are its checkpoints, and `explore.py` moves the values
    any      a trial that mostly waits for data ends, too

Tune's schedulers decide; what is added here is that each decision has a reason in words, that a trial near its end is
left alone, and that a sweep which is started again knows what the trials before it showed: reports are told once more.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from cineray.sweep.clock import Clock
from cineray.sweep.config import Asha, Median, Pbt, SweepJob
from cineray.sweep.explore import moved
from cineray.sweep.objectives import Objective, compared_while_training
from cineray.sweep.ray_search import NotKept
from cineray.sweep.search import trials_of
from cineray.sweep.trial_folder import State

SCORE = "score"
"""What schedulers compare: the objective's value, as a key of what Tune is told; absent where it is not known."""

Stopped = Callable[[int, State, str], None]
"""(trial, how it ends, why)"""
ValuesOf = Callable[[int], Mapping[str, Any]]
"""Trial -> the values that it has now."""
IsClosing = Callable[[], bool]
"""Is the sweep told to stop?"""


class _Members:
    """Trials by their numbers: Tune makes new names with every start, and numbers stay."""

    def __init__(self) -> None:
        self._known: dict[int, _Member] = {}

    def of(self, trial: Trial) -> _Member:
        return self.numbered(int(trial.config["number"]))

    def numbered(self, number: int) -> _Member:
        return self._known.setdefault(number, _Member(f"{number:04d}"))


@dataclass(frozen=True, slots=True)
class _Member:
    """Stands for a trial where Tune's schedulers only ask who it is."""

    trial_id: str


class _Reasons(NotKept):
    """What all schedulers here share. Whom they end is told so, with the reason, and ends itself: Tune would wait only
    seconds for a trial to save and to free what it holds, and would begin the next one meanwhile."""

    def _prepare(self, job: SweepJob, stopped: Stopped) -> None:
        self._job, self._stopped_by = job, stopped
        self._ending: set[int] = set()

    def _decide(
        self, trial: Trial, report: Mapping[str, Any], ask: Callable[[], str], why: Callable[[Mapping[str, Any]], str]
    ) -> str:
        """What Tune is told; `ask` asks Tune's own scheduler, `why` says its reason to stop."""
        number = int(trial.config["number"])
        if number in self._ending or report.get("last"):
            return str(TrialScheduler.CONTINUE)
        if bound := bound_by_data(self._job, report):
            return self._end(number, "data-bound", bound)
        decision = ask()
        return self._end(number, "stopped", why(report)) if decision == TrialScheduler.STOP else decision

    def _end(self, number: int, state: State, why: str) -> str:
        self._ending.add(number)
        self._stopped_by(number, state, why)
        return str(TrialScheduler.CONTINUE)


def bound_by_data(job: SweepJob, report: Mapping[str, Any]) -> str:
    """Why a trial should end because it waits for data; empty if it should not."""
    limit, waited = job.data_bound.share, report.get("data_wait_fraction")
    spent = Clock.of_budget(job).share(report)
    if limit is None or waited is None or math.isnan(waited) or waited <= limit or spent < job.data_bound.after:
        return ""
    return f"waited for data {waited:.0%} of its training, which is more than data_bound.share={limit:.0%}"


class FifoByNumber(_Reasons, FIFOScheduler):  # type: ignore[misc]
    """Everybody to the end."""

    def __init__(self, job: SweepJob, stopped: Stopped) -> None:
        super().__init__()
        self._prepare(job, stopped)

    def replay(self, number: int, reports: list[dict[str, Any]]) -> None:
        """Nobody is compared."""

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Tune's question."""
        ask = super().on_trial_result
        return self._decide(trial, result, lambda: str(ask(tune_controller, trial, result)), lambda _: "")


class AshaByNumber(_Reasons, AsyncHyperBandScheduler):  # type: ignore[misc]
    """Tune's, told by numbers."""

    def __init__(self, job: SweepJob, stopped: Stopped, objective: Objective, clock: Clock) -> None:
        assert isinstance(job.scheduler, Asha)
        super().__init__(
            time_attr=clock.key,
            metric=SCORE,
            mode=objective.goal,
            # A little less than all of it: at its very end a trial is not compared any more.
            max_t=clock.longest * (1 - 1e-6),
            grace_period=job.scheduler.first * clock.longest,
            reduction_factor=job.scheduler.reduction,
            stop_last_trials=False,
        )
        self._prepare(job, stopped)
        self._clock, self._objective, self._members = clock, objective, _Members()

    def replay(self, number: int, reports: list[dict[str, Any]]) -> None:
        """Reports of an earlier start; what was decided then is not decided again."""
        member = self._members.numbered(number)
        super().on_trial_add(None, member)
        for report in reports:
            super().on_trial_result(None, member, report)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """A trial begins, or begins again."""
        super().on_trial_add(tune_controller, self._members.of(trial))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Tune's question."""
        ask, member = super().on_trial_result, self._members.of(trial)
        return self._decide(trial, result, lambda: str(ask(tune_controller, member, result)), self._why)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """It ended."""
        super().on_trial_complete(tune_controller, self._members.of(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """It never ran."""
        super().on_trial_remove(tune_controller, self._members.of(trial))

    def _why(self, report: Mapping[str, Any]) -> str:
        assert isinstance(self._job.scheduler, Asha)
        return (
            f"asha: {self._objective.label} was {report[SCORE]:.4g} after {report[self._clock.key]:.4g} "
            f"{self._clock.key}; of the trials that got there the best 1 in {self._job.scheduler.reduction:g} go on"
        )


class MedianByNumber(_Reasons, MedianStoppingRule):  # type: ignore[misc]
    """Tune's, told by numbers."""

    def __init__(self, job: SweepJob, stopped: Stopped, objective: Objective, clock: Clock) -> None:
        assert isinstance(job.scheduler, Median)
        super().__init__(
            time_attr=clock.key,
            metric=SCORE,
            mode=objective.goal,
            grace_period=job.scheduler.first * clock.longest,
            min_samples_required=job.scheduler.least_trials,
            # Never pause a trial for others to catch up: it would start anew each time.
            min_time_slice=math.inf,
        )
        self._prepare(job, stopped)
        self._clock, self._objective, self._members = clock, objective, _Members()

    def replay(self, number: int, reports: list[dict[str, Any]]) -> None:
        """Reports of an earlier start; what was decided then is not decided again."""
        for report in reports:
            if self._is_comparable(report):
                member = self._members.numbered(number)
                self._results[member].append(self._on_time(member, report))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Tune's question."""
        ask, member = super().on_trial_result, self._members.of(trial)
        if not self._is_comparable(result):
            return self._decide(trial, result, lambda: str(TrialScheduler.CONTINUE), self._why)

        def asked() -> str:
            return str(ask(tune_controller, member, self._on_time(member, result)))

        return self._decide(trial, result, asked, self._why)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """It ended; one that was never judged has nothing to compare with."""
        if self._is_comparable(result):
            member = self._members.of(trial)
            super().on_trial_complete(tune_controller, member, self._on_time(member, result))

    def _on_time(self, member: _Member, report: Mapping[str, Any]) -> dict[str, Any]:
        """For Tune to add to what the member showed. Tune averages what others showed up to the asker's time: of those
        judged a moment after it, nothing. A judgement that was made before, and again after a kill, or that is told at
        the end once more, counts once."""
        if (step := report.get("step")) is not None and member in self._results:
            shown = self._results[member]
            shown[:] = [one for one in shown if one.get("step") is None or one["step"] < step]
        real = float(report[self._clock.key])
        counted = self._clock.judged_at(self._job, report)
        if real >= self._grace_period:
            counted = max(counted, self._grace_period)
        before = self._results.get(member)
        if before and counted <= before[-1][self._clock.key]:
            counted = real  # an end that came before its time: it is no second judgement at the one before
        return {**report, self._clock.key: counted}

    def _is_comparable(self, report: Mapping[str, Any]) -> bool:
        return SCORE in report and self._clock.key in report

    def _why(self, report: Mapping[str, Any]) -> str:
        return (
            f"median: the best {self._objective.label} so far, {report[SCORE]:.4g} after "
            f"{report[self._clock.key]:.4g} {self._clock.key}, is worse than the median of the other trials' means"
        )


class PbtByPointers(_Reasons, PopulationBasedTraining):  # type: ignore[misc]
    """Tune's; a trial that takes over keeps its number and gets new values. Its config has them as text: Tune takes
    lists and dictionaries in a config for spaces.

    Members that are at work at once go on while they are compared. Where there are fewer places than members they take
    turns: each goes on to the next point of comparison and waits there, and when nobody is left who has still to get
    there, all that wait are compared. Whoever ends on the way, in whatever way, is not waited for. That is looked at
    whenever Tune asks who is next: Tune's own way is to look when a member reports, and the last one may not.
    """

    def __init__(
        self,
        job: SweepJob,
        stopped: Stopped,
        objective: Objective,
        clock: Clock,
        *,
        values_of: ValuesOf,
        takes_turns: bool,
        is_closing: IsClosing = lambda: False,
    ) -> None:
        assert isinstance(job.scheduler, Pbt)
        super().__init__(
            time_attr=clock.key,
            metric=SCORE,
            mode=objective.goal,
            # Judgements come at or a moment after their time.
            perturbation_interval=job.scheduler.every * clock.longest * (1 - 1e-3),
            quantile_fraction=job.scheduler.quantile,
            custom_explore_fn=lambda config: config,  # Tune wants one; `_get_new_config` does it
            log_config=False,
            require_attrs=False,
            synch=takes_turns,
        )
        self._prepare(job, stopped)
        self._clock, self._objective, self._values_of = clock, objective, values_of
        self._takes_turns, self._is_closing = takes_turns, is_closing
        self._replayed: dict[int, dict[str, Any]] = {}

    def replay(self, number: int, reports: list[dict[str, Any]]) -> None:
        """Reports of an earlier start: when a member was compared last, and how good it was."""
        known = [report for report in reports if SCORE in report]
        if known:
            self._replayed[number] = known[-1]

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """A member begins, or begins again."""
        known = self._trial_state.get(trial)
        super().on_trial_add(tune_controller, trial)
        trial.config.setdefault("values", json.dumps(self._values_of(int(trial.config["number"]))))
        before = self._replayed.get(int(trial.config["number"]))
        if known is not None:
            self._trial_state[trial] = known  # its machine failed; what it had shown counts
        elif before is not None:
            state = self._trial_state[trial]
            state.last_perturbation_time = before[self._clock.key]
            self._save_trial_state(state, before[self._clock.key], before, trial)
        if known is None and self._replayed:
            self._next_perturbation_sync = self._perturbation_interval + min(
                member.last_perturbation_time for member in self._trial_state.values()
            )

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Tune's question."""
        if self._takes_turns:
            return self._decide(trial, result, lambda: self._gets_there(trial, result), lambda _: "")
        ask = super().on_trial_result
        return self._decide(trial, result, lambda: str(ask(tune_controller, trial, result)), lambda _: "")

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Who is next."""
        if self._is_closing():
            for trial in [one for one in tune_controller.get_trials() if one.status == Trial.PAUSED]:
                tune_controller.stop_trial(trial)  # it has saved; begun again, it would only end
            return None
        if self._takes_turns:
            self._compare_those_that_wait(tune_controller)
        return super().choose_trial_to_run(tune_controller)

    def _gets_there(self, trial: Trial, result: dict[str, Any]) -> str:
        """A member that has come to the point of comparison waits there."""
        if SCORE not in result or result.get(self._clock.key, 0.0) < self._next_perturbation_sync:
            return str(TrialScheduler.CONTINUE)
        self._save_trial_state(self._trial_state[trial], result[self._clock.key], result, trial)
        return str(TrialScheduler.PAUSE)

    def _compare_those_that_wait(self, tune_controller: Any) -> None:
        """Once nobody else is to come: the worse ones take over from better ones, and all have a next point."""
        left = [one for one in tune_controller.get_trials() if not one.is_finished()]
        waiting = [one for one in left if one.status == Trial.PAUSED]
        times = [self._trial_state[one].last_train_time for one in waiting]
        if not waiting or len(waiting) < len(left) or min(times) < self._next_perturbation_sync:
            return
        worse, better = self._quantiles()
        for trial in [*better, *(one for one in waiting if one not in worse and one not in better), *worse]:
            self._trial_state[trial].last_perturbation_time = self._next_perturbation_sync
            self._checkpoint_or_exploit(trial, tune_controller, better, worse)
        while self._next_perturbation_sync <= max(times):
            self._next_perturbation_sync += self._perturbation_interval

    def _checkpoint_or_exploit(
        self, trial: Trial, tune_controller: Any, upper_quantile: list[Trial], lower_quantile: list[Trial]
    ) -> None:
        """Tune draws the better one by the process's own random numbers; here it follows from the sweep's seed."""
        better = sorted(upper_quantile, key=lambda one: int(one.config["number"]))
        if trial in lower_quantile:
            drawn = random.Random(f"{self._key(trial)}/from")  # noqa: S311  # who is taken over from is no secret
            better = [drawn.choice(better)]
        super()._checkpoint_or_exploit(trial, tune_controller, better, lower_quantile)

    def _key(self, trial: Trial) -> str:
        return f"{self._job.search.seed}/{trial.config['number']}/{trial.last_result.get('step', 0)}"

    def _get_new_config(self, trial: Trial, trial_to_clone: Trial) -> tuple[dict[str, Any], dict[str, Any]]:
        """Its own number, and the better one's values, moved."""
        job = self._job
        assert isinstance(job.scheduler, Pbt)
        better = json.loads(trial_to_clone.config["values"])
        values = moved(job.space, better, job.scheduler.explore, resample=job.scheduler.resample, key=self._key(trial))
        return {**trial.config, "values": json.dumps(values)}, {}


def scheduler_of(
    job: SweepJob,
    stopped: Stopped,
    values_of: ValuesOf,
    *,
    places: int = 1,
    is_closing: IsClosing = lambda: False,
) -> Any:
    """The scheduler of a sweep with so many trials at once. `stopped` is told whom it ends, and why."""
    told = (job, stopped)
    if isinstance(job.scheduler, Asha):
        return AshaByNumber(*told, compared_while_training(job), Clock.of(job))
    if isinstance(job.scheduler, Median):
        return MedianByNumber(*told, compared_while_training(job), Clock.of(job))
    if isinstance(job.scheduler, Pbt):
        how: dict[str, Any] = {"values_of": values_of, "takes_turns": places < trials_of(job), "is_closing": is_closing}
        return PbtByPointers(*told, compared_while_training(job), Clock.of(job), **how)
    return FifoByNumber(*told)


def with_score(job: SweepJob, report: Mapping[str, Any]) -> dict[str, Any]:
    """A report as schedulers see it."""
    if type(job.scheduler) not in (Asha, Median, Pbt):
        return dict(report)
    score = compared_while_training(job).value(report)
    return dict(report) if math.isnan(score) else {**report, SCORE: score}
