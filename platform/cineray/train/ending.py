"""Where a run ends: the steps and seconds that it is given and the seconds that it has spent go in; the number of its
last step comes out, fixed once.

    | --------- the highest rates --------- k --- they fall: decay_fraction of all steps --- N
      (1 - decay_fraction) of the seconds are spent at step k:  N = k / (1 - decay_fraction)

How fast the machine is decides N, and nothing else: no rate before k depends on it, so a run with `steps` of N and
without a budget is the same run. N is kept in the run's folder, and whoever goes on with the run goes on to that N.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass

from cineray.errors import PlaceMissing, UsageError
from cineray.storage import put_if_absent, read_object
from cineray.train.config import LearningJob
from cineray.train.run_folder import RunFolder

_FILE = "planned.json"
_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The end of a run that had so many seconds."""

    steps: int
    """The run has so many."""
    at_step: int
    """So many were done when it was fixed."""
    spent_seconds: float
    """And so many training seconds were spent."""
    budget_seconds: float
    """Of so many."""


class Ending:
    """What the loop asks. All processes are told the same seconds, so all of them fix the same step."""

    def __init__(self, job: LearningJob, *, steps: int = 0, keep: Callable[[Planned], None] | None = None) -> None:
        """`steps`: what was fixed before, 0 if nothing was; `keep` is told what is fixed now."""
        self._job, self._keep = job, keep
        self._is_open = job.budget.seconds is not None and not steps
        self.steps = job.steps if job.budget.seconds is None else steps or job.steps
        """The run ends after so many: while that is open, after so many at most."""

    @property
    def rated_steps(self) -> int:
        """The number of steps that learning rates are made for. Where the seconds are over before the warm-up is, the
        rates go on rising as they did."""
        return self.steps if self.steps >= self._job.optimiser.warmup_steps else self._job.steps

    def look(self, done: int, seconds: float) -> None:
        """So many steps are done and so many training seconds spent: is it time to fix the end?"""
        given, stays = self._job.budget.seconds, 1 - _decay(self._job)
        if not self._is_open or given is None:
            return
        fixed = math.ceil(round(done / stays, 9))
        # Without time to do more than `steps`, these are the end, and their rates fall from here on.
        if seconds < stays * given and fixed < self._job.steps:
            return
        self._is_open, self.steps = False, min(fixed, self._job.steps)
        if self.steps < min(self._job.optimiser.warmup_steps, self._job.steps):
            warnings.warn(
                f"budget.seconds={given:g} ends this run at step {self.steps}, within its warm-up of "
                f"{self._job.optimiser.warmup_steps} steps: its rates never got to their highest. Give it more "
                "seconds, fewer optimiser.warmup_steps, or make its steps faster",
                stacklevel=2,
            )
        if self._keep is not None:
            self._keep(Planned(steps=self.steps, at_step=done, spent_seconds=seconds, budget_seconds=given))


def _decay(job: LearningJob) -> float:
    """The share of all steps in which rates fall: they can only begin to once the end is known."""
    return job.optimiser.decay_fraction if job.optimiser.schedule == "wsd" else 0.0


# ---- in the run's folder ---------------------------------------------------------------------------------------------


def keep_planned(run: RunFolder, planned: Planned) -> None:
    """Once in the life of a run. Who finds another end there was overtaken by a newer start, and may save no more."""
    put_if_absent(run.folder(_FILE), json.dumps(asdict(planned)).encode())


def read_planned(run: RunFolder) -> Planned | None:
    """The end that was fixed; None while it is open, and of a run without a budget."""
    try:
        return Planned(**json.loads(read_object(run.folder(_FILE), limit_bytes=_LIMIT_BYTES)))
    except PlaceMissing:
        return None


def planned_steps(run: RunFolder, job: LearningJob) -> int:
    """Where a run ends, or would have to at the latest."""
    planned = None if job.budget.seconds is None else read_planned(run)
    return job.steps if planned is None else planned.steps


def check_same_budget(run: RunFolder, job: LearningJob) -> None:
    """Once the end is fixed, other seconds come too late: the rates have begun to fall to it."""
    given, planned = job.budget.seconds, read_planned(run)
    if planned is not None and given is not None and given != planned.budget_seconds:
        raise UsageError(
            f"the run {run.uri} ends after step {planned.steps}, which was fixed at step {planned.at_step} for "
            f"budget.seconds={planned.budget_seconds:g}, and {given:g} was given; go on with the same seconds, or "
            "begin a new run"
        )
