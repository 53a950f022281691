"""All that a sweep's `sweep-result.json` says, as plain values: an object goes in, a `SweepRecord` comes out.

The file may be of an older or a newer cineray, or of a sweep that has not ended: what is not there is not known, and
what is new does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cineray.report.scores import SHARES, Measured
from cineray.report.values import text_of
from cineray.report.wording import known, number, percent

ALONE, IN_SWEEP = "alone", "in the sweep"
"""How a figure was measured: with the cluster to itself, or as it was there."""

ENDED_EARLY = frozenset({"stopped", "data-bound", "failed", "lost"})
"""States of trials that ended without having had the whole budget."""

_COSTS = frozenset({"cost", "cost_per_million_clips", "seconds", "wall_seconds"})
_SPEEDS = frozenset({"clips_per_s", "frames_per_s", "gpu_stall", "data_wait", "mfu", "goodput"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What trials are compared by."""

    name: str
    unit: str = ""
    smaller: bool = False
    """The smaller the better."""
    label: str = ""
    tolerance: float = 0.0

    @property
    def title(self) -> str:
        """As people write it."""
        return self.label or self.name.rpartition("/")[2].replace("_", " ")

    @property
    def share(self) -> bool:
        """Shown in percent?"""
        return self.unit in SHARES

    @property
    def head(self) -> str:
        """For a column or an axis: with its unit, where that says more."""
        return self.title if self.share or not self.unit or self.name in _SPEEDS else f"{self.title}, {self.unit}"

    @property
    def is_quality(self) -> bool:
        """Of what was learnt, not of what it took?"""
        return self.name not in _COSTS | _SPEEDS

    @property
    def better(self) -> str:
        """In words."""
        return "lower is better" if self.smaller else "higher is better"

    def text(self, value: Any) -> str:
        """A value of it."""
        return percent(value) if self.share else number(value)

    def said(self, value: Any) -> str:
        """A value of it within a sentence, where no head says the unit."""
        return self.text(value) + self.head.removeprefix(self.title).replace(",", "", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One objective of one trial, and how it came about."""

    measured: Measured
    alone: bool = False
    beside: float | None = None
    """Of one that was measured again, alone: what it was in the sweep."""
    as_warm: bool = False
    """Was that after as long a warm-up as alone?"""
    trainings: int | None = None
    """In so many it was measured alone, where that is known."""

    def said(self, unit: str, otherwise: str = IN_SWEEP) -> str:
        """`114 to 122, alone; 109 in the sweep`: the interval, and which figure it is."""
        between = "" if self.measured.low == self.measured.high else self.measured.between(unit)
        between += " within one training" if between and self.trainings == 1 else ""
        told = ", ".join(part for part in (between, ALONE if self.alone else otherwise) if part)
        if self.beside is None:
            return told
        return f"{told}; {Measured(value=self.beside).text(unit)} {IN_SWEEP}{', as warm' if self.as_warm else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial, as far as it got."""

    number: int
    values: Mapping[str, Any]
    state: str
    why: str
    seconds: float | None
    step: int | None
    cost: float | None
    readings: Mapping[str, Reading]
    alone: Mapping[str, Reading]
    """All that was measured alone, also what is no objective."""
    verdict: str
    bound: str
    data_wait: float | None
    budget_share: float | None
    """How much of its budget it had."""
    run: str
    generations: int
    """Runs that it is made of: more than one where it went on from another trial's checkpoint."""
    curve: tuple[Mapping[str, Any], ...]
    seconds_by_cause: Mapping[str, float]
    samples: tuple[Mapping[str, Any], ...]
    pareto: bool
    best: bool

    @property
    def name(self) -> str:
        """`trial 7`."""
        return f"trial {self.number}"

    @property
    def whole(self) -> bool:
        """Had it the whole budget?"""
        return self.state == "done"

    def reading(self, name: str) -> Reading | None:
        """Of an objective, or of what was measured alone."""
        return self.readings.get(name) or self.alone.get(name)

    def value(self, name: str) -> float | None:
        """Of these; where it is neither, of the last look at the trial."""
        reading = self.reading(name)
        if reading is not None:
            return reading.measured.value
        return known(self.curve[-1].get(name)) if self.curve else None

    def told_values(self) -> str:
        """`sampling stride 2, learning rate 0.003`."""
        return ", ".join(f"{short(name)} {text_of(value)}" for name, value in self.values.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One dimension of the space."""

    name: str
    kind: str = ""
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRecord:
    """A sweep, as far as it got."""

    uri: str
    told: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    parameters: tuple[Parameter, ...]
    trials: tuple[Trial, ...]

    @property
    def title(self) -> str:
        """Its id."""
        return str(self.told.get("id") or self.told.get("name") or self.uri.rstrip("/").rpartition("/")[2])

    @property
    def best(self) -> Trial | None:
        """The one that was chosen."""
        return next((one for one in self.trials if one.best), None)

    @property
    def pareto(self) -> list[Trial]:
        """The best first, then by number."""
        return sorted((one for one in self.trials if one.pareto), key=lambda one: (not one.best, one.number))

    @property
    def quality(self) -> Objective | None:
        """What is learnt: the first such objective, or the first of all."""
        return next((one for one in self.objectives if one.is_quality), next(iter(self.objectives), None))

    @property
    def nobody_knows(self) -> list[Objective]:
        """Objectives that no trial with the whole budget has a value of."""
        whole = [trial for trial in self.trials if trial.whole]
        return [one for one in self.objectives if all(trial.value(one.name) is None for trial in whole)]

    @property
    def beside(self) -> str:
        """How trials were measured in the sweep, in words."""
        if known(self.told.get("concurrent")) == 1:
            return f"{IN_SWEEP}, one trial at a time, with its first seconds"
        return f"{IN_SWEEP}, beside other trials"

    @property
    def notes(self) -> list[str]:
        """What a reader should know before believing the figures."""
        found = self.told.get("notes")
        return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []

    @property
    def currency(self) -> str:
        """Of all costs; empty where nobody said."""
        return str(self.part("prices").get("currency") or "")

    def count(self, state: str) -> int:
        """Trials that ended so."""
        return sum(one.state == state for one in self.trials)

    def part(self, name: str) -> Mapping[str, Any]:
        """An object of the file; {} where it is none."""
        found = self.told.get(name)
        return found if isinstance(found, Mapping) else {}


def read_sweep(uri: str, told: Mapping[str, Any]) -> SweepRecord:
    """The sweep whose folder is `uri` and whose result is `told`."""
    pareto, best = told.get("pareto"), told.get("best")
    numbers = set(pareto) if isinstance(pareto, list) else set()
    return SweepRecord(
        uri=uri,
        told=told,
        objectives=tuple(_objective(one) for one in objects_of(told.get("objectives"))),
        parameters=tuple(_parameter(one) for one in objects_of(told.get("parameters"))),
        trials=tuple(_trial(one, numbers, best) for one in objects_of(told.get("trials"))),
    )


def short(name: str) -> str:
    """`optimiser.learning_rate` as `learning rate`."""
    return name.rpartition(".")[2].replace("_", " ")


def rank(trials: Iterable[Trial], by: Objective) -> list[Trial]:
    """Those that have a value, the best first."""
    found = [one for one in trials if one.value(by.name) is not None]
    return sorted(found, key=lambda one: (one.value(by.name) or 0.0) * (1 if by.smaller else -1))


def _objective(told: Mapping[str, Any]) -> Objective:
    return Objective(
        name=str(told.get("name", "?")),
        unit=str(told.get("unit") or ""),
        smaller=told.get("goal") == "min",
        label=str(told.get("label") or ""),
        tolerance=known(told.get("tolerance")) or 0.0,
    )


def _parameter(told: Mapping[str, Any]) -> Parameter:
    values = told.get("values")
    return Parameter(
        name=str(told.get("name", "?")),
        kind=str(told.get("kind") or ""),
        values=tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (),
        low=known(told.get("low")),
        high=known(told.get("high")),
        log=bool(told.get("log")),
    )


def _trial(told: Mapping[str, Any], pareto: set[Any], best: Any) -> Trial:
    number_ = int(known(told.get("number")) or 0)
    step = known(told.get("step"))
    repeats = known(_object(told.get("alone")).get("repeats"))
    return Trial(
        number=number_,
        values=_object(told.get("values")),
        state=str(told.get("state") or "at work"),
        why=str(told.get("why") or ""),
        seconds=known(told.get("seconds")),
        step=None if step is None else int(step),
        cost=known(told.get("cost")),
        readings={str(name): _reading(one, repeats) for name, one in _object(told.get("objectives")).items()},
        alone={str(name): _reading(one, repeats) for name, one in _object(told.get("figures")).items()},
        verdict=str(told.get("verdict") or ""),
        bound=str(told.get("bound") or ""),
        data_wait=known(told.get("data_wait_fraction")),
        budget_share=known(told.get("budget_share")),
        run=str(told.get("run") or ""),
        generations=len(told["runs"]) if isinstance(told.get("runs"), list) else 1,
        curve=tuple(objects_of(told.get("curve"))),
        seconds_by_cause={str(k): known(v) or 0.0 for k, v in _object(told.get("seconds_by_cause")).items()},
        samples=tuple(objects_of(told.get("samples"))),
        pareto=number_ in pareto,
        best=best is not None and number_ == best,
    )


def _reading(told: Any, repeats: float | None) -> Reading:
    alone = isinstance(told, Mapping) and told.get("measured") == ALONE
    warm, plain = (known(_object(told).get(name)) for name in ("in_the_sweep_warm", "in_the_sweep"))
    trainings = int(repeats) if alone and repeats is not None else None
    beside, as_warm = (plain, False) if warm is None else (warm, True)
    return Reading(measured=Measured.of(told), alone=alone, beside=beside, as_warm=as_warm, trainings=trainings)


def _object(told: Any) -> Mapping[str, Any]:
    return told if isinstance(told, Mapping) else {}


def objects_of(told: Any) -> list[Mapping[str, Any]]:
    """The objects of a list in JSON; what is none is passed over."""
    return [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []
