"""How far ahead Ray Data may work: measured latency and a bound of bytes go in, "start another task" or not comes out.

    rows listed -> [ tasks at work | done, in order | in a rank's hands ] -> in use
                   |<------------------- ahead_bytes ---------------->|

Every row of the feed has a known size and each rank a known number in its hands, so the bound is exact: a slow trainer
stops decoding, and the object store does not spill. Nothing is taken from what ranks report, which is as old as their
last question. Below that bound, ahead is what the trainer uses up while one task takes its time, and some for tasks
that take longer. Tasks are handed to Ray a little before a core is free: waiting for one to end first would leave each
core idle for a tenth of a second per task.

This file, and the keys that `install` sets, are the feed's only use of what Ray Data does not promise to keep;
cineray's Ray is pinned to one minor version, and tests/unit/feed/test_ray_feed.py holds what is relied on.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ray.data._internal.execution.backpressure_policy import ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy
from ray.data._internal.execution.operators.map_operator import MapOperator

_CONFIG_KEY = "cineray.ahead"
_RATE_SECONDS = 30.0
_RAY_DATA_SHARE = 0.5
"""What Ray Data may use of the object stores; the rest is for what ranks are using, and for others."""
_STORE_SHARE = 0.8
"""Of that."""
_SPILL_SHARE = 0.75
"""Of the object stores; from 0.8 on, Ray writes to disk."""
_ASKED_AGAIN_SECONDS = 0.02
"""With nothing at work, how often to look whether a rank has used something up."""
_FREED_AFTER_SECONDS = 1.2
"""Ray frees what is used up once a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What bounds the rows ahead."""

    row_bytes: int
    world: int
    in_hand: int
    """How many rows each rank may have asked for and not used."""
    cpus_per_task: float
    workers: int = 0
    """At most so many tasks at once; 0: as many as there are cores for."""
    ahead_bytes: int | None = None
    """None: 0.8 of what Ray Data may use of the object store."""


def install(context: Any, bound: Bound) -> None:
    """Make a dataset's context use this policy, and it alone."""
    context.set_config(_CONFIG_KEY, asdict(bound))
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [AheadPolicy])
    # Ray Data's own budgets would hold cores back for the operator that lists rows, which needs none.
    context.op_resource_reservation_enabled = False
    context.override_object_store_memory_limit_fraction = _RAY_DATA_SHARE  # without its budgets it would be a quarter


def depth_of(*, at_work: int, rows_per_second: float, slow_task_seconds: float, world: int, most: int) -> int:
    """How many rows ahead keep every core at work, and every rank supplied while one task is slow."""
    return min(most, at_work + math.ceil(rows_per_second * slow_task_seconds) + world)


