"""What runs on Ray's workers: rows that say which steps of which rank go in, rows that hold their batches come out.

    {first_step: 8, stop_step: 12, rank: 1}   ->   {first_step: 8, rank: 1, frames_BTHWC: [...], ..., meta: "..."}

One row in, one row out, one block, one task: nothing that Ray Data does to blocks (slicing them, joining them, dividing
them among ranks) can then move a clip to another step or rank. Where a step is little work, a row is several windows: a
task costs Ray some hundredths of a second, whatever it does.
"""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from cineray.errors import CinerayError
from cineray.feed.supply import FeedSpec, Supply
from cineray.feed.visits import frames_bytes, make_batches, tasks_of
from cineray.feed.wire import Arrays, pack

ROWS_PER_LISTER = 2048
MOST_LISTERS = 1000
"""How many rows one listing task lists, one by one and only as they are needed; of endless runs, more than that."""


class PlanRows(Datasource):  # type: ignore[misc]
    """All rows of some steps for some ranks, in the order in which they are due, `each` steps a row.

    steps [3, 11), 4 a row, 2 ranks:   3..4 of rank 0, of rank 1;   4..8 of rank 0, of rank 1;   8..11 ...
    """

    def __init__(self, steps: range, each: int, ranks: range) -> None:
        super().__init__()
        self.steps, self.each, self.ranks = steps, each, ranks

    def estimate_inmemory_data_size(self) -> int | None:
        """Rows are three numbers; unknown is near enough."""
        return None

    @property
    def spans(self) -> range:
        """The multiples of `each` steps that the steps lie in, the first and the last maybe in part."""
        return range(self.steps.start // self.each, -(-self.steps.stop // self.each))

    @property
    def spans_per_lister(self) -> int:
        """How many of them one listing task lists."""
        return max(1, ROWS_PER_LISTER // len(self.ranks), -(-len(self.spans) // MOST_LISTERS))

    @property
    def listers(self) -> int:
        """How many tasks list the rows."""
        return -(-len(self.spans) // self.spans_per_lister)

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ARG002
        """The listers."""
        spans, some = self.spans, self.spans_per_lister
        return [self._lister(spans[at : at + some]) for at in range(0, len(spans), some)]

    def _lister(self, spans: range) -> ReadTask:
        steps, each, ranks = self.steps, self.each, self.ranks

        def rows() -> Any:
            for span in spans:
                start, stop = max(steps.start, span * each), min(steps.stop, (span + 1) * each)
                for rank in ranks:
                    yield pa.table({"first_step": [start], "stop_step": [stop], "rank": [rank]})

        count = len(spans) * len(ranks)
        return ReadTask(rows, BlockMetadata(num_rows=count, size_bytes=None, input_files=None, exec_stats=None))


def make_row(row: dict[str, Any], *, spec: FeedSpec, world: int, in_hand: int, pass_name: str) -> dict[str, Any]:
    """Make the batches of one row. Media that cannot be decoded is replaced, never raised.

    `in_hand` goes along for the rank: how many rows it may ask for ahead. `pass_name` is new whenever a run (re)starts:
    this worker may have been here before, and read the journal then.
    """
    if len(row["rank"]) != 1:
        raise RuntimeError(
            f"a task was given {len(row['rank'])} rows; the feed needs Ray Data to leave single rows alone"
        )
    start, stop, rank = (int(row[name][0]) for name in ("first_step", "stop_step", "rank"))
    began = time.perf_counter()
    try:
        supply = spec.open()
        if supply.journal is not None:
            supply.journal.begin(pass_name)
        arrays, meta = _packed(supply, range(start, stop), rank, world)
    except CinerayError as error:
        # Raised where its step is due: through Ray it would come at once, as an error of another type.
        arrays, meta = {}, json.dumps({"error": type(error).__name__, "message": str(error)})
    seconds = time.perf_counter() - began
    told = {"first_step": start, "rank": rank, "seconds": seconds, "in_hand": in_hand, "meta": meta}
    return {name: array[None] for name, array in arrays.items()} | {k: np.array([v]) for k, v in told.items()}


def _packed(supply: Supply, steps: range, rank: int, world: int) -> tuple[Arrays, str]:
    """The batches of these steps in one flat array, each decoded into its place."""
    tasks = list(tasks_of(supply, steps, rank, world))
    ends = [0, *itertools.accumulate(frames_bytes(supply, task) for task in tasks)]
    frames, careful = np.empty(ends[-1], np.uint8), _attempt() > 0
    places = [frames[start:stop] for start, stop in itertools.pairwise(ends)]
    batches = [
        batch
        for task, place in zip(tasks, places, strict=True)
        for batch in make_batches(supply, task, careful=careful, out=place)
    ]
    # Where a store had latents, only some of the pictures are there.
    return pack(batches, frames if supply.latents is None else None)


def _attempt() -> int:
    """How often Ray has tried this task before: a worker or a node died of it, or beside it."""
    return int(ray._private.worker.global_worker.core_worker.get_current_task_attempt_number())
