"""A training without a cluster: a job goes in, a run's folder comes to be, with its record and checkpoints.

A run that lies at the given place already is gone on with, from its newest whole checkpoint. Batches come from a plain
loop (feed.driver=local) or from a DataLoader's workers (torch); what they hold is the same. Ctrl-C and SIGTERM let the
step under way finish and save it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cineray.errors import UsageError
from cineray.feed import FeedSpec, from_torch, loader_of, local_batches
from cineray.train.attempt import attempt_run, open_or_create
from cineray.train.config import LearningJob
from cineray.train.latents_run import feed_of
from cineray.train.loop import Batches
from cineray.train.parallel import World
from cineray.train.side_path import MakeSamples, check_maker, samples_told, side_path
from cineray.train.sinks import Sink
from cineray.train.stop import StopRequest, stopping_by_signals


def run_local(
    job: LearningJob,
    *,
    uri: str = "",
    sinks: Sequence[Sink] = (),
    stop: StopRequest | None = None,
    sample: MakeSamples | None = None,
) -> dict[str, Any]:
    """Train in this process; returns what `cineray train` tells of it. `uri`: where the run is, or will be; `sample`:
    who makes samples beside it, if the job wants some."""
    _check_alone(job)
    check_maker(job, sample)
    world = World.here(gpus=job.parallel.gpus_per_worker)
    run, job = open_or_create(job, uri)
    with stopping_by_signals(stop if stop is not None else StopRequest()) as request:
        spec = feed_of(job, run, on_gpu=world.device.type == "cuda")
        batches = batches_of(job, spec, world)
        with side_path(job, run, sample, request) as side:
            saved = side.saved if side is not None else None
            facts = attempt_run(job, run, batches, world=world, stop=request, sinks=sinks, on_checkpoint=saved)
    return facts | samples_told(run, job)


def batches_of(job: LearningJob, spec: FeedSpec, world: World) -> Batches:
    """This process's share of some steps, as the job's feed brings it."""
    if job.feed.driver == "local":
        return lambda steps: local_batches(spec, steps, rank=world.rank, world=world.size)
    rank, size = world.rank, world.size
    return lambda steps: (from_torch(told) for told in loader_of(spec, steps, job.feed, rank=rank, world=size))


def _check_alone(job: LearningJob) -> None:
    if job.feed.driver == "ray":
        raise UsageError("feed.driver is ray, and this training is without Ray; set feed.driver to local or torch")
    if job.parallel.least_workers > 1:
        raise UsageError(
            f"parallel.workers is {job.parallel.workers}, and a training without Ray is one process; set "
            "parallel.workers=1, or feed.driver=ray"
        )
