"""Samples under Ray Train are its own validation tasks: reported checkpoints go in, samples come to lie in the run.

The controller starts one task at a time, on whatever machine has room, and waits for the last one when the training is
done. The task starts the process that does the work (`side_path.py`), so it needs no memory of its own, cannot crash,
and leaves nothing behind in Ray's worker. Ray Train ends a run whose validation task is lost with its machine: so lost
ones are tried again without an end, and the time limit ends them.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import ray.train

from cineray.train.config import LearningJob
from cineray.train.run_folder import RunFolder
from cineray.train.samples_config import SamplesConfig
from cineray.train.side_path import MakeSamples, SideTask, made_aside, name_of, samples_of, samples_told

_log = logging.getLogger("cineray.train")

POINTER = "pointer.json"
"""What Ray Train keeps of a checkpoint: which step's it is."""


class RaySamples:
    """What Ray Train calls with a checkpoint that was reported."""

    def __init__(self, uri: str, config: SamplesConfig, maker: str) -> None:
        self._uri, self._config, self._maker = uri, config, maker

    def __call__(self, checkpoint: ray.train.Checkpoint, **_: Any) -> dict[str, float]:
        """Make its samples; figures for Ray's own views of the run. Never raises for samples that fail."""
        with checkpoint.as_directory() as folder:
            step = int(json.loads((Path(folder) / POINTER).read_text())["step"])
        facts = made_aside(SideTask(RunFolder.open(self._uri), step, self._config, self._maker))
        return {"samples/seconds": float(facts["seconds"])} if "seconds" in facts else {}


def samples_task(job: LearningJob, run: RunFolder, make: MakeSamples | None) -> dict[str, Any]:
    """What the trainer is given; nothing for a job without samples."""
    config = samples_of(job)
    if config is None or make is None:
        return {}
    resources: dict[str, Any] = {"num_cpus": config.cpus, "num_gpus": config.gpus, "max_retries": -1}
    if config.labels:
        resources["label_selector"] = dict(config.labels)
    return {
        "validation_config": ray.train.ValidationConfig(
            fn=RaySamples(run.uri, config, name_of(make)),
            task_config=ray.train.ValidationTaskConfig(timeout_s=2 * config.limit_seconds),
            ray_remote_kwargs=resources,
        )
    }


def told_of_samples(job: LearningJob, run: RunFolder) -> dict[str, Any]:
    """What the driver tells of them at the end; warnings too, for Ray keeps the words of its tasks to itself."""
    told = samples_told(run, job)
    for step, why in told.get("samples", {}).get("failed", {}).items():
        _log.warning("no samples of step %d: %s", step, why)
    return told
