"""Latents on a cluster: a definite job and the steps that are missing go in; Ray Data's tasks fill the store.

    rows {"steps": [[0, 4], [4, 8], ...]}  ->  decode, encode, add to the store, on cores or GPUs  ->  counts

Only numbers travel: latents go from each worker straight into the store. A task whose worker died runs again and does
what is left of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import ray
import ray.data
import torch

from cineray.errors import CinerayError
from cineray.feed import FeedSpec
from cineray.telemetry.ray_session import connected
from cineray.train.config import TrainJob
from cineray.train.latents_cost import Made
from cineray.train.latents_job import LatentsWork, Prepared, chunks

MOST_TRIES = 4
"""Ray runs a task again whenever its worker dies, without end; steps that keep killing it end the work."""

_work: dict[str, LatentsWork] = {}
"""This worker process's autoencoder and feed, kept between its tasks."""


def make_on_ray(
    prepared: Prepared,
    on_made: Callable[[Made], None],
    *,
    address: str = "",
    workers: int = 0,
    gpus_per_task: float = 0.0,
) -> None:
    """All of it in Ray's workers; `workers` at once, or as many as there is room for."""
    spec = prepared.spec
    found = chunks(spec, prepared.wanted.steps)
    rows = [{"steps": json.dumps([[steps.start, steps.stop] for steps in chunk])} for chunk in found]
    if not rows:
        return
    told = {
        "job_json": prepared.job.model_dump_json(),
        "fingerprint": spec.fingerprint,
        "compute": prepared.compute,
        "on_gpu": gpus_per_task > 0,
    }
    with connected(address):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_options.verbose_progress = False
        context.execution_no_progress_timeout_s = -1  # a long video is no reason to end a healthy run
        made = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            encode_chunk,
            fn_kwargs=told,
            batch_size=None,
            num_cpus=1,
            num_gpus=gpus_per_task or None,
            compute=ray.data.TaskPoolStrategy(size=min(workers, len(rows)) or None),
        )
        try:
            for row in made.iter_rows():
                on_made(Made(**json.loads(row["made"])))
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise CinerayError(
                f"a Ray task that made latents failed: {cause}; what was finished is kept, run it again to go on"
            ) from error


def encode_chunk(
    batch: dict[str, Any], *, job_json: str, fingerprint: str, compute: str, on_gpu: bool
) -> dict[str, list[str]]:
    """One Ray Data task. `on_gpu`: it was given a share of one; Ray shows GPUs to tasks without one, too."""
    work = work_of(job_json, fingerprint, compute, on_gpu=on_gpu)
    tries = int(ray._private.worker.global_worker.core_worker.get_current_task_attempt_number())
    if tries >= MOST_TRIES:
        raise CinerayError(
            f"the worker of the steps {', '.join(batch['steps'])} died {tries} times, most likely for want of memory; "
            "give workers more memory, or run with fewer at once: --workers"
        )
    made = []
    for told in batch["steps"]:
        steps = [range(start, stop) for start, stop in json.loads(str(told))]
        made.append(json.dumps(asdict(work.make(steps, careful=tries > 0))))
    return {"made": made}


def work_of(job_json: str, fingerprint: str, compute: str, *, on_gpu: bool) -> LatentsWork:
    """This process's; made the first time. On the device that the task was given, whatever else can be seen."""
    if job_json not in _work:
        job = TrainJob.model_validate_json(job_json)
        spec = FeedSpec(recipe=job.recipe, seed=job.seed, fingerprint=fingerprint)
        device = torch.device("cuda" if on_gpu else "cpu")
        _work[job_json] = LatentsWork(job, spec, device=device, compute=compute)
    return _work[job_json]
