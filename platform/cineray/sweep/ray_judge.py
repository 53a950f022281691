"""A finished trial's evaluation, as a task of the cluster: a run goes in, facts for evaluation.json come out.

The task takes what the sweep's job says an evaluation takes, on whatever machine has room, and its process ends with
it: what it held of a GPU is free then. The evaluation itself lies in the run, where `cineray evaluate` would put it.
"""

from __future__ import annotations

from typing import Any

import ray

from cineray.errors import CinerayError
from cineray.sweep.config import SweepJob

_TRIES = 3
"""Machines that are lost while they evaluate are replaced so often."""


def evaluate_aside(run: str, job: SweepJob) -> dict[str, Any]:
    """Judge the newest checkpoint of a run. What the evaluation raises is raised as it was; a lost machine as Ray's."""
    task = ray.remote(max_calls=1)(_evaluate).options(
        num_cpus=job.judge.evaluate_cpus,
        num_gpus=job.judge.evaluate_gpus,
        max_retries=_TRIES,
        # A trial's own placement group has no cores, and what it starts would otherwise wait in there for ever.
        scheduling_strategy="DEFAULT",
        name="cineray-evaluate",
    )
    try:
        facts: dict[str, Any] = ray.get(task.remote(run, job))
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, CinerayError):
            raise cause from None
        raise
    return facts


def _evaluate(run: str, job: SweepJob) -> dict[str, Any]:
    import torch

    from cineray.evaluate import evaluate
    from cineray.train.run_folder import RunFolder

    assert job.judge.evaluate is not None
    device = torch.device("cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu")
    found = evaluate(RunFolder.open(run), job.judge.evaluate, device=device)
    scores = {one.name: {"value": one.value, "low": one.low, "high": one.high, "n": one.n} for one in found.scores()}
    return {
        "uri": found.uri,
        "run": run,
        "checkpoint": found.checkpoint,
        "metrics": scores,
        "verdict": found.facts["verdict"],
    }