class AheadPolicy(BackpressurePolicy):  # type: ignore[misc]
    """Lets the two operators of the feed run ahead by so much and no more; other operators run freely."""

    def __init__(self, data_context: Any, topology: Any, resource_manager: Any) -> None:
        super().__init__(data_context, topology, resource_manager)
        self.bound = Bound(**data_context.get_config(_CONFIG_KEY))
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
        if op.num_active_tasks() < self.most_at_work() and self.ahead() < self.depth():
            return True
        if op.num_active_tasks() == 0:
            # Ray Data waits for tasks at work, and where there are none it asks again at once, with a whole core.
            time.sleep(_ASKED_AGAIN_SECONDS)
        return False

    def max_task_output_bytes_to_read(self, op: Any) -> int | None:
        """Listed rows that nobody needs yet stay in the generator that lists them."""
        return 0 if op is self._lister and self._listed() >= self._most_listed() else None

    def decoding_is_the_limit(self) -> bool:
        """Whether every slot has a task, and there is not a row ready for each rank: more slots would help.

        Not while a run begins and hands are still being filled, which is over once ranks have used what they hold.
        """
        at_work, slots = self.at_work(), self.slots()
        ready = self.ahead() - at_work
        taken = self._decoder.metrics.num_tasks_finished - ready
        begins = taken <= 2 * self.bound.world * (self.bound.in_hand + 1)
        return bool(slots > 0 and at_work >= slots and ready < self.bound.world and not begins)

    # ---- what is ahead -----------------------------------------------------------------------------------------------

    def ahead(self) -> int:
        """Rows at work or done, and in no rank's hands."""
        queued = sum(self._topology[op].total_enqueued_output_blocks() for op in self._behind)
        inside = sum(self._topology[op].total_enqueued_input_blocks() for op in self._behind[1:])
        # The output of one operator is the input of the next: the same queue, counted once.
        doubled = sum(self._topology[op].output_queue.num_blocks for op in self._behind[:-1])
        return self.at_work() + int(queued + inside - doubled)

    def depth(self) -> int:
        """How many rows may be ahead."""
        return depth_of(
            at_work=self.most_at_work(),
            rows_per_second=self._rows_per_second(),
            slow_task_seconds=self._slow_task_seconds(),
            world=self.bound.world,
            most=self.most_ahead(),
        )

    def most_ahead(self) -> int:
        """What the bound of bytes holds beside the ranks' hands; one row always, or nothing would move."""
        in_hand = self.bound.world * self.bound.in_hand
        most = self.bound.ahead_bytes
        if most is not None:
            return max(1, most // self.bound.row_bytes - in_hand)
        share = self._resource_manager.get_global_limits().object_store_memory
        if not math.isfinite(share):
            return 1 << 20
        ahead = int(_STORE_SHARE * share) // self.bound.row_bytes
        in_use = self.bound.world + math.ceil(self._rows_per_second() * _FREED_AFTER_SECONDS)
        unspilled = int(_SPILL_SHARE * share / _RAY_DATA_SHARE) // self.bound.row_bytes - in_use
        return max(1, min(ahead, unspilled) - in_hand)

    def at_work(self) -> int:
        """How many decode tasks Ray has been given and has not finished."""
        return int(self._decoder.num_active_tasks())

    def place_by(self, told: Callable[[], dict[str, Any]]) -> None:
        """Ask this, at each decode task, for what Ray is told of where it runs."""
        self._decoder._ray_remote_args_fn = told

    def slots(self) -> int:
        """How many tasks the nodes that decode have cores for."""
        cpus = self._resource_manager.get_global_limits().cpu
        return int(cpus / self.bound.cpus_per_task) if math.isfinite(cpus) else 1 << 20

    def most_at_work(self) -> int:
        """One task per slot, and while trainers wait a quarter more that wait for one; or as many as were asked.

        Only then: to an autoscaler a task that waits is one that wants another node.
        """
        slots = max(1, self.slots())
        most = slots + (max(1, slots // 4) if self.decoding_is_the_limit() else 0)
        return min(most, self.bound.workers) if self.bound.workers else most

    def _listed(self) -> int:
        return int(self._topology[self._decoder].total_enqueued_input_blocks())

    def _most_listed(self) -> int:
        return 2 * self.most_at_work() + 16

    # ---- what was measured -------------------------------------------------------------------------------------------

    def _rows_per_second(self) -> float:
        """How fast rows are used up, over the last half minute."""
        now, taken = time.monotonic(), self._decoder.metrics.num_tasks_finished - self.ahead()
        if not self._taken or now - self._taken[-1][0] > 0.1:
            self._taken.append((now, taken))
        while len(self._taken) > 2 and now - self._taken[0][0] > _RATE_SECONDS:
            self._taken.popleft()
        seconds, rows = now - self._taken[0][0], taken - self._taken[0][1]
        return max(0.0, rows / seconds) if seconds > 1 else 0.0

    def _slow_task_seconds(self) -> float:
        """About the longest of a hundred tasks."""
        measured = self._decoder.metrics.op_task_duration_stats
        return float(measured.mean + 3 * measured.stddev) if measured.num_samples else 0.0
