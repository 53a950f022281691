"""A trial at work: its place in a sweep's folder goes in; reports come out, the last one says how it ended.

    begin       its run is started, or goes on from its newest checkpoint; a new one where it takes over another's
    judgements  each is a report: written into the folder first, then told
    the end     done: it is evaluated, and says so; failed by its own config: so it is written; failed by the machine:
                raised, and somebody tries again; told to stop: nothing is written, it goes on another time

A trial that is trained is done, whatever becomes of its evaluation: that can be made another time. An error of no
machine that comes twice without a step in between is the trial's own.

Who trains, who evaluates and who is told are handed in: Ray is in `ray_trial.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from cineray.errors import CinerayError, Interrupted
from cineray.sweep.capacity import Share
from cineray.sweep.config import SweepJob
from cineray.sweep.folder import SweepFolder
from cineray.sweep.report_log import ReportLog
from cineray.sweep.reporting import last_judgement, report_of
from cineray.sweep.training import Ended, Judged, Train, Training
from cineray.sweep.trial_job import trial_job
from cineray.train.checkpoint_manifest import steps_in
from cineray.train.config import BeginFromConfig
from cineray.train.ending import planned_steps
from cineray.train.run_folder import RunFolder, RunSuperseded

Evaluate = Callable[[str, SweepJob], dict[str, Any]]
"""(run, the sweep's job) -> facts for evaluation.json, with `metrics`: name -> value, low, high."""
Tell = Callable[[Mapping[str, Any]], str]
"""How it goes -> why to stop, or nothing."""

_LOOK_SECONDS = 0.5
_SAVED_SECONDS = 60.0
"""A judgement is told when it is made; its checkpoint is whole a moment later."""


class TrialAtWork:
    """One start of a trial."""

    def __init__(
        self,
        sweep: SweepFolder,
        number: int,
        *,
        train: Train,
        evaluate: Evaluate,
        is_own_fault: Callable[[BaseException], bool],
        may_be_the_machine: Callable[[BaseException], bool] = lambda _: True,
        tell: Tell = lambda _: "",
        not_before: float = 0.0,
    ) -> None:
        """`is_own_fault`: would another try meet this error again? `may_be_the_machine`: may it pass, however often it
        has come? `not_before`: wait until then (`time.time()`)."""
        self._job, self._trial = sweep.job(), sweep.trial(number)
        self._train, self._evaluate, self._tell = train, evaluate, tell
        self._is_own_fault, self._may_be_the_machine = is_own_fault, may_be_the_machine
        self._not_before = not_before
        self._training: Training | None = None
        self._is_trained = False
        self._log: ReportLog | None = None
        self._last: dict[str, Any] = next(iter(self._trial.reports()[-1:]), {"trial": number})
        self._wall_before, self._began = float(self._last.get("wall_seconds", 0.0)), time.monotonic()

    # ---- before it begins --------------------------------------------------------------------------------------------

    def take_over(self, pointer: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Go on from that checkpoint with these values; where it is the trial's own, from wherever its run is."""
        generations = self._trial.generations()
        newest = generations[-1]
        told_before = (newest["begins_from"] or {}).get("pointer") == dict(pointer) and newest["values"] == dict(values)
        if told_before or pointer["run"] in {self._trial.run_uri(one["generation"]) for one in generations}:
            return
        share = self._trial.facts.get("share")
        begin = BeginFromConfig(run=str(pointer["run"]), step=_still_there(pointer))
        job = trial_job(
            self._job,
            values,
            number=self._trial.number,
            share=Share.from_dict(share) if share else None,
            group=self._trial.job().tracking.wandb_group,
        ).model_copy(update={"begin_from": begin})
        self._trial.begin_generation(
            values=values, job=job, begins_from={**pointer, "step": begin.step, "pointer": dict(pointer)}
        )

    # ---- at work -----------------------------------------------------------------------------------------------------

    def next_report(self) -> dict[str, Any]:
        """Wait for the next judgement, or the end. Raises what another try may not meet."""
        if self._is_trained:
            return self._finished()
        if self._training is None and self._may_not_begin():
            return {**self._last, "done": True, "interrupted": True}
        training = self._begun()
        while True:
            news = training.next(wait_seconds=_LOOK_SECONDS)
            wish = self._tell(self._progress(training))
            if wish:
                training.wish(wish)  # what is judged from now on decides nothing any more
            if isinstance(news, Judged) and not wish and not self._is_last(news.step):
                return self._reported(news.step, news.metrics)
            if isinstance(news, Ended):
                return self._at_the_end(news.error)

    def pointer(self) -> dict[str, Any]:
        """The checkpoint of the newest judgement, for who takes over: the run, the step, and what it had seen."""
        run = self._trial.run_uri()
        judged = int(self._last.get("step", 0))
        ends = time.monotonic() + _SAVED_SECONDS
        while not (saved := steps_in(f"{run}/checkpoints")) or (saved[-1] < judged and time.monotonic() < ends):
            if time.monotonic() >= ends:
                raise CinerayError(f"trial {self._trial.number} has no checkpoint after {_SAVED_SECONDS:.0f} s")
            time.sleep(_LOOK_SECONDS)
        step = judged if judged in saved else saved[-1]
        return {"run": run, "step": step, **{name: self._last.get(name, 0) for name in ("clips", "frames")}}

    def end(self, reason: str) -> None:
        """Let the run end in order, and wait until it holds nothing any more."""
        if self._training is not None:
            self._training.end(reason)

    # ---- inner -------------------------------------------------------------------------------------------------------

    def _may_not_begin(self) -> bool:
        """Wait for its time; is it told to stop before that? Begun, it would only have to be ended."""
        while not self._tell({"state": "waiting"}):
            if (left := self._not_before - time.time()) <= 0:
                return False
            time.sleep(min(left, _LOOK_SECONDS))
        return True

    def _begun(self) -> Training:
        if self._training is None:
            self._log = self._trial.open_reports()
            self._training = Training(self._train, self._trial.job(), self._trial.run_uri())
        return self._training

    def _progress(self, training: Training) -> dict[str, Any]:
        row = training.newest
        if not row:
            return {"state": "running"}
        return {"state": "running", "step": int(row["step"]) + 1, "seconds": row.get("training_seconds")}

    def _is_last(self, step: int) -> bool:
        """The last judgement is told with the end."""
        return step >= planned_steps(RunFolder.open(self._trial.run_uri()), self._trial.job())

    def _reported(self, step: int, metrics: Mapping[str, float]) -> dict[str, Any]:
        wall_seconds = self._wall_before + time.monotonic() - self._began
        report = report_of(self._trial, step=step, metrics=metrics, wall_seconds=wall_seconds)
        assert self._log is not None
        self._log.add(report)
        self._last = report
        return dict(report)

    def _at_the_end(self, error: BaseException | None) -> dict[str, Any]:
        if isinstance(error, Interrupted | RunSuperseded):
            return {**self._last, "done": True, "interrupted": True}
        if error is not None and not self._is_own_fault(error) and not self._is_met_again(error):
            raise error
        if error is not None:
            self._trial.end("failed", f"{type(error).__name__}: {error}")
            return {**self._last, "done": True}
        self._is_trained = True
        step, metrics = last_judgement(RunFolder.open(self._trial.run_uri()))
        report = self._reported(step, metrics)
        # An evaluation takes its time: until then it is known what the training itself has shown.
        return {**report, "last": True} if self._job.judge.evaluate is not None else self._finished()

    def _is_met_again(self, error: BaseException) -> bool:
        """The start before this one ended by the same error, and none got further than the other."""
        if self._may_be_the_machine(error):
            return False
        run = self._trial.run_uri()
        step = max(steps_in(f"{run}/checkpoints"), default=0)
        told = {"run": run, "step": step, "error": f"{type(error).__name__}: {error}"}
        before = self._trial.kept("failure")
        self._trial.keep("failure", told)
        return before == told

    def _finished(self) -> dict[str, Any]:
        evaluated, why = self._evaluated()
        self._trial.end("done", why)
        return {**self._last, **evaluated, "done": True}

    def _evaluated(self) -> tuple[dict[str, float], str]:
        """`evaluate/<metric>` of the finished run, or why there is none."""
        if self._job.judge.evaluate is None:
            return {}, ""
        facts = self._trial.kept("evaluation")
        if facts is None:
            self._tell({"state": "judging"})
            try:
                facts = self._evaluate(self._trial.run_uri(), self._job)
            except Exception as error:  # of a metric, of a model's sampler, of Ray: the trial is trained all the same
                return {}, not_evaluated(error)
            self._trial.keep("evaluation", facts)
        values = {f"evaluate/{name}": one["value"] for name, one in facts["metrics"].items()}
        return {name: float(value) for name, value in values.items() if value is not None}, ""


def not_evaluated(error: Exception) -> str:
    """Why a trial that is done has no evaluation."""
    told = str(error) if isinstance(error, CinerayError) else f"{type(error).__name__}: {error}"
    return f"it could not be evaluated: {told.strip().splitlines()[-1] if told.strip() else told}"


def _still_there(pointer: Mapping[str, Any]) -> int:
    """The checkpoint's step; where it was tidied away since, that of the run's oldest one after it."""
    saved = steps_in(f"{pointer['run']}/checkpoints")
    step = int(pointer["step"])
    later = [one for one in saved if one >= step]
    return later[0] if later else (saved[-1] if saved else step)
