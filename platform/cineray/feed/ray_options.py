"""How the feed uses a cluster: a plan in words and a job's `feed` go in, `RayOptions` come out. No field of either
changes a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cineray.errors import UsageError
from cineray.feed.job import SUBCLUSTER, FeedConfig
from cineray.feed.supply import FeedSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """What the Ray feed may be told; `FeedConfig` says what each is for."""

    spec: FeedSpec
    decode_label: Mapping[str, str] | None = None
    """Only nodes with these labels decode: {"ray-subcluster": "decode"}; GPU nodes go without it. None: all decode."""
    workers: int = 0
    """At most so many decode tasks at once; 0: as many as the nodes have cores for."""
    cpus_per_task: float = 1.0
    task_seconds: float = 1.0
    """About how much decoding one task should hold: as many windows as make that, by the plan's estimate. Less means
    a sooner first batch; more means less of Ray's own work per clip."""
    prefetch_steps: int = 4
    """How many steps a rank asks for ahead of use, in whole rows: they come to its own node while others are used."""
    ahead_bytes: int | None = None
    """How much may be decoded or at work ahead of use, over all ranks; by default 0.8 of what Ray Data may use of the
    object stores (half of them)."""
    stall_seconds: float = 600.0
    """A rank that has waited this long for a batch raises FeedStalled."""

    def __post_init__(self) -> None:
        for name, low in (("cpus_per_task", 1e-3), ("workers", 0), ("task_seconds", 0), ("prefetch_steps", 1)):
            if getattr(self, name) < low:
                raise UsageError(f"{name} is {getattr(self, name)}; wanted {low:g} or more")


def ray_options(spec: FeedSpec, feed: FeedConfig) -> RayOptions:
    """What a job says of its feed, for Ray."""
    return RayOptions(
        spec=spec,
        decode_label={SUBCLUSTER: feed.decode_subcluster} if feed.decode_subcluster else None,
        workers=feed.workers,
        cpus_per_task=feed.cpus_per_task,
        task_seconds=feed.task_seconds,
        prefetch_steps=feed.prefetch_steps,
        ahead_bytes=feed.ahead_bytes,
        stall_seconds=feed.no_batch_seconds,
    )
