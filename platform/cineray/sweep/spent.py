"""What a trial took, by its own runs' ledgers: a trial goes in; seconds by cause, seconds in all and machines come out.

A report counts what led to its figures: of a population also another's seconds, and of a trial that was stopped nothing
that came after. Here every step counts that the trial took itself, also one that was done again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cineray.sweep.measured import step_seconds
from cineray.sweep.trial_folder import TrialFolder
from cineray.train.goodput import account
from cineray.train.ledger import read_all_rows
from cineray.train.run_folder import RunFolder, is_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Of one trial, so far."""

    by_cause: dict[str, float]
    """Where the life of its newest run went."""
    by_run: dict[str, float]
    """Training seconds of each of its runs."""
    machines: tuple[str, ...]
    """The kinds that it trained on: their GPU, or their processor."""

    @property
    def seconds(self) -> float:
        """Of all its runs."""
        return math.fsum(self.by_run.values())


def spent_by(trial: TrialFolder) -> Spent:
    """Read, or as it was kept: a result is written at each end of a trial, and need not read all ledgers each time."""
    known = trial.kept("spent")
    if known is not None:
        return Spent(by_cause=known["by_cause"], by_run=known["by_run"], machines=tuple(known["machines"]))
    names = [trial.run_uri(int(one["generation"])) for one in trial.generations()]
    runs = [RunFolder.open(name) for name in names if is_run(name)]
    found = _read(runs)
    ended = trial.ended()
    if ended is not None and ended["state"] != "lost" and all(_has_ended(run) for run in runs[-1:]):
        trial.keep("spent", {"by_cause": found.by_cause, "by_run": found.by_run, "machines": list(found.machines)})
    return found


def _read(runs: list[RunFolder]) -> Spent:
    by_cause: dict[str, float] = {}
    by_run: dict[str, float] = {}
    machines: dict[str, None] = {}
    for run in runs:
        rows = read_all_rows(run.folder("ledger"))
        by_run[run.uri.rpartition("/")[2]] = round(own_seconds(rows), 3)
        told = account(run.events(), rows)["seconds"]
        by_cause = {name: round(float(value), 3) for name, value in told.items()}
        machines |= dict.fromkeys(_kind(attempt.get("machine", {})) for attempt in run.attempts())
    return Spent(by_cause=by_cause, by_run=by_run, machines=tuple(machines))


def own_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Of all steps that a run took itself, also those that were done again: in seconds as a budget counts them. The
    ledger's clock says them, from one step to the next; it goes on from what a step before an attempt had."""
    clock: dict[int, float] = {-1: 0.0}
    found = 0.0
    for row in sorted(rows, key=lambda one: (one["attempt"], one["step"])):
        step, now = int(row["step"]), row.get("training_seconds")
        if now is None or not math.isfinite(now):
            found += step_seconds(row)
            continue
        # Without a step before it the run began from another one, whose seconds are not its own.
        found += now - clock[step - 1] if step - 1 in clock else step_seconds(row) - float(row["data_wait_s"])
        clock[step] = now
    return found


def _has_ended(run: RunFolder) -> bool:
    """In order: what a trial does after it was told to end is its own, too. A killed one is read again each time."""
    events = run.events()
    newest = max((int(event["attempt"]) for event in events), default=0)
    return any(event["event"] == "end" and event["attempt"] == newest for event in events)


def _kind(machine: dict[str, Any]) -> str:
    gpus = machine.get("gpus") or []
    return str(gpus[0] if gpus else machine.get("processor") or "unknown")
