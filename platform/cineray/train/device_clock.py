"""Where the seconds of a step went: phases go in as they happen, a `StepTimes` per step comes out.

    |--- data_wait ---|----------- compute -----------|-- checkpoint, validation --|--- data_wait ---| ...
    '------------------ step 7 ------------------------'------------------------- step 8 ---------- ...

A step's time ends where its computing ends, so what happens after it (a checkpoint, a validation) belongs to the next.

On a CPU the host's clock says it all. On a GPU the host only hands out work and waits elsewhere than it seems: there
phases are marked by events on the computing stream, and `gpu_stall` is the time from the last kernel of one step to the
first of the next, less what a checkpoint or a validation took of it. Events are read a step later, so nobody waits.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

BETWEEN = ("checkpoint", "validation")
"""Phases that are no part of a step's own work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Seconds of one step, in this process; they add up to `step_s`, but for the host's own work."""

    data_wait_s: float
    """The host waited for a batch: on a GPU the device may have been busy meanwhile."""
    host_to_device_s: float
    """Copying inputs; on a GPU beside the computing of the step before."""
    compute_s: float
    checkpoint_s: float
    validation_s: float
    gpu_stall_s: float
    """The device had nothing to do between this step and the one before; NaN on a CPU."""
    step_s: float
    ended: float
    """Unix time at which the host knew of its end."""

    is_first: bool = False
    """Of this process: it waited for a feed that had to start."""

    @property
    def training_s(self) -> float:
        """What counts as training: waiting for data too, but no checkpoint, no validation, and no start of the feed."""
        between = self.checkpoint_s + self.validation_s + (self.data_wait_s if self.is_first else 0.0)
        return max(self.step_s - between, 0.0)


class Mark(Protocol):
    """A moment; on a GPU it lies in the future until the device gets there."""

    def seconds_until(self, later: Any) -> float:
        """To a later mark; waits until the device has got there."""


class HostMark:
    """A moment of the host's clock."""

    def __init__(self) -> None:
        self._at = time.perf_counter()

    def seconds_until(self, later: HostMark) -> float:
        """Seconds."""
        return later._at - self._at


class CudaMark:
    """A moment on the computing stream."""

    def __init__(self) -> None:
        self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._event.record()

    def seconds_until(self, later: CudaMark) -> float:
        """Seconds on the device."""
        later._event.synchronize()
        return float(self._event.elapsed_time(later._event)) / 1000


@dataclass(slots=True)
class _Step:
    """One step as it is measured."""

    host: dict[str, float] = field(default_factory=dict)
    between: list[tuple[str, Mark, Mark]] = field(default_factory=list)
    before: Mark | None = None
    """Where the step before ended."""
    begin: Mark | None = None
    end: Mark | None = None
    ended: float = 0.0
    is_first: bool = False


class StepClock:
    """Measures one process's steps. Phases do not lie within each other."""

    def __init__(self, device: torch.device | None = None) -> None:
        self._cuda = device is not None and device.type == "cuda"
        self._mark: type[HostMark | CudaMark] = CudaMark if self._cuda else HostMark
        self._step = _Step()
        self._done: deque[_Step] = deque()
        self._last_stall_s = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Seconds inside are spent on `name`: data_wait, host_to_device, compute, checkpoint or validation.

        The end of `compute` is the end of a step. What an error broke off is not counted.
        """
        step, began, begin = self._step, time.perf_counter(), self._mark()
        if step.before is None:  # of the very first step
            step.before, step.is_first = begin, True
        yield
        end = self._mark()
        step.host[name] = step.host.get(name, 0.0) + time.perf_counter() - began
        if name in BETWEEN:
            step.between.append((name, begin, end))
        elif name == "compute":
            step.begin, step.end, step.ended = begin, end, time.time()
            self._done.append(step)
            self._step = _Step(before=end)

    def add(self, name: str, seconds: float) -> None:
        """Seconds that somebody else measured, of the step under way (host_to_device on a side stream)."""
        self._step.host[name] = self._step.host.get(name, 0.0) + seconds

    def take(self) -> StepTimes:
        """The times of the oldest step that was not taken yet; on a GPU the device must be about done with it."""
        times = self._times(self._done.popleft())
        self._last_stall_s = times.gpu_stall_s
        return times

    def waiting(self) -> float:
        """Seconds that data was waited for: by the host in the step under way; on a GPU by the device, last taken."""
        return self._last_stall_s if self._cuda else self._step.host.get("data_wait", 0.0)

    def rest(self) -> dict[str, float]:
        """What came after the last step's end: seconds by phase."""
        return dict(self._step.host)

    def _times(self, step: _Step) -> StepTimes:
        assert step.before is not None
        assert step.begin is not None
        assert step.end is not None
        between = dict.fromkeys(BETWEEN, 0.0)
        for name, begin, end in step.between:
            between[name] += begin.seconds_until(end)
        idle = step.before.seconds_until(step.begin) - sum(between.values())
        return StepTimes(
            data_wait_s=step.host.get("data_wait", 0.0),
            host_to_device_s=step.host.get("host_to_device", 0.0),
            compute_s=step.begin.seconds_until(step.end),
            checkpoint_s=between["checkpoint"],
            validation_s=between["validation"],
            gpu_stall_s=max(idle, 0.0) if self._cuda else math.nan,
            step_s=step.before.seconds_until(step.end),
            ended=step.ended,
            is_first=step.is_first,
        )
