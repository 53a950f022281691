"""Lines that only grow: plain values go in, JSON lines come to lie in a run's folder, and a kill loses few or none.

On a local disk each line is one write to `<name>.jsonl`: what was added survives SIGKILL of this process at any
moment. An object store cannot append, so lines are put every few seconds as new objects `<name>-000001.jsonl`, by a
thread of their own: a kill loses those seconds, a slow store does not hold up a step. A log that cannot be written is
told once as a warning; it never ends a run.
"""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from cineray.errors import CinerayError
from cineray.storage import is_remote, join_uri, list_objects, put_object, read_object

_LIMIT_BYTES = 1 << 30


class AppendLog(Protocol):
    """One writer's log; many writers write logs of different names."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Keep one line."""

    def close(self) -> None:
        """Everything that was added is now where it belongs."""


def open_log(folder: str, name: str, *, every_seconds: float = 5.0) -> AppendLog:
    """A log in a folder or under a prefix; `name` must be new there."""
    return _RemoteLog(folder, name, every_seconds) if is_remote(folder) else _LocalLog(folder, name)


def read_logs(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, line) of all logs in a folder, log by log in the order of their names; a torn last line is left out."""
    for found in list_objects(folder):
        stem = found.uri.rsplit("/", 1)[-1]
        if not stem.endswith(".jsonl"):
            continue
        name = stem.removesuffix(".jsonl").partition("-")[0]
        for line in read_object(found.uri, limit_bytes=_LIMIT_BYTES).splitlines():
            told = _parsed(line)
            if told is not None:
                yield name, told


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(line)
    except ValueError:
        return None  # torn: its writer was killed in the middle of it
    return told if isinstance(told, dict) else None


def _as_line(values: Mapping[str, Any]) -> bytes:
    # One line whatever is in it; NaN is written as Python's json reads it back.
    return json.dumps(dict(values), separators=(",", ":"), default=str).encode() + b"\n"


class _LocalLog:
    """One file, opened to append: a line is one write of the system."""

    def __init__(self, folder: str, name: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self._path = join_uri(folder, f"{name}.jsonl")
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._torn = self._told = False

    def add(self, line: Mapping[str, Any]) -> None:
        data = (b"\n" if self._torn else b"") + _as_line(line)
        try:
            self._torn = os.write(self._fd, data) != len(data)
        except OSError as error:
            self._torn = True
            if not self._told:
                warnings.warn(f"{self._path} cannot be written: {error}; the run goes on without it", stacklevel=2)
            self._told = True

    def close(self) -> None:
        if self._fd < 0:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            warnings.warn(f"{self._path} was not forced to disk: {error}", stacklevel=2)
        os.close(self._fd)
        self._fd = -1


class _RemoteLog:
    """Lines are gathered, and put as one object every few seconds."""

    def __init__(self, folder: str, name: str, every_seconds: float) -> None:
        self._folder, self._name, self._every = folder, name, every_seconds
        self._lines: list[bytes] = []
        self._parts = 0
        self._told = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"log-{name}", daemon=True)
        self._thread.start()

    def add(self, line: Mapping[str, Any]) -> None:
        with self._lock:
            self._lines.append(_as_line(line))

    def close(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._put()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._put()

    def _put(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            put_object(join_uri(self._folder, f"{self._name}-{self._parts + 1:06d}.jsonl"), b"".join(lines))
            self._parts += 1
        except CinerayError as error:
            with self._lock:
                self._lines[:0] = lines  # they go with the next part
            if not self._told:
                warnings.warn(f"the log {self._name} cannot be written: {error}; it is tried again", stacklevel=2)
            self._told = True
