"""What there is for a training on the Ray that this process is connected to: a job goes in; what a worker takes of a
cluster, whether there is room, and what is said where there is none, come out.

Whether it trains on GPUs is asked once, when the driver starts: nodes come and go while it is at work.
"""

from __future__ import annotations

import logging
import math
import os

import ray

from cineray.errors import UsageError
from cineray.train.accelerators import ON_GPUS, SAYS, gpus_of_worker, labels_alive
from cineray.train.config import LearningJob, ParallelConfig
from cineray.train.side_path import samples_of

PATIENT_SECONDS = 60.0
"""When the driver says what it waits for."""

_log = logging.getLogger("cineray.train")


def gpus_on_ray(parallel: ParallelConfig) -> int:
    """GPUs of a worker."""
    return gpus_of_worker(parallel, gpus=ray.cluster_resources().get("GPU", 0.0), labels=labels_alive(ray.nodes()))


def of_worker(job: LearningJob, gpus: int) -> dict[str, float]:
    """What Ray is to give it."""
    return {"CPU": job.parallel.cpus_per_worker} | ({"GPU": gpus} if gpus else {})


def cpus_here(job: LearningJob) -> int:
    """Of an embedded Ray: this machine's cores decode; trainers come on top, for they share the same cores, and so do
    samples."""
    samples = samples_of(job)
    besides = job.parallel.most_workers * job.parallel.cpus_per_worker + (samples.cpus if samples is not None else 0)
    return len(os.sched_getaffinity(0)) + math.ceil(besides)


def check_room(job: LearningJob, gpus: int) -> None:
    """Trainers that take every core would wait for batches for ever."""
    there = ray.cluster_resources()
    if there.get("GPU", 0) < gpus * job.parallel.least_workers:
        return  # their nodes are still to come, and bring cores
    cpus = float(there.get("CPU", 0))
    apart = bool(job.feed.decode_subcluster) or gpus > 0
    # An elastic run takes what it can get: on CPUs alone, and without a part for decoding, that is all.
    workers = job.parallel.least_workers if apart else job.parallel.most_workers
    needed = workers * job.parallel.cpus_per_worker
    if 0 < cpus < needed + 1:
        raise UsageError(
            f"{workers} workers of {job.parallel.cpus_per_worker:g} CPUs each need {needed:g} CPUs "
            f"and decoding at least 1 more; the cluster has {cpus:g}. Lower parallel.workers or "
            "parallel.cpus_per_worker, add machines, or name those that decode by feed.decode_subcluster"
        )


def tell_of_cores(job: LearningJob, gpus: int, *, is_cluster: bool) -> None:
    """Nobody is to find out by the bill that a cluster's cores computed what its GPUs were for."""
    if is_cluster and not gpus and job.parallel.gpus_per_worker is None:
        _log.warning(
            "trains on cores: the cluster has %g GPUs for %d workers now, and no node with the label %s=%s says that "
            "more will come. To wait for GPUs: parallel.gpus_per_worker=1; to train on cores, and not be told: 0",
            *(ray.cluster_resources().get("GPU", 0), job.parallel.least_workers, SAYS, ON_GPUS),
        )


def waiting_for(job: LearningJob, gpus: int) -> str:
    """Said when no worker has been at work for a while."""
    wanted = of_worker(job, gpus)
    places = f" on machines with the labels {job.parallel.labels}" if job.parallel.labels else ""
    there = {name: ray.cluster_resources().get(name, 0) for name in wanted}
    return (
        f"no worker has been at work for {PATIENT_SECONDS:.0f} s: the run waits for {job.parallel.least_workers} "
        f"workers of {wanted}{places}; the cluster has {there}. It goes on once there is room; Ctrl-C stops waiting"
    )
