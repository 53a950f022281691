"""Who watches a sweep: rows of trials go in, as they are now; what is done with them is the watcher's own matter.

The terminal's live table is one. A watcher is told by the driver, in its main thread, and must not raise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """A trial as it is now."""

    number: int
    values: Mapping[str, object]
    """Parameter -> value, or the name of a variant."""
    state: str
    """`waiting`, `running`, `judging` (its evaluation), `measured alone`, or how it ended (`trial_folder.STATES`)."""
    spent: float = 0.0
    """Of its budget, in the budget's unit."""
    budget: float = 0.0
    """How much it may spend."""
    unit: str = "seconds"
    """The budget's unit: seconds, cost, clips or steps."""
    step: int = 0
    """Optimiser steps done."""
    objectives: Mapping[str, float] = field(default_factory=dict)
    """Objective -> its newest value; without those that are not known yet."""
    verdict: str = ""
    """What bounds it, in a sentence."""
    why: str = ""
    """Why it ended, where it did not simply reach its budget."""
    run: str = ""
    """Where its run lies."""


class Watcher(Protocol):
    """Somebody who is told how a sweep gets on."""

    def changed(self, rows: Sequence[TrialRow]) -> None:
        """All trials, by number; called when something is new, at most a few times a second."""

    def say(self, text: str) -> None:
        """Something happened that a person wants to know: a trial ended, a machine was lost."""

    def close(self) -> None:
        """The sweep is over, or is interrupted."""
