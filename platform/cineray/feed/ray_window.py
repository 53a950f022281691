"""How far ahead Ray Data may work: measured latency and a bound of bytes go in, "start another task" or not comes out.

    rows listed -> [ tasks at work | done, in order | pulled by a rank ] -> trainer
                   |<------------------ ahead ------------------------>|

Every row of the feed has a known size, so the bound is exact: no more rows are ahead than `window_bytes` hold, a slow
trainer stops decoding, and the object store does not spill. (Beside these, each rank has two or three rows in its
hands, and Ray frees what was used up to a second late: the rest of the store is for that.) Below that bound, ahead is
what the trainer uses up while one task takes its time, and some for tasks that take longer. Tasks are handed to Ray a
little before a core is free: waiting for one to end first would leave each core idle for a tenth of a second per
task.

This file, and the keys that `install` sets, are the feed's only use of what Ray Data does not promise to keep;
cineray's Ray is pinned to one minor version, and tests/unit/feed/test_ray_feed.py holds what is relied on.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from ray.data._internal.execution.backpressure_policy import ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy
from ray.data._internal.execution.operators.map_operator import MapOperator

_CONFIG_KEY = "cineray.window"
_RATE_SECONDS = 30.0
_STORE_SHARE = 0.8
"""Of what Ray Data may use of the object store (by default half of it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What bounds the rows ahead."""

    row_bytes: int
    world: int
    cpus_per_task: float
    window_bytes: int | None = None
    """None: 0.8 of what Ray Data may use of the object store."""


def install(context: Any, window: Window) -> None:
    """Make a dataset's context use this policy, and it alone."""
    context.set_config(_CONFIG_KEY, asdict(window))
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [WindowPolicy])
    # Ray Data's own budgets would hold cores back for the operator that lists rows, which needs none.
    context.op_resource_reservation_enabled = False


class WindowPolicy(BackpressurePolicy):  # type: ignore[misc]
    """Lets the two operators of the feed run ahead by so much and no more; other operators run freely."""

    def __init__(self, data_context: Any, topology: Any, resource_manager: Any) -> None:
        super().__init__(data_context, topology, resource_manager)
        self.window = Window(**data_context.get_config(_CONFIG_KEY))
        maps = [op for op in topology if isinstance(op, MapOperator)]
        if len(maps) != 2:
            raise RuntimeError(f"the feed has two map operators, and Ray Data planned {[op.name for op in topology]}")
        self._lister, self._decoder = maps
        self._behind = list(topology)[list(topology).index(self._decoder) :]
        self._taken: deque[tuple[float, int]] = deque()

    def can_add_input(self, op: Any) -> bool:
        """Whether another task may be submitted."""
        if op is self._lister:
            # One at a time: listing takes no core, so nothing else would keep all listers from starting at once.
            return bool(op.num_active_tasks() < 1 and self._listed() < self._most_listed())
        if op is not self._decoder:
            return True
        return bool(op.num_active_tasks() < self.most_at_work() and self.ahead() < self.depth())

    def max_task_output_bytes_to_read(self, op: Any) -> int | None:
        """Listed rows that nobody needs yet stay in the generator that lists them."""
        return 0 if op is self._lister and self._listed() >= self._most_listed() else None

    # ---- what is ahead -----------------------------------------------------------------------------------------------

    def ahead(self) -> int:
        """Rows at work, done, or pulled by a rank that has not used them."""
        queued = sum(self._topology[op].total_enqueued_output_blocks() for op in self._behind)
        inside = sum(self._topology[op].total_enqueued_input_blocks() for op in self._behind[1:])
        pulled = (self._resource_manager.get_external_consumer_bytes() or 0) / self.window.row_bytes
        # The output of one operator is the input of the next: the same queue, counted once.
        doubled = sum(self._topology[op].output_queue.num_blocks for op in self._behind[:-1])
        return int(self._decoder.num_active_tasks() + queued + inside - doubled + pulled)

    def depth(self) -> int:
        """How many rows may be ahead."""
        wanted = self.most_at_work() + math.ceil(self._rows_per_second() * self._slow_task_seconds())
        return max(self.window.world + 1, min(self.most_ahead(), wanted + 2 * self.window.world))

    def most_ahead(self) -> int:
        """What the bound of bytes holds."""
        most = self.window.window_bytes
        if most is None:
            store = self._resource_manager.get_global_limits().object_store_memory
            most = int(_STORE_SHARE * store) if math.isfinite(store) else 1 << 40
        return int(most // self.window.row_bytes)

    def most_at_work(self) -> int:
        """One task per slot, and a quarter more that wait for one."""
        cpus = self._resource_manager.get_global_limits().cpu
        slots = int(cpus / self.window.cpus_per_task) if math.isfinite(cpus) else 1 << 20
        return max(1, slots) + max(1, slots // 4)

    def _listed(self) -> int:
        return int(self._topology[self._decoder].total_enqueued_input_blocks())

    def _most_listed(self) -> int:
        return 2 * self.most_at_work() + 16

    # ---- what was measured -------------------------------------------------------------------------------------------

    def _rows_per_second(self) -> float:
        """How fast rows are used up, over the last half minute."""
        now, taken = time.monotonic(), self._decoder.metrics.num_tasks_finished - self.ahead()
        self._taken.append((now, taken))
        while len(self._taken) > 2 and now - self._taken[0][0] > _RATE_SECONDS:
            self._taken.popleft()
        seconds, rows = now - self._taken[0][0], taken - self._taken[0][1]
        return max(0.0, rows / seconds) if seconds > 1 else 0.0

    def _slow_task_seconds(self) -> float:
        """About the longest of a hundred tasks."""
        measured = self._decoder.metrics.op_task_duration_stats
        return float(measured.mean + 3 * measured.stddev) if measured.num_samples else 0.0
