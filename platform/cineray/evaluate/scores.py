"""What a metric says: one number with its interval, how many clips it rests on, and the same number for controls.

A `Score` is made by `Metric.score`; procedures add controls to it, reports show it, and `to_dict` is what files hold.
A score that could not be had has no value and says why in `skipped`: nothing is ever put in its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypedDict

from cineray.errors import CinerayError

Better = Literal["higher", "lower", "like real"]
"""Which way a number is good. `like real`: neither more nor less than real clips have."""


class MetricUnavailable(CinerayError):
    """A metric cannot be had here: its weights are not there, or it was not told what it compares with."""


class ControlScore(TypedDict):
    """The same metric of other clips, or under other labels."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A metric's value over clips, with its 95 % interval. `None` stands for a number that does not exist."""

    name: str
    group: str
    unit: str
    better: Better
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """Clips that the value rests on: those of which the metric could say something."""
    controls: Mapping[str, ControlScore] = field(default_factory=dict)
    """What the value is read against: `real`, `real halves`, `labels permuted`, ..."""
    skipped: str = ""
    """Why there is no value; empty when there is one."""
    note: str = ""
    """What a reader must know before believing the value."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What made the value what it is: weights' name and sha256, preprocessing, sizes of samples."""

    def as_control(self) -> ControlScore:
        """This score as it stands beside another."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    def with_controls(self, controls: Mapping[str, Score]) -> Score:
        """The same score with more to read it against."""
        return replace(self, controls={**self.controls, **{name: one.as_control() for name, one in controls.items()}})

    def with_note(self, note: str) -> Score:
        """The same score with one more thing to know about it."""
        return replace(self, note=f"{self.note}; {note}" if self.note else note)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "name": self.name,
            "group": self.group,
            "unit": self.unit,
            "better": self.better,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "controls": {name: dict(control) for name, control in self.controls.items()},
            "skipped": self.skipped,
            "note": self.note,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Score:
        """What `to_dict` gave."""
        return cls(**told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One metric of two sets of clips: how far the second is above the first, and is that more than noise?"""

    name: str
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    n: int
    """Clips that both have, by name; 0 when the sets share none and were resampled apart."""
    beyond_noise: bool
    """The 95 % interval of the difference leaves 0 out."""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {name: getattr(self, name) for name in self.__slots__}


def number(value: float) -> float | None:
    """JSON has no `nan` and no infinity: a number that does not exist is None."""
    return float(value) if math.isfinite(value) else None
