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
import torch

from cineray.feed import FeedSpec
from cineray.telemetry.ray_chunks import TRIES, Rows, died_too_often, worked_off
from cineray.telemetry.ray_session import connected
from cineray.train.config import TrainJob
from cineray.train.latents_cost import Made
from cineray.train.latents_job import LatentsWork, Prepared, chunks

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
    task: dict[str, Any] = {"workers": workers, "what": "making latents", "gpus_per_task": gpus_per_task}
    with connected(address):
        for row in worked_off(rows, encode_chunk, told=told, **task):
            on_made(Made(**json.loads(row["made"])))


def encode_chunk(batch: Rows, *, job_json: str, fingerprint: str, compute: str, on_gpu: bool) -> dict[str, list[str]]:
    """One Ray Data task. `on_gpu`: it was given a share of one; Ray shows GPUs to tasks without one, too."""
    work = work_of(job_json, fingerprint, compute, on_gpu=on_gpu)
    tries = int(ray._private.worker.global_worker.core_worker.get_current_task_attempt_number())
    if tries >= TRIES:
        raise died_too_often(f"the steps {', '.join(batch['steps'])}")
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
