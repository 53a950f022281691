"""How many nodes the feed asks a cluster's autoscaler for: who waits for whom goes in, a wish for cores comes out,
twice what there is while trainers wait for decoders, and none otherwise.

    all cores decode, nothing lies ready  ->  most of twenty seconds   ->  ask for twice the cores
    rows lie ready, the trainer is slow   ->  ask for none, and fill nodes in turn: those left over may go

Left to itself Ray Data asks for twice the cores whenever half of them are in use, as they are where decoding keeps up
with its trainer well; and what was once asked for it asks for until the end, so that no node may go. The first node
needs no wish: tasks that wait for a node with their label are enough for an autoscaler. And Ray Data spreads tasks over
all nodes, and Ray sends them where their arguments lie, which after a while is on all of them: no node is ever idle.
So nodes for decoding are filled in one order here (`InTurn`), and the last are left alone when there is less to do.

This is where the feed hangs on to Ray Data's scaling; the executor's attributes that are used are not promised by Ray.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.data._internal.cluster_autoscaler import ClusterAutoscaler
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cineray.feed.ray_ahead import AheadPolicy

FACTOR = 2
MOST_CORES_MORE = 256.0
"""As Ray Data has them."""
_ASK_SECONDS = 10.0
"""How often to ask. A wish that is not renewed lapses after some minutes."""
OVER_SECONDS = 20.0
"""What holds for so long is more than a batch that was large, or a moment in which somebody else had the cores."""
_MOST_OF = 0.5
_LOOK_SECONDS = 5.0
"""How old a list of nodes may be. A node that is gone by then costs nothing: its task goes to another."""


class Waiting:
    """For how large a part of the last seconds decoding was what everybody waited for."""

    def __init__(self, over_seconds: float = OVER_SECONDS) -> None:
        self.over_seconds = over_seconds
        self._seen: list[tuple[float, bool]] = []

    def note(self, now: float, waits: bool) -> None:
        """Since the last note, this."""
        self._seen.append((now, waits))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self.over_seconds:
            self._seen.pop(0)

    def share(self) -> float:
        """From 0 to 1; 0 as long as too little was seen."""
        seconds = self._seen[-1][0] - self._seen[0][0] if self._seen else 0.0
        if seconds < self.over_seconds:
            return 0.0
        pairs = zip(self._seen, self._seen[1:], strict=False)
        return sum(after - before for (before, _), (after, waits) in pairs if waits) / seconds


def wanted_tasks(slots: int, *, cpus_per_task: float, workers: int) -> int:
    """How many decode tasks there should be room for, where `slots` of them are too few; 0: no more than there are."""
    most = slots + int(MOST_CORES_MORE / cpus_per_task)
    wanted = min(FACTOR * slots, most, workers or most)
    return wanted if wanted > slots else 0


class FeedScaling(ClusterAutoscaler):  # type: ignore[misc]
    """In place of what Ray Data would ask for; how wishes travel, and what this dataset may use, stay Ray Data's."""

    def __init__(self, rays: Any, policy: AheadPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._rays, self._policy, self._clock = rays, policy, clock
        self._waiting = Waiting()
        self._asked_at = clock()

    def try_trigger_scaling(self) -> None:
        """Called at each turn of the executor."""
        now = self._clock()
        self._waiting.note(now, self._policy.decoding_is_the_limit())
        if now - self._asked_at >= _ASK_SECONDS:
            self._asked_at = now
            self._rays._send_resource_request(self.wish())

    def wish(self) -> list[dict[str, float]]:
        """The room that the cluster should have, a bundle for each task."""
        bound = self._policy.bound
        if self._waiting.share() <= _MOST_OF:
            return []
        tasks = wanted_tasks(self._policy.slots(), cpus_per_task=bound.cpus_per_task, workers=bound.workers)
        return [{"CPU": bound.cpus_per_task} for _ in range(tasks)]

    def on_executor_shutdown(self) -> None:
        """What was asked for is needed no more."""
        self._rays.on_executor_shutdown()

    def get_total_resources(self) -> Any:
        """What this dataset may use."""
        return self._rays.get_total_resources()


class InTurn:
    """Where the next decode task would best run: on the first node, in an order that stays, that the tasks at work do
    not fill. Only a wish: a node that is full, gone or leaving is passed over by Ray."""

    def __init__(self, policy: AheadPolicy, label: Mapping[str, str]) -> None:
        self._policy, self._label = policy, label
        self._nodes: Sequence[tuple[str, int]] = ()
        self._looked_at = -_LOOK_SECONDS

    def __call__(self) -> dict[str, Any]:
        """What Ray is told with the task."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._nodes = decoding_nodes(ray.nodes(), self._label, self._policy.bound.cpus_per_task)
        node = next_node(self._nodes, self._policy.at_work())
        if not node:
            return {}
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)}


def decoding_nodes(
    nodes: Sequence[Mapping[str, Any]], label: Mapping[str, str], cpus_per_task: float
) -> list[tuple[str, int]]:
    """Ids of the nodes alive that have the label, in order, each with how many tasks it has cores for."""
    alive = [node for node in nodes if node["Alive"] and label.items() <= node["Labels"].items()]
    return sorted((node["NodeID"], int(node["Resources"].get("CPU", 0) / cpus_per_task)) for node in alive)


def next_node(nodes: Sequence[tuple[str, int]], at_work: int) -> str:
    """The first node with room for one more than there are at work; none where all are full."""
    for node, slots in nodes:
        if at_work < slots:
            return node
        at_work -= slots
    return ""


def install(context: Any) -> None:
    """Make a dataset's context scale so."""
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, ScalesByWaiting]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray Data will manage this itself one day, which is not this Ray
        context.scheduling_strategy = "DEFAULT"


class ScalesByWaiting(ExecutionCallback):  # type: ignore[misc]
    """Puts `FeedScaling` in its place when an execution starts."""

    def before_execution_starts(self, executor: Any) -> None:
        """Called once, before the first task."""
        (policy,) = (one for one in executor._backpressure_policies if isinstance(one, AheadPolicy))
        executor._cluster_autoscaler = FeedScaling(executor._cluster_autoscaler, policy)
        label = executor._data_context.execution_options.label_selector
        if label:
            policy.place_by(InTurn(policy, label))
