"""What trials are compared at while they train: a sweep's job and a report go in; how far the trial was comes out.

Trials are judged at the first step at or after their time, each a moment later by its own clock. They are compared as
if all had been judged at the even share of the budget that it was: of 40 s with 4 judgements, 10.53 s and 10.61 s both
count as 10 s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cineray.sweep.config import SweepJob, report_key

LATER = 1.05
"""By the clock each judgement comes so much after its even share of the budget, so that the last one falls behind the
trial's end, where it is judged anyway, and not two steps before it: by which step the seconds are over is known to some
percent."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What trials are compared at."""

    key: str
    """Of a report."""
    longest: float
    """What a whole trial reaches."""

    @classmethod
    def of(cls, job: SweepJob) -> Clock:
        """As the scheduler's config says; by the budget where it says nothing."""
        unit, longest = getattr(job.scheduler, "unit", "budget"), getattr(job.scheduler, "longest", None)
        if unit == "budget" or longest is None:
            return cls.of_budget(job)
        return cls(report_key(unit), float(longest))

    @classmethod
    def of_budget(cls, job: SweepJob) -> Clock:
        """What a whole trial may spend."""
        return cls(job.budget.key, job.budget.amount)

    def judged_at(self, job: SweepJob, report: Mapping[str, Any]) -> float:
        """What a report's time counts as: as many even parts of the budget as judgements had been due, whatever came on
        top until the step was done; all of it at the end, never more. By another unit than the budget's, trials are not
        judged at times that they share."""
        at = float(report[self.key])
        if self != Clock.of_budget(job):
            return at
        if at >= self.longest:
            return self.longest
        part = self.longest / job.judge.times
        due = part * LATER if job.budget.unit in ("seconds", "cost") else part
        return math.floor(at / due + 1e-9) * part

    def share(self, report: Mapping[str, Any]) -> float:
        """How far a trial is, of 1."""
        return float(report.get(self.key) or 0.0) / self.longest
