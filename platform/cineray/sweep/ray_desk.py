"""Between a sweep's driver and its trials: the driver's wish to stop goes out; how trials are getting on comes in.

One small actor of the driver's own, on its machine, that ends with it. A trial that finds nobody there any more has no
driver: it ends in order, as if it had been told to.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cineray.errors import CinerayError

NO_DRIVER = "the sweep's driver, which is gone"
"""Who wishes a trial to stop when the desk is empty."""


class DeskLost(CinerayError):
    """The actor is gone, and with it the way to tell trials anything: they end in order."""


class _Desk:
    """The actor."""

    def __init__(self) -> None:
        self._wish = ""
        self._wishes: dict[int, str] = {}
        self._told: dict[int, dict[str, Any]] = {}
        self._not_before: dict[int, float] = {}

    def wish(self, reason: str) -> None:
        self._wish = self._wish or reason

    def wish_one(self, number: int, reason: str) -> None:
        self._wishes.setdefault(number, reason)

    def tell(self, number: int, facts: dict[str, Any]) -> str:
        self._told[number] = self._told.get(number, {}) | facts
        return self._wish or self._wishes.get(number, "")

    def told(self) -> dict[int, dict[str, Any]]:
        return self._told

    def hold(self, number: int, until: float) -> None:
        self._not_before[number] = until

    def not_before(self, number: int) -> float:
        return self._not_before.get(number, 0.0)


@dataclass(frozen=True, slots=True)
class Desk:
    """A handle of the actor, for either side; trials find it by its name."""

    name: str
    actor: Any

    @classmethod
    def open(cls) -> Desk:
        """Made by the driver."""
        name = f"cineray-desk-{secrets.token_hex(4)}"
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return cls(name, ray.remote(num_cpus=0, name=name, scheduling_strategy=here)(_Desk).remote())

    @classmethod
    def find(cls, name: str) -> Desk:
        """For a trial."""
        return cls(name, ray.get_actor(name))

    def close(self) -> None:
        """Nobody asks any more."""
        ray.kill(self.actor)

    # ---- the driver's side -------------------------------------------------------------------------------------------

    def wish(self, reason: str, number: int | None = None) -> None:
        """Let a trial stop in order, or all of them."""
        with _said_in_words():
            told = self.actor.wish.remote(reason) if number is None else self.actor.wish_one.remote(number, reason)
            ray.get(told)

    def told(self) -> dict[int, dict[str, Any]]:
        """Trial -> `state`, `step`, `seconds`: the newest of each."""
        with _said_in_words():
            facts: dict[int, dict[str, Any]] = ray.get(self.actor.told.remote())
        return facts

    def hold(self, number: int, until: float) -> None:
        """Let the next start of a trial wait until then."""
        ray.get(self.actor.hold.remote(number, until))

    # ---- a trial's side ----------------------------------------------------------------------------------------------

    def not_before(self, number: int) -> float:
        """When it may begin, as `time.time()` says it: both sides are on one machine."""
        until: float = ray.get(self.actor.not_before.remote(number))
        return until

    def tell(self, number: int, facts: Mapping[str, Any]) -> str:
        """How it goes; returns why to stop, or nothing."""
        try:
            wish: str = ray.get(self.actor.tell.remote(number, dict(facts)))
        except ray.exceptions.RayError:
            return NO_DRIVER
        return wish


@contextmanager
def _said_in_words() -> Iterator[None]:
    try:
        yield
    except ray.exceptions.RayError as error:
        raise DeskLost(
            f"the process by which the sweep's driver talks to its trials is gone ({type(error).__name__}); most often "
            "the driver's machine had no memory left, of which each trial at once takes some 400 MB there. Trials save "
            "and end. Go on with the sweep by `cineray sweep FOLDER`, on a machine with more memory or with a lower "
            "share.max_concurrent"
        ) from error
