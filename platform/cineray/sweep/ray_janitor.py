"""Nothing of a trial stays in Ray: what dead ones left behind is removed, and what is left at the end is told.

A trial that ends in order frees everything itself. One that is killed cannot: Ray ends its actors, but a placement
group lives until the whole job is over, and holds its cores and GPUs all that time. The cluster's own table says who
made a group and whether that actor is dead; groups that the driver made, or another job, are none of the janitor's
business. It needs no dashboard.

That table is not promised by Ray to stay as it is; what we need of it is all here, and tests show that it
works.
"""

from __future__ import annotations

import gc
import logging
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.internal_api import get_memory_info_reply
from ray._private.state import state as global_state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData
from ray.util.placement_group import PlacementGroup, remove_placement_group

OF_RAY_DATA = frozenset({"AutoscalingCoordinator", "datasets_stats_actor", "DataUsageCollectionActor"})
"""Actors of which Ray Data keeps one each, for as long as the cluster lives."""

_GONE = PlacementGroupTableData.REMOVED
_SETTLE_SECONDS = 20.0
"""Ray frees some things a while after who held them is gone."""
_LOOK_SECONDS = 0.5

_log = logging.getLogger("cineray.sweep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What lies in Ray."""

    placement_groups: int
    """Made by actors of this job, and not removed."""
    actors: int
    """Of this job, and alive; without those that Ray Data keeps."""
    store_bytes: int
    """In the object stores of the whole cluster: others at work on it are in here too."""

    def more_than(self, before: Left) -> Left:
        """What came on top."""
        return Left(
            placement_groups=max(0, self.placement_groups - before.placement_groups),
            actors=max(0, self.actors - before.actors),
            store_bytes=max(0, self.store_bytes - before.store_bytes),
        )

    @property
    def is_nothing(self) -> bool:
        """Is there nothing?"""
        return not (self.placement_groups or self.actors or self.store_bytes)


def remove_orphans() -> int:
    """Remove the placement groups of dead actors of this job; how many there were."""
    found = [group for group in _groups_of_actors() if group.creator_actor_dead]
    for group in found:
        _log.info("a placement group that a dead actor left behind is removed: %s", group.placement_group_id.hex())
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
    return len(found)


def left_now() -> Left:
    """What there is at this moment."""
    return Left(placement_groups=len(_groups_of_actors()), actors=len(_live_actors()), store_bytes=_store_bytes())


def left_since(before: Left, *, settle_seconds: float = _SETTLE_SECONDS) -> Left:
    """What is there on top of `before`, once Ray has had time to free what it frees late; nobody waits for nothing."""
    ends = time.monotonic() + settle_seconds
    while True:
        gc.collect()  # handles that only refer to each other keep their actors alive
        remove_orphans()
        left = left_now().more_than(before)
        if left.is_nothing:
            return left
        if time.monotonic() >= ends:
            _log.warning("left in Ray: %s; actors that live: %s", left, [_kind(one) for one in _live_actors()])
            return left
        time.sleep(_LOOK_SECONDS)


def _groups_of_actors() -> list[Any]:
    """Rows of the cluster's table: groups that actors of this job made, and that are not removed."""
    job, nobody = ray.get_runtime_context().get_job_id(), ray.ActorID.nil().binary()
    table = global_state._connect_and_get_accessor().get_placement_group_table()
    rows = [PlacementGroupTableData.FromString(row) for row in table]
    return [
        row
        for row in rows
        if row.state != _GONE and row.creator_job_id.hex() == job and row.creator_actor_id not in (b"", nobody)
    ]


def _live_actors() -> list[dict[str, Any]]:
    job = ray.get_runtime_context().get_job_id()
    actors = [one for one in global_state.actor_table(None).values() if one["JobID"] == job and one["State"] != "DEAD"]
    return [one for one in actors if one["Name"] not in OF_RAY_DATA]


def _kind(actor: dict[str, Any]) -> str:
    return f"{actor['ActorClassName']} {actor['Name']} {actor['State']}".replace("  ", " ")


def _store_bytes() -> int:
    return int(get_memory_info_reply(global_state).store_stats.object_store_bytes_used)
