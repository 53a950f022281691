"""A training without a cluster: a job goes in, a run's folder comes to be, with its record and checkpoints.

A run that lies at the given place already is gone on with, from its newest whole checkpoint. Batches come from a plain
loop (feed.driver=local) or from a DataLoader's workers (torch); what they hold is the same. Ctrl-C and SIGTERM let the
step under way finish and save it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from cineray.errors import UsageError
from cineray.feed import FeedSpec, TorchFeed, from_torch, local_batches
from cineray.records import Batch
from cineray.train.attempt import attempt_run, open_or_create
from cineray.train.config import LearningJob
from cineray.train.latents_run import feed_of
from cineray.train.loop import Batches
from cineray.train.parallel import World
from cineray.train.sinks import Sink
from cineray.train.stop import StopRequest, stopping_by_signals


def run_local(
    job: LearningJob, *, uri: str = "", sinks: Sequence[Sink] = (), stop: StopRequest | None = None
) -> dict[str, Any]:
    """Train in this process; returns what `cineray train` tells of it. `uri`: where the run is, or will be."""
    _check_alone(job)
    run, job = open_or_create(job, uri)
    world = World.here()
    with stopping_by_signals(stop if stop is not None else StopRequest()) as request:
        spec = feed_of(job, run, on_gpu=world.device.type == "cuda")
        return attempt_run(job, run, batches_of(job, spec, world), world=world, stop=request, sinks=sinks)


def batches_of(job: LearningJob, spec: FeedSpec, world: World) -> Batches:
    """This process's share of some steps, as the job's feed brings it."""
    if job.feed.driver == "local":
        return lambda steps: local_batches(spec, steps, rank=world.rank, world=world.size)
    workers = job.feed.workers or len(os.sched_getaffinity(0))
    ahead = max(1, -(-job.feed.prefetch_steps // workers))

    def loaded(steps: range) -> Iterator[Batch]:
        feed = TorchFeed(spec, steps, rank=world.rank, world=world.size)
        return (from_torch(told) for told in feed.loader(num_workers=workers, prefetch_factor=ahead))

    return loaded


def _check_alone(job: LearningJob) -> None:
    if job.feed.driver == "ray":
        raise UsageError("feed.driver is ray, and this training is without Ray; set feed.driver to local or torch")
    if job.parallel.least_workers > 1:
        raise UsageError(
            f"parallel.workers is {job.parallel.workers}, and a training without Ray is one process; set "
            "parallel.workers=1, or feed.driver=ray"
        )
