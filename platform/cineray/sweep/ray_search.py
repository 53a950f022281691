"""Tune's question for the next trial, answered from the sweep's folder (`proposals.py`).

Tune's config of a trial has only names: the sweep, the trial's number, the driver's desk. What the trial is stands in
its folder, and so nothing of a sweep depends on what Tune keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher


class NotKept:
    """Tune pickles what it is given, to restore it another time. That is not used, and there is no need to fit."""

    def __reduce__(self) -> Any:
        return object, ()


class Proposing(NotKept, Searcher):  # type: ignore[misc]
    """One trial after the other."""

    def __init__(self, next_number: Callable[[], int | None], told: dict[str, str]) -> None:
        """`told`: what is the same in all trials' configs."""
        super().__init__()
        self._next, self._told = next_number, told

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        """Its config, or that there are no more."""
        number = self._next()
        return str(Searcher.FINISHED) if number is None else {**self._told, "number": number}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """What it showed lies in the folder."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing is kept here."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing is kept here."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was kept here."""
