"""Memory and processor seconds of a process and of all that it started, while something runs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

_EVERY_SECONDS = 0.2


@dataclass(slots=True)
class Usage:
    """What a stretch of work took; complete when the `with` has ended."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_bytes: int = 0


@contextmanager
def watched() -> Iterator[Usage]:
    """Measure the process tree while inside. Processes that begin and end within a fifth of a second may be missed."""
    usage, stop, seen = Usage(), threading.Event(), _seen()
    before, began = sum(seen.values()), time.perf_counter()

    def watch() -> None:
        while not stop.wait(_EVERY_SECONDS):
            seen.update(_seen())
            usage.peak_rss_bytes = max(usage.peak_rss_bytes, tree_rss_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield usage
    finally:
        usage.wall_seconds = time.perf_counter() - began
        stop.set()
        watcher.join()
        seen.update(_seen())
        usage.cpu_seconds = sum(seen.values()) - before
        usage.peak_rss_bytes = max(usage.peak_rss_bytes, tree_rss_bytes())


def tree_rss_bytes() -> int:
    """Resident memory of this process and all below it; pages that they share are counted in each."""
    total = 0
    for process in _tree():
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def _seen() -> dict[tuple[int, float], float]:
    """Processor seconds by process; a number that is used again belongs to another process."""
    seconds = {}
    for process in _tree():
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds[process.pid, process.create_time()] = times.user + times.system
    return seconds


def _tree() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]
