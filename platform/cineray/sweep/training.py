"""A trial's run at work: a job goes in; judgements come out one by one, and at last what ended it.

    thread       the run, from its start or its newest checkpoint on
    `next`       waits for the next judgement, or the end
    `end`        the run finishes its step, saves, frees what it holds, and only then does this return

Who trains (`run_on_ray` of the train station) is handed in: nothing here knows of Ray.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cineray.train.config import TrainJob
from cineray.train.stop import StopRequest

Train = Callable[..., dict[str, Any]]
"""`run_on_ray`, or what stands in for it: (job, uri=, sinks=, stop=) -> facts."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The run was judged, and goes on."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ended:
    """The run is over, in one way or another."""

    error: BaseException | None = None


class Training:
    """The run, and the sink that hears of it."""

    def __init__(self, train: Train, job: TrainJob, uri: str) -> None:
        self._train, self._job, self._uri = train, job, uri
        self._request = StopRequest()
        self._news: queue.SimpleQueue[Judged | Ended] = queue.SimpleQueue()
        self.newest: Mapping[str, Any] = {}
        """The newest row of the ledger that was told."""
        self._thread = threading.Thread(target=self._whole, name="trial", daemon=True)
        self._thread.start()

    def next(self, *, wait_seconds: float) -> Judged | Ended | None:
        """What is new; None where nothing is within that time."""
        try:
            return self._news.get(timeout=wait_seconds)
        except queue.Empty:
            return None

    def wish(self, reason: str) -> None:
        """Let it end in order; `next` tells when it has."""
        self._request.wish(reason)

    def end(self, reason: str) -> None:
        """Let it end in order, and wait for that."""
        self._request.wish(reason)
        self._thread.join()

    def _whole(self) -> None:
        try:
            self._train(self._job, uri=self._uri, sinks=[self], stop=self._request)
        except BaseException as error:
            self._news.put(Ended(error))
            return
        self._news.put(Ended())

    # ---- the run's sink ----------------------------------------------------------------------------------------------

    def row(self, row: Mapping[str, Any]) -> None:
        """A step."""
        self.newest = row

    def judged(self, step: int, metrics: Mapping[str, float]) -> None:
        """A judgement."""
        self._news.put(Judged(step, dict(metrics)))

    def close(self, summary: Mapping[str, Any]) -> None:
        """What ended it is told by `next`."""
