"""How all trials are getting on, for those who watch: what several threads hear goes in, whole rows come out to one.

Tune's thread tells of reports and ends, the driver's main thread asks the trials' desk, and hands rows to the watchers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cineray.sweep.config import SweepJob
from cineray.sweep.costs import cost_of
from cineray.sweep.objectives import final_values, objectives_of
from cineray.sweep.trial_folder import STATES, TrialFolder
from cineray.sweep.trial_record import TrialRecord
from cineray.sweep.watcher import TrialRow


class Board:
    """Of one sweep."""

    def __init__(self, job: SweepJob) -> None:
        self._job, self._objectives = job, objectives_of(job)
        self._lock = threading.Lock()
        self._rows: dict[int, TrialRow] = {}
        self._rates: dict[int, float | None] = {}
        self._said: list[str] = []
        self._is_new = False

    def show(self, trial: TrialFolder) -> None:
        """A trial as its folder has it."""
        record = TrialRecord.read(trial)
        row = TrialRow(
            number=trial.number,
            values=dict(record.values),
            state=record.state or "waiting",
            budget=self._job.budget.amount,
            unit=self._job.budget.unit,
            why=record.why,
            run=trial.run_uri(),
        )
        self._rates[trial.number] = trial.facts.get("rate_per_hour")
        self._put(self._with_report(row, record.last) if record.reports else row)

    def report(self, number: int, report: Mapping[str, Any]) -> None:
        """It was judged."""
        self._put(self._with_report(self._rows[number], report))

    def change(self, number: int, **changes: Any) -> None:
        """Something of a row is another now."""
        self._put(replace(self._rows[number], **changes))

    def progress(self, told: Mapping[int, Mapping[str, Any]]) -> None:
        """What trials say between judgements: state, step, training seconds."""
        for number, facts in told.items():
            row = self._rows.get(number)
            if row is None or row.state in STATES:
                continue
            spent = self._spent(number, facts)
            step = max(row.step, int(facts.get("step") or 0))
            self._put(replace(row, state=facts["state"], step=step, spent=max(row.spent, spent)))

    def say(self, text: str) -> None:
        """For people."""
        with self._lock:
            self._said.append(text)

    def news(self) -> tuple[Sequence[TrialRow] | None, list[str]]:
        """All rows if any has changed since the last time, and what was said."""
        with self._lock:
            rows = [self._rows[number] for number in sorted(self._rows)] if self._is_new else None
            said, self._said, self._is_new = self._said, [], False
        return rows, said

    def _put(self, row: TrialRow) -> None:
        with self._lock:
            self._is_new = self._is_new or self._rows.get(row.number) != row
            self._rows[row.number] = row

    def _with_report(self, row: TrialRow, report: Mapping[str, Any]) -> TrialRow:
        values = final_values(self._objectives, report)
        spent = report.get(self._job.budget.key)
        return replace(
            row,
            spent=float(spent or 0.0),
            step=int(report.get("step", row.step)),
            objectives={name: value for name, value in values.items() if math.isfinite(value)},
            verdict=str(report.get("verdict") or ""),
        )

    def _spent(self, number: int, facts: Mapping[str, Any]) -> float:
        """Of the budget; clips are only counted at judgements."""
        unit, seconds = self._job.budget.unit, float(facts.get("seconds") or 0.0)
        if unit == "steps":
            return float(facts.get("step") or 0)
        if unit == "cost":
            return cost_of(seconds, self._rates.get(number)) if self._rates.get(number) is not None else 0.0
        return seconds if unit == "seconds" else 0.0
