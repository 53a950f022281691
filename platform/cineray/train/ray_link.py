"""Between a run's driver, Ray Train's controller and the workers: what each must tell the others, kept in one place.

    driver      -> a wish to stop        <- the newest figures; what ended the run for good; whether anybody is at work
    controller  -> workers were lost     <- why not to start them again
    rank 0      -> where it begins       <- why not to begin; a wish to stop

One small actor of the driver's own, which lives on its machine and ends with it. Ray Train itself starts workers that
die again, whatever they died of; the link keeps what decides whether that makes sense: errors that a restart would only
meet again (a wrong config, a loss that is no number), and whether the run gets any further between two failures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cineray.errors import CinerayError, FeedStalled, PlaceError
from cineray.train.checkpoint_write import CheckpointFailed
from cineray.train.nan_stop import LossNotFinite

_LOOK_SECONDS = 0.5


class WorkersLost(CinerayError):
    """Workers died again and again, or met what may pass (a store that does not answer): it may be the machines."""


_MAY_PASS = (PlaceError, FeedStalled, CheckpointFailed, WorkersLost)
"""Of our own errors, those that another try may not meet."""


def is_final(error: BaseException) -> bool:
    """Whether another try would meet the error again."""
    if isinstance(error, CheckpointFailed) and error.no_room:
        return True
    return isinstance(error, CinerayError) and not isinstance(error, _MAY_PASS)


def _named(error: CinerayError | None) -> int:
    """How many clips it blames: all ranks stop at a loss that is no number, and only some had its cause."""
    return error.clips if isinstance(error, LossNotFinite) else 0


@dataclass(slots=True)
class LinkState:
    """What the link holds, and how it judges: plain Python, without Ray."""

    most_failures: int
    """So many in a row, without a step more between them, are put up with."""
    wish: str = ""
    final: CinerayError | None = None
    steps: range = range(0)
    """What the workers of now are to do."""
    furthest: int = -1
    failures: int = 0
    """Since it last got further."""
    begun: bool = False
    """Whether workers have begun since the last failure."""
    may_pass: bool = True
    """Whether what has happened to the workers since they began may be the machines' doing."""
    last_error: str = "a worker or its machine was lost; Ray's logs may tell why"
    row: dict[str, Any] = field(default_factory=dict)
    judgements: list[dict[str, Any]] = field(default_factory=list)
    """All of them, in the order in which they were told: few, and each is waited for."""
    heard_of_at: float = field(default_factory=time.monotonic)
    """When a worker last showed that it is at work."""

    def begin(self, step: int) -> CinerayError | None:
        """Workers have started, and the newest checkpoint is of this step. Returns why they should not go on."""
        self.begun, self.heard_of_at = True, time.monotonic()
        if step > self.furthest:
            self.furthest, self.failures = step, 0
        if self.failures > self.most_failures:
            self._give_up()
        self.may_pass = True
        return self.final

    def lost(self, text: str) -> CinerayError | None:
        """Workers have failed; `text` says which died. Returns why not to start them again."""
        self.failures += 1
        self.last_error = text or self.last_error
        self.may_pass = self.may_pass or bool(text)  # where one has died, the others only met that
        # While they get as far as to begin, that is where it shows whether the run has got further since.
        if self.failures > self.most_failures and not self.begun:
            self._give_up()
        self.begun = False
        return self.final

    def failed(self, text: str, final: CinerayError | None, *, may_pass: bool = False) -> None:
        """A rank has met an error, which may be the end."""
        self.last_error, self.may_pass = text, may_pass
        if self.final is None or _named(final) > _named(self.final):
            self.final = final

    def _give_up(self) -> None:
        times = "once" if self.failures == 1 else f"{self.failures} times in a row"
        kind = WorkersLost if self.may_pass else CinerayError
        self.final = self.final or kind(
            f"the run failed {times} without getting beyond step {max(self.furthest, 0)} "
            f"(limits.failures_without_progress={self.most_failures}); the last time: {self.last_error}"
        )


