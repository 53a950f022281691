"""Batches on their way to the device: batches go in, (batch, its parts on the device) come out, in the same order.

On a GPU a thread takes the next batch while the device computes, puts it into memory that the GPU can read by itself,
and has it copied on a stream of its own: the step that uses it waits for the copy, and for nothing else. On a CPU there
is nothing to bring anywhere, and everything happens in turn.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import fields
from typing import NamedTuple

import torch
from torch import Tensor

from cineray.records import Batch
from cineray.train.inputs import Inputs

AHEAD = 2
"""Batches that lie on the device before they are asked for, at most."""

Cut = Callable[[Batch], list[Inputs]]
"""A batch as micro-batches in main memory."""


class Arrived(NamedTuple):
    """A batch, and its parts on the device."""

    batch: Batch
    parts: list[Inputs]
    copied: tuple[torch.cuda.Event, torch.cuda.Event] | None = None
    """On a GPU: begin and end of the copy."""

    def copy_seconds(self) -> float:
        """How long the copy took. It was begun a step or two ago: there is nothing to wait for, or data is late."""
        if self.copied is None:
            return 0.0
        begun, done = self.copied
        done.synchronize()
        return float(begun.elapsed_time(done)) / 1000


def arriving(batches: Iterator[Batch], cut: Cut, device: torch.device) -> Generator[Arrived]:
    """In the order of the batches. Close it to stop taking further ones."""
    if device.type == "cuda":
        yield from _BySideStream(batches, cut, device)
        return
    for batch in batches:
        yield Arrived(batch, [part.to(device) for part in cut(batch)])


class _Copied(NamedTuple):
    arrived: Arrived
    pinned: list[Inputs]
    """Held until the copy is done."""


class _BySideStream:
    """The thread, its stream, and what lies ready."""

    def __init__(self, batches: Iterator[Batch], cut: Cut, device: torch.device) -> None:
        self._batches, self._cut, self._device = batches, cut, device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._ready: queue.Queue[_Copied | BaseException | None] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cineray-to-device", daemon=True)

    def __iter__(self) -> Iterator[Arrived]:
        self._thread.start()
        try:
            while (found := self._ready.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield self._taken_over(found)
        finally:
            self._stopped.set()
            while self._thread.is_alive():  # it may wait for room
                _drain(self._ready)
                self._thread.join(0.05)

    def _taken_over(self, copied: _Copied) -> Arrived:
        """From now on the memory belongs to the computing stream, which begins once the copy is done."""
        computing = torch.cuda.current_stream(self._device)
        assert copied.arrived.copied is not None
        computing.wait_event(copied.arrived.copied[1])
        for part in copied.arrived.parts:
            for field in fields(part):
                value = getattr(part, field.name)
                if isinstance(value, Tensor):
                    value.record_stream(computing)
        return copied.arrived

    def _run(self) -> None:
        try:
            for batch in self._batches:
                if self._stopped.is_set():
                    return
                self._ready.put(self._copied(batch))
            self._ready.put(None)
        except BaseException as error:  # whatever it is belongs to who trains, and is raised there
            self._ready.put(error)

    def _copied(self, batch: Batch) -> _Copied:
        pinned = [part.pinned() for part in self._cut(batch)]
        begun, done = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            begun.record()
            parts = [part.to(self._device, non_blocking=True) for part in pinned]
            done.record()
        return _Copied(Arrived(batch, parts, (begun, done)), pinned)


def _drain(ready: queue.Queue[_Copied | BaseException | None]) -> None:
    try:
        while True:
            ready.get_nowait()
    except queue.Empty:
        return


class Reading:
    """Numbers on their way from the device: on their way at once, read when they are wanted.

    Asking a GPU for a number waits for all that it was given by then, the next step too. So the copy is queued right
    behind the step that made them, into pinned memory, and only this copy is waited for.
    """

    def __init__(self, values_N: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._values_N = values_N
        if values_N.device.type == "cuda":
            self._values_N = torch.empty(values_N.shape, dtype=values_N.dtype, pin_memory=True)
            self._values_N.copy_(values_N, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def numbers(self) -> list[float]:
        """They have come."""
        if self._event is not None:
            self._event.synchronize()
        return [float(value) for value in self._values_N.tolist()]
