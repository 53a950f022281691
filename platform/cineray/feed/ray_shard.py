"""One rank's end of the Ray feed: rows come out of Ray Data, batches leave, each checked to be the one that is due.

A thread of its own pulls rows, so that waiting can be watched: when none comes for too long, the error says what Ray
knows. Arrays are read-only views of Ray's shared memory, which is held as long as they are: let batches go.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray

from cineray import errors
from cineray.errors import CinerayError, FeedOrderError, FeedStalled
from cineray.feed.limit import SubstitutionLimit
from cineray.feed.wire import ARRAYS, unpack
from cineray.records import Batch

_log = logging.getLogger("cineray.feed")
_END = object()


@dataclass(slots=True)
class FeedTimes:
    """What a shard has measured so far."""

    waited_seconds: float = 0.0
    """How long the trainer waited for batches."""
    tasks: int = 0
    task_seconds: float = 0.0
    """How long workers took for the tasks that arrived."""
    batches: int = 0


class RayShard:
    """The batches of one rank. Small and picklable: hand it to the process that trains."""

    def __init__(
        self,
        iterator: Any,
        steps: range,
        *,
        rank: int,
        max_substituted_fraction: float,
        stall_seconds: float = 1800.0,
        prefetch_rows: int = 1,
    ) -> None:
        self.iterator, self.steps, self.rank = iterator, steps, rank
        self.max_substituted_fraction = max_substituted_fraction
        self.stall_seconds, self.prefetch_rows = stall_seconds, prefetch_rows
        self.times = FeedTimes()

    def batches(self) -> Iterator[Batch]:
        """The batches of this rank, from the first step to the last. Close it (or end the loop) to stop decoding."""
        limit = SubstitutionLimit(self.max_substituted_fraction)
        rows = _Rows(self.iterator, self.prefetch_rows)
        due = self.steps.start
        try:
            while due < self.steps.stop:
                for batch in self._checked(self._next(rows, due), due):
                    limit.check(batch)
                    due += 1
                    self.times.batches += 1
                    yield batch
                del batch  # its memory is not held while the next row is waited for
        finally:
            rows.close()
        warn_of_spilling()

    def _next(self, rows: _Rows, due: int) -> dict[str, Any]:
        began = time.monotonic()
        try:
            row = rows.get(self.stall_seconds)
        except queue.Empty:
            raise FeedStalled(self._stalled(due)) from None
        finally:
            self.times.waited_seconds += time.monotonic() - began
        if row is None:
            raise FeedOrderError(f"rank {self.rank}: Ray Data has no more rows where step {due} was due; restart there")
        self.times.tasks += 1
        self.times.task_seconds += float(row["seconds"][0])
        return row

    def _checked(self, row: dict[str, Any], due: int) -> list[Batch]:
        found = int(row["first_step"][0]), int(row["rank"][0])
        if found != (due, self.rank):
            raise FeedOrderError(
                f"rank {self.rank} was to get step {due} and got step {found[0]} of rank {found[1]}: Ray Data did not "
                f"keep the order. Nothing was trained on it; restart from step {due}, and report that it is Ray "
                f"{ray.__version__}"
            )
        if ARRAYS[0] not in row:
            raise _told(str(row["meta"][0]))
        return unpack({name: row[name][0] for name in ARRAYS}, str(row["meta"][0]))

    def _stalled(self, due: int) -> str:
        known = []
        for name, ask in (("resources", ray.cluster_resources), ("free", ray.available_resources)):
            try:
                known.append(f"{name}: { {k: v for k, v in ask().items() if not k.startswith('node:')} }")
            except Exception as error:
                known.append(f"{name}: unknown ({error})")
        return (
            f"rank {self.rank}: no batch for {self.stall_seconds:g} s, step {due} is due; {self.times.tasks} tasks had "
            f"come, of {self.times.task_seconds / max(1, self.times.tasks):.1f} s each. {'; '.join(known)}. Are there "
            "cores for decoding (nodes with the decode label, not all held by trainers)? `ray status` tells; a restart "
            "goes on from here"
        )


class _Rows:
    """The rows of an iterator, pulled by a thread when asked for: Ray's own threads fetch ahead, this one waits."""

    def __init__(self, iterator: Any, prefetch_rows: int) -> None:
        self._iterator, self._prefetch = iterator, prefetch_rows
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._pull, name="cineray-ray-feed", daemon=True)
        self._thread.start()

    def get(self, seconds: float) -> dict[str, Any] | None:
        """The next row, None behind the last one; raises queue.Empty, or what Ray raises."""
        self._wanted.put(True)
        found = self._found.get(timeout=seconds)
        if isinstance(found, BaseException):
            raise found
        return None if found is _END else found

    def close(self) -> None:
        """Stop pulling; Ray Data stops making rows once all ranks have. A thread that Ray lets wait is left behind."""
        self._wanted.put(False)
        self._thread.join(timeout=2)

    def _pull(self) -> None:
        rows = iter(self._iterator.iter_batches(batch_size=1, batch_format="numpy", prefetch_batches=self._prefetch))
        try:
            while self._wanted.get():
                self._found.put(next(rows, _END))
        except (Exception, SystemExit) as error:  # the consumer's, raised there; SystemExit when Ray ends under us
            self._found.put(error)
        finally:
            rows.close()


def _told(meta: str) -> CinerayError:
    """An error of ours that was raised in a worker, as it was."""
    told = json.loads(meta)
    kind = getattr(errors, told["error"], CinerayError)
    return kind(told["message"]) if issubclass(kind, CinerayError) else CinerayError(told["message"])


def spilled_bytes() -> int:
    """What this Ray's object stores have written to disk since it was started."""
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    address = ray.get_runtime_context().gcs_address
    return int(get_memory_info_reply(get_state_from_address(address)).store_stats.spilled_bytes_total)


def warn_of_spilling() -> None:
    """The window is meant to keep the feed from it; other users of the same Ray may not."""
    spilled = spilled_bytes()
    if spilled:
        _log.warning(
            "Ray's object stores have spilled %.1f GB to disk, which slows the feed; give them more memory, or lower "
            "window_bytes",
            spilled / 1e9,
        )
