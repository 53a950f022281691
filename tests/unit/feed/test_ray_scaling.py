"""What the feed wishes for: twice the cores after seconds in which trainers waited for decoders, and nothing otherwise;
and where its tasks go: to the first nodes, so that the last may be idle.

The same on a cluster that scales: tests/faults/test_scaling.py.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("ray")
from cineray.feed.ray_ahead import Bound
from cineray.feed.ray_scaling import FeedScaling, Waiting, decoding_nodes, next_node, wanted_tasks


@pytest.mark.parametrize(
    ("slots", "cpus_per_task", "workers", "wanted"),
    [
        (1, 1.0, 0, 2),
        (30, 1.0, 0, 60),
        (1000, 1.0, 0, 1256),  # no more than 256 cores at once
        (1000, 0.5, 0, 1512),
        (30, 1.0, 40, 40),  # the job says how many at most
        (30, 1.0, 30, 0),
        (60, 1.0, 30, 0),
    ],
)
def test_twice_the_tasks_that_there_is_room_for_within_bounds(
    slots: int, cpus_per_task: float, workers: int, wanted: int
) -> None:
    assert wanted_tasks(slots, cpus_per_task=cpus_per_task, workers=workers) == wanted


def test_a_share_of_the_last_seconds_and_of_no_earlier_ones() -> None:
    waiting = Waiting(over_seconds=10)
    assert waiting.share() == 0.0
    for second in range(10):
        waiting.note(float(second), waits=True)
        assert waiting.share() == 0.0, "nine seconds are too few to say"
    waiting.note(10.0, waits=True)
    assert waiting.share() == 1.0
    for second in range(11, 16):
        waiting.note(float(second), waits=False)
    assert waiting.share() == 0.5
    for second in range(16, 40):
        waiting.note(float(second), waits=False)
    assert waiting.share() == 0.0


@dataclass
class Seen:
    """Stands for the policy and for Ray Data's own autoscaler: what was seen, and what was sent."""

    limit: bool = True
    bound: Bound = field(default_factory=lambda: Bound(row_bytes=1, world=1, in_hand=1, cpus_per_task=0.5))
    sent: list[Any] = field(default_factory=list)

    def decoding_is_the_limit(self) -> bool:
        return self.limit

    def slots(self) -> int:
        return 2

    def _send_resource_request(self, wish: Any) -> None:
        self.sent.append(wish)


def test_a_wish_is_sent_every_ten_seconds_and_taken_back_when_trainers_wait_no_more() -> None:
    seconds, seen = itertools.count(), Seen()
    scaling = FeedScaling(seen, seen, clock=lambda: float(next(seconds)))  # type: ignore[arg-type]
    for second in range(60):
        seen.limit = second < 35
        scaling.try_trigger_scaling()
    assert seen.sent == [[], [], [{"CPU": 0.5}] * 4, [{"CPU": 0.5}] * 4, [], []]


def test_nodes_are_filled_in_an_order_that_stays() -> None:
    decode = {"ray-subcluster": "decode"}

    def node(name: str, *, cpus: float, alive: bool = True, **labels: str) -> dict[str, Any]:
        return {"NodeID": name, "Alive": alive, "Labels": labels, "Resources": {"CPU": cpus} if cpus else {}}

    there = [
        node("c", cpus=1, **{"ray-subcluster": "decode"}),
        node("head", cpus=0),
        node("a", cpus=2.5, **{"ray-subcluster": "decode"}),
        node("b", cpus=4, alive=False, **{"ray-subcluster": "decode"}),
        node("train", cpus=64, **{"ray-subcluster": "train"}),
    ]
    nodes = decoding_nodes(there, decode, 1.0)
    assert nodes == [("a", 2), ("c", 1)]
    assert [next_node(nodes, at_work) for at_work in range(5)] == ["a", "a", "c", "", ""], "full: Ray's own choice"
    assert decoding_nodes(there, decode, 0.5) == [("a", 5), ("c", 2)]
