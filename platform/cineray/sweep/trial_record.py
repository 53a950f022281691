"""What is known of a trial: its folder goes in, plain facts come out, for the search, the results and the live table.

A trial's figures are those of its last report, with what its evaluation found at the end. What counts as its end is
what its folder says, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cineray.sweep.folder import SweepFolder
from cineray.sweep.objectives import Objective, number
from cineray.sweep.trial_folder import TrialFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One trial, as it is now."""

    number: int
    values: Mapping[str, Any]
    """Parameter -> value, or the name of a variant."""
    state: str = ""
    """How it ended (`trial_folder.STATES`); empty while it goes on."""
    why: str = ""
    reports: Sequence[Mapping[str, Any]] = ()
    """Every judgement, in order."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """`uri`: where it lies; `metrics`: name -> value, low, high, n."""
    alone: Mapping[str, Any] = field(default_factory=dict)
    """What it was when it had the cluster to itself: `figures`: objective -> value, low, high, n."""
    search: Mapping[str, Any] = field(default_factory=dict)
    """What the search wants to remember of it."""
    place: TrialFolder | None = None

    @classmethod
    def read(cls, trial: TrialFolder) -> TrialRecord:
        """What the folder says."""
        end = trial.ended() or {"state": "", "why": ""}
        evaluation = trial.kept("evaluation") or {}
        return cls(
            number=trial.number,
            values=trial.generations()[-1]["values"],
            state=end["state"],
            # Of one that is done it says why there is no evaluation, which may have been made since.
            why="" if end["state"] == "done" and evaluation else end["why"],
            reports=tuple(trial.reports()),
            evaluation=evaluation,
            alone=trial.kept("alone") or {},
            search=trial.facts.get("search", {}),
            place=trial,
        )

    @property
    def is_over(self) -> bool:
        """It will not be handed out again."""
        return bool(self.state)

    @property
    def has_whole_budget(self) -> bool:
        """Only such trials are compared with each other at the end."""
        return self.state == "done"

    @property
    def has_changed_values(self) -> bool:
        """Did it go on from another's checkpoint, with other values than it began with?"""
        return self.place is not None and len(self.place.generations()) > 1

    @property
    def last(self) -> dict[str, Any]:
        """Its last report, and its evaluation as keys of it; empty before the first."""
        found = dict(self.reports[-1]) if self.reports else {}
        metrics = self.evaluation.get("metrics", {})
        return found | {f"evaluate/{name}": score["value"] for name, score in metrics.items()}

    def objectives(self, objectives: Sequence[Objective]) -> dict[str, float]:
        """Objective -> newest value in the sweep; NaN where it is not known."""
        last = self.last
        return {objective.name: objective.value(last) for objective in objectives}

    def figures_alone(self) -> dict[str, Mapping[str, Any]]:
        """Of one that had the cluster to itself: what was measured, and what follows from it by arithmetic: the
        `seconds` and the `cost` of as many clips as it learnt from, at that pace. Not of a member of a population that
        had other values before: that pace is of its last ones."""
        return self._with_totals(self.alone.get("figures", {}))

    def figures_beside(self) -> dict[str, Mapping[str, Any]]:
        """Of the same trial the same figures as they were in the sweep, after as many seconds of warm-up."""
        return self._with_totals({name: {"value": one} for name, one in self.alone.get("in_the_sweep", {}).items()})

    def _with_totals(self, figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        found = dict(figures)
        if not found or self.has_changed_values:
            return found
        clips = number(self.last.get("clips"))
        pace, money = found.get("clips_per_s"), found.get("cost_per_million_clips")
        if pace and clips > 0:
            found["seconds"] = _each(pace, lambda value: clips / value, {"low": "high", "high": "low"})
        if money and clips > 0:
            found["cost"] = _each(money, lambda value: clips * value / 1e6, {})
        return found


def _each(figure: Mapping[str, Any], change: Callable[[float], float], ends: Mapping[str, str]) -> dict[str, Any]:
    """Another figure that follows from one; `ends`: where more of the one is less of the other."""
    told = {name: figure.get(ends.get(name, name)) for name in ("value", "low", "high")}
    return {name: change(one) if one else one for name, one in told.items()} | {"n": figure.get("n")}


class TrialRecords:
    """All trials of a sweep; what cannot change any more is read once."""

    def __init__(self, sweep: SweepFolder) -> None:
        self._sweep = sweep
        self._over: dict[int, TrialRecord] = {}

    def read(self) -> list[TrialRecord]:
        """By number."""
        found = []
        for trial in self._sweep.trials():
            record = self._again(trial) if trial.number in self._over else TrialRecord.read(trial)
            if record.is_over:
                self._over[trial.number] = record
            found.append(record)
        return found

    def _again(self, trial: TrialFolder) -> TrialRecord:
        """Of a trial that is over only one thing may still come: how it does alone."""
        known = self._over[trial.number]
        return known if known.alone else replace(known, alone=trial.kept("alone") or {})
