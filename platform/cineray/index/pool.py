"""Indexing that survives its files. `VideoFile`s in; `IndexedVideo`s and `Reject`s out, in the same order, whatever
happens.

    IndexPool ── thread ── pipe ── child process      one per worker: memory and CPU limited by the kernel,
             └─ thread ── pipe ── child process      wall time by us; killed and started anew when it misbehaves

A child that crashes, hangs or eats memory costs the one file that it was looking at a reason. Only a child that cannot
even start is an error: then something is wrong with this machine and not with a file.
"""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from cineray.errors import UsageError
from cineray.index.ordered import in_order
from cineray.index.wire import Message, indexed_to_dict
from cineray.index.worker import Limits, Worker
from cineray.records import IndexedVideo, Reject, VideoFile
from cineray.storage import AccessPolicy

Item = TypeVar("Item")
Result = TypeVar("Result")
CHILD_COMMAND = (sys.executable, "-m", "cineray.index.child")


class IndexPool:
    """Child processes that index files. Use it as a context manager: leaving it ends the children."""

    def __init__(
        self,
        workers: int,
        *,
        level: str = "packets",
        limits: Limits | None = None,
        policy: AccessPolicy | None = None,
        hash_mode: str = "auto",
        child_command: Sequence[str] = CHILD_COMMAND,
    ) -> None:
        if workers < 1:
            raise UsageError(f"workers is {workers}; wanted 1 or more")
        self.workers, self.limits = workers, limits or Limits()
        self._request = {
            "level": level,
            "hash_mode": hash_mode,
            "allow_hosts": sorted((policy or AccessPolicy.from_env()).allow_hosts),
            "cpu_seconds": self.limits.cpu_seconds,
            "memory_bytes": self.limits.memory_bytes,
        }
        self._closed = False
        self._free: queue.LifoQueue[Worker] = queue.LifoQueue()
        self._workers = [Worker(child_command) for _ in range(workers)]
        for child in self._workers:
            self._free.put(child)

    def __enter__(self) -> IndexPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all children, also those that are at work."""
        self._closed = True
        for child in self._workers:
            child.end()

    @contextmanager
    def abandoned(self) -> Iterator[None]:
        """While inside, children are ended and none is started: who waits for one gets an error instead. Then the pool
        goes on with fresh ones."""
        for child in self._workers:
            child.end()
        try:
            yield
        finally:
            for child in self._workers:
                child.ended = self._closed

    def index(self, file: VideoFile) -> IndexedVideo | Reject:
        """Index one file; may be called from several threads, and waits for a free child."""
        return self._ask(file, self._request)

    def remux(self, file: VideoFile, video: IndexedVideo, out_path: str) -> IndexedVideo | Reject:
        """`remux` in a child; `out_path` is a path of this machine, and holds nothing after a `Reject`."""
        values = indexed_to_dict(video)
        frames: bytes = values.pop("frames")
        result = self._ask(file, {**self._request, "remux": values, "out_path": os.path.abspath(out_path)}, frames)
        if isinstance(result, Reject) and os.path.exists(out_path):
            os.unlink(out_path)  # the child may have been killed before it could do so
        return result

    def ask(self, file: VideoFile, what: str, told: Mapping[str, Any], raw: bytes = b"") -> Message | Reject:
        """Ask a child something else than to index: one of the `asks` that the program of `child_command` serves.

        Plain values and bytes go in and come out; an answer that is a `Reject` comes out as one.
        """
        with self._child() as worker:
            answer = worker.exchange(file, {**self._request, **told, "ask": what}, raw, self.limits)
        if not isinstance(answer, Reject) and "reject" in answer[0]:
            return Reject(**answer[0]["reject"])
        return answer

    def _ask(self, file: VideoFile, request: dict[str, Any], raw: bytes = b"") -> IndexedVideo | Reject:
        with self._child() as worker:
            return worker.ask(file, request, raw, self.limits)

    @contextmanager
    def _child(self) -> Iterator[Worker]:
        worker = self._free.get()
        try:
            yield worker
        finally:
            self._free.put(worker)

    def map(self, files: Iterable[VideoFile]) -> Iterator[IndexedVideo | Reject]:
        """One result per file, in the order of the files; at most four files per worker are taken ahead."""
        return self.each(self.index, files, ahead=4 * self.workers, name="cineray-index")

    def each(self, do: Callable[[Item], Result], items: Iterable[Item], *, ahead: int, name: str) -> Iterator[Result]:
        """`in_order` of something that asks the children, as many at once as there are."""
        return in_order(do, items, workers=self.workers, ahead=ahead, name=name, abandoned=self.abandoned)
