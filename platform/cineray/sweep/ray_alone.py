"""The best trials again, one at a time, each with the whole cluster to itself: what they do per second, with intervals.

In the sweep trials have neighbours. Here a trial is trained for a while with its own share of the cores that decode, as
it had there, and with nobody beside it; several times, in folders of its own (`trials/0007/alone/`), of which only the
ledgers stay. Quality is not measured again: it does not depend on who else is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cineray.errors import UsageError
from cineray.storage import delete_object
from cineray.sweep.config import SweepJob
from cineray.sweep.measured import after_warmup, figures
from cineray.sweep.tidy import remove_weights
from cineray.sweep.trial_folder import TrialFolder
from cineray.sweep.trial_job import UNBOUNDED_STEPS, best_job
from cineray.train.config import BudgetConfig, TrainJob
from cineray.train.ledger import last_of_each_step, read_all_rows
from cineray.train.ray_train import run_on_ray
from cineray.train.run_folder import RunFolder, is_run
from cineray.train.stop import StopRequest


def measure_alone(job: SweepJob, trial: TrialFolder, request: StopRequest) -> dict[str, Any]:
    """Train it alone, and keep what was found as alone.json; Interrupted where the sweep is told to stop meanwhile."""
    short, there = measuring_job(job, trial), in_the_sweep(job, trial)
    places = [trial.place(f"alone/{again + 1}") for again in range(job.finalists.repeats)]
    trainings = [_measured(short, place, request, job.finalists.warmup_seconds) for place in places]
    facts = facts_of(trainings, rate_per_hour=trial.facts.get("rate_per_hour"))
    if not facts["figures"]:
        raise UsageError(
            f"no step began in the finalists.seconds={job.finalists.seconds:g} after the finalists.warmup_seconds="
            f"{job.finalists.warmup_seconds:g} that are not counted; give it more of the first"
        )
    facts |= {"runs": places, "seconds": job.finalists.seconds, "warmup_seconds": job.finalists.warmup_seconds}
    facts["in_the_sweep"] = there
    trial.keep("alone", facts)
    return facts


def measuring_job(job: SweepJob, trial: TrialFolder) -> TrainJob:
    """As the trial's values would be trained, for a few seconds, and with nothing beside that."""
    values = trial.generations()[-1]["values"]
    alone = best_job(job, values, steps=UNBOUNDED_STEPS)
    told = {
        "name": f"{job.name}-{trial.number:04d}-alone",
        "feed": trial.job().feed,
        "budget": BudgetConfig(seconds=job.finalists.warmup_seconds + job.finalists.seconds),
        # How rates fall changes nothing of what a step takes, and some ways cannot be told seconds.
        "optimiser": alone.optimiser.model_copy(update={"schedule": "constant"}),
        "validation": alone.validation.model_copy(update={"every_steps": 0, "every_seconds": None}),
        "checkpoint": alone.checkpoint.model_copy(update={"every_steps": None, "every_seconds": None, "keep_best": 0}),
        "samples": alone.samples.model_copy(update={"every_steps": 0}),
        "tracking": alone.tracking.model_copy(update={"wandb": "off", "tensorboard": False}),
    }
    return TrainJob.model_validate(alone.model_copy(update=told).model_dump(mode="json"))


def facts_of(trainings: Sequence[Sequence[Mapping[str, Any]]], *, rate_per_hour: float | None) -> dict[str, Any]:
    """Of ledgers' rows after their warm-up."""
    return {
        "figures": figures(trainings, rate_per_hour=rate_per_hour),
        "repeats": len(trainings),
        "steps": [len(rows) for rows in trainings],
    }


def in_the_sweep(job: SweepJob, trial: TrialFolder) -> dict[str, float]:
    """What it was there by the same arithmetic, and without as many seconds of warm-up; nothing where it did not train
    for longer."""
    if not is_run(trial.run_uri()):
        return {}
    rows = _rows(trial.run_uri(), job.finalists.warmup_seconds)
    found = figures([rows], rate_per_hour=trial.facts.get("rate_per_hour"))
    return {name: one["value"] for name, one in found.items()}


def _rows(run_uri: str, warmup_seconds: float) -> list[Mapping[str, Any]]:
    return after_warmup(last_of_each_step(read_all_rows(RunFolder.open(run_uri).folder("ledger"))), warmup_seconds)


def _measured(job: TrainJob, place: str, request: StopRequest, warmup_seconds: float) -> list[Mapping[str, Any]]:
    """Rows of one training; one that was begun before and not finished is begun anew."""
    delete_object(place, recursive=True)
    run_on_ray(job, uri=place, stop=request)
    rows = _rows(place, warmup_seconds)
    remove_weights([place])
    return rows
