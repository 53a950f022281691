"""What runs on Ray's workers: rows that say which steps of which rank go in, rows that hold their batches come out.

    {first_step: 8, stop_step: 12, rank: 1}   ->   {first_step: 8, rank: 1, frames_BTHWC: (1, 4, B, T, H, W, 3), ...}

One row in, one row out, one block, one task: nothing that Ray Data does to blocks (slicing them, joining them, dividing
them among ranks) can then move a clip to another step or rank.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from cineray.errors import CinerayError
from cineray.feed.supply import FeedSpec
from cineray.feed.visits import Task, make_batches
from cineray.feed.wire import pack

ROWS_PER_LISTER = 2048
MOST_LISTERS = 1000
"""How many rows one listing task lists, one by one and only as they are needed; of endless runs, more than that."""


class PlanRows(Datasource):  # type: ignore[misc]
    """All tasks of some steps for some ranks of a world, in the order in which they are due: window by window."""

    def __init__(self, steps: range, each: int, ranks: range) -> None:
        super().__init__()
        self.steps, self.each, self.ranks = steps, each, ranks

    def estimate_inmemory_data_size(self) -> int | None:
        """Rows are three numbers; unknown is near enough."""
        return None

    @property
    def windows(self) -> range:
        """The windows that the steps lie in, the first and the last maybe in part."""
        return range(self.steps.start // self.each, -(-self.steps.stop // self.each))

    @property
    def windows_per_lister(self) -> int:
        """How many windows one listing task lists."""
        return max(1, ROWS_PER_LISTER // len(self.ranks), -(-len(self.windows) // MOST_LISTERS))

    @property
    def listers(self) -> int:
        """How many tasks list the rows."""
        return -(-len(self.windows) // self.windows_per_lister)

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ARG002
        """The listers."""
        windows, each = self.windows, self.windows_per_lister
        return [self._lister(windows[at : at + each]) for at in range(0, len(windows), each)]

    def _lister(self, windows: range) -> ReadTask:
        steps, each, ranks = self.steps, self.each, self.ranks

        def rows() -> Any:
            for window in windows:
                start, stop = max(steps.start, window * each), min(steps.stop, (window + 1) * each)
                for rank in ranks:
                    yield pa.table({"first_step": [start], "stop_step": [stop], "rank": [rank]})

        count = len(windows) * len(ranks)
        return ReadTask(rows, BlockMetadata(num_rows=count, size_bytes=None, input_files=None, exec_stats=None))


def make_row(row: dict[str, Any], *, spec: FeedSpec, world: int) -> dict[str, Any]:
    """Make the batches of one row. Media that cannot be decoded is replaced, never raised."""
    if len(row["rank"]) != 1:
        raise RuntimeError(
            f"a task was given {len(row['rank'])} rows; the feed needs Ray Data to leave single rows alone"
        )
    start, stop, rank = (int(row[name][0]) for name in ("first_step", "stop_step", "rank"))
    began = time.perf_counter()
    try:
        batches = make_batches(spec.open(), Task(range(start, stop), rank, world), careful=_attempt() > 0)
        arrays, meta = pack(batches)
    except CinerayError as error:
        # Raised where its step is due: through Ray it would come at once, as an error of another type.
        arrays, meta = {}, json.dumps({"error": type(error).__name__, "message": str(error)})
    told = {"first_step": start, "rank": rank, "seconds": time.perf_counter() - began, "meta": meta}
    return {name: array[None] for name, array in arrays.items()} | {k: np.array([v]) for k, v in told.items()}


def _attempt() -> int:
    """How often Ray has tried this task before: a worker or a node died of it, or beside it."""
    return int(ray._private.worker.global_worker.core_worker.get_current_task_attempt_number())