class _Link:
    """The actor around the state."""

    def __init__(self, most_failures: int) -> None:
        self._state = LinkState(most_failures)

    def wish(self, reason: str) -> None:
        self._state.wish = self._state.wish or reason

    def wished(self) -> str:
        self._state.heard_of_at = time.monotonic()
        return self._state.wish

    def wish_of_driver(self) -> str:
        return self._state.wish

    def begin(self, step: int) -> CinerayError | None:
        return self._state.begin(step)

    def plan(self, steps: range) -> None:
        self._state.steps = steps

    def steps(self) -> range:
        return self._state.steps

    def lost(self, text: str) -> CinerayError | None:
        return self._state.lost(text)

    def failed(self, text: str, final: CinerayError | None, may_pass: bool) -> None:
        self._state.failed(text, final, may_pass=may_pass)

    def final(self) -> CinerayError | None:
        return self._state.final

    def silent_seconds(self) -> float:
        return time.monotonic() - self._state.heard_of_at

    def tell(self, row: dict[str, Any]) -> None:
        self._state.row = row

    def tell_judged(self, judged: dict[str, Any]) -> None:
        self._state.judgements.append(judged)

    def news(self, known: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return self._state.row, self._state.judgements[known:]


@dataclass(frozen=True, slots=True)
class Link:
    """A handle of the actor, for any side."""

    actor: Any

    @classmethod
    def open(cls, most_failures: int) -> Link:
        """Made by the driver, on its own machine: others come and go."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return cls(ray.remote(num_cpus=0, scheduling_strategy=here)(_Link).remote(most_failures))

    # ---- the driver's side -------------------------------------------------------------------------------------------

    def wish(self, reason: str) -> None:
        """Let the run stop after the step under way, with a checkpoint."""
        self.actor.wish.remote(reason)

    def final(self) -> CinerayError | None:
        """What ended the run for good."""
        error: CinerayError | None = ray.get(self.actor.final.remote())
        return error

    def silent_seconds(self) -> float:
        """For how long nobody has shown to be at work: workers ask for wishes all the time."""
        seconds: float = ray.get(self.actor.silent_seconds.remote())
        return seconds

    def news(self, known: int) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        """The newest row, empty before there is one, and all judgements but the first `known`."""
        row, judgements = ray.get(self.actor.news.remote(known))
        return row, judgements

    # ---- the controller's side ---------------------------------------------------------------------------------------

    def wish_of_driver(self) -> str:
        """Why the run is to stop; empty while it is not. Unlike when a worker asks, nobody is at work for it."""
        wish: str = ray.get(self.actor.wish_of_driver.remote())
        return wish

    def lost(self, text: str) -> CinerayError | None:
        """Workers have failed; the answer is why not to start them again."""
        error: CinerayError | None = ray.get(self.actor.lost.remote(text))
        return error

    def steps(self) -> range:
        """What rank 0 said is to be done."""
        steps: range = ray.get(self.actor.steps.remote())
        return steps

    # ---- the workers' side -------------------------------------------------------------------------------------------

    def begin(self, step: int) -> CinerayError | None:
        """Rank 0 starts, with a checkpoint of this step; the answer is why nobody should."""
        error: CinerayError | None = ray.get(self.actor.begin.remote(step))
        return error

    def plan(self, steps: range) -> None:
        """Rank 0 has taken over its checkpoint: these steps are to be done, and fed."""
        ray.get(self.actor.plan.remote(steps))

    def failed(self, rank: int, error: BaseException) -> None:
        """A rank met an error. Most of cineray's own are final: they would come again."""
        # Ray wraps what was raised in another process, so that it is both.
        error = getattr(error, "cause", None) or error
        final = error if isinstance(error, CinerayError) and is_final(error) else None
        may_pass = isinstance(error, (*_MAY_PASS, OSError, ray.exceptions.RayError))
        ray.get(self.actor.failed.remote(f"rank {rank}: {type(error).__name__}: {error}", final, may_pass))

    def tell(self, row: Mapping[str, Any]) -> None:
        """Newest figures; nobody waits for them to arrive."""
        self.actor.tell.remote(dict(row))

    def tell_judged(self, step: int, metrics: Mapping[str, float]) -> None:
        """A validation; it has arrived when this returns, also where the worker ends right after it."""
        ray.get(self.actor.tell_judged.remote({"step": step, "metrics": dict(metrics)}))

    @contextmanager
    def listening(self, hear: Callable[[str], None]) -> Iterator[None]:
        """While inside, `hear(reason)` is called once the driver wishes the run to stop, and it hears of us."""
        done = threading.Event()

        def look() -> None:
            with suppress(ray.exceptions.RayError):  # the driver is gone, and Ray ends this worker
                while not done.wait(_LOOK_SECONDS):
                    if reason := ray.get(self.actor.wished.remote()):
                        hear(reason)

        threading.Thread(target=look, name="cineray-wishes", daemon=True).start()
        try:
            yield
        finally:
            done.set()
