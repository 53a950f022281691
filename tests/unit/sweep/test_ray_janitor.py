"""What dead actors leave behind in Ray is removed, what lives is left alone, and what is left at the end is counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("ray")
import ray
from ray.util.placement_group import placement_group, placement_group_table

from cineray.sweep.ray_janitor import Left, left_now, left_since, remove_orphans
from cineray.telemetry.ray_session import connected

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def a_ray() -> Iterator[None]:
    with connected(num_cpus=3, object_store_memory=100_000_000):
        yield


def holder() -> Any:
    """An actor that holds a core in a placement group of its own, and ten megabytes."""

    class Holder:
        def hold(self) -> str:
            self.group = placement_group([{"CPU": 1}])
            ray.get(self.group.ready())
            self.kept = ray.put(bytes(10_000_000))
            return str(self.group.id.hex())

    return ray.remote(num_cpus=0)(Holder).remote()


def test_groups_of_the_dead_are_removed_and_those_of_the_living_are_not() -> None:
    before = left_now()
    mine = placement_group([{"CPU": 1}])
    ray.get(mine.ready())
    dying, living = holder(), holder()
    dead_ones, other = ray.get([dying.hold.remote(), living.hold.remote()])
    held = left_now().more_than(before)
    assert (held.placement_groups, held.actors) == (2, 2)
    assert held.store_bytes >= 20_000_000
    assert remove_orphans() == 0

    ray.kill(dying)
    ends = time.monotonic() + 60
    while remove_orphans() == 0:
        assert time.monotonic() < ends, "Ray never called the actor dead"
        time.sleep(0.1)
    states = {group: placement_group_table()[group]["state"] for group in (dead_ones, other, mine.id.hex())}
    assert states == {dead_ones: "REMOVED", other: "CREATED", mine.id.hex(): "CREATED"}

    ray.kill(living)
    assert left_since(before, settle_seconds=60).is_nothing
    assert placement_group_table()[other]["state"] == "REMOVED"
    assert placement_group_table()[mine.id.hex()]["state"] == "CREATED", "what the driver made is its own"


def test_only_what_came_on_top_is_counted() -> None:
    before = Left(placement_groups=1, actors=2, store_bytes=500)
    after = Left(placement_groups=1, actors=3, store_bytes=400)
    assert after.more_than(before) == Left(placement_groups=0, actors=1, store_bytes=0)
    assert not after.more_than(before).is_nothing
