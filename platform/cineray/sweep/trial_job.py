"""A trial's definite job: the sweep's definite job, a trial's values and its share go in; a whole `TrainJob` comes out.

What a trial is on top of its values is the same for all: how long it is (the budget), when it is judged and saved, on
what it is judged, what it gets of the cluster, and how figures reach their group. It is an ordinary training: its run's
folder can be gone on with by `cineray train`, and `best_job` makes of it a job that trains as it is, without a sweep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cineray.config import check
from cineray.errors import UsageError
from cineray.feed import FeedConfig, FeedSpec
from cineray.sweep.capacity import Share
from cineray.sweep.clock import LATER
from cineray.sweep.config import Pbt, SweepJob
from cineray.sweep.costs import rate_per_hour
from cineray.sweep.latents import check_latents, latents_of
from cineray.sweep.space import Values, apply, fields_set
from cineray.train.config import BudgetConfig, TrainJob, ValidationConfig

UNBOUNDED_STEPS = 10_000_000
"""Of a trial that ends by the clock: more than any does."""


def trial_job(
    job: SweepJob, values: Values, *, number: int = 0, share: Share | None = None, group: str = ""
) -> TrainJob:
    """The job of a trial of a definite sweep job. `share`: None to see whether the values are possible. `group`: the
    sweep's id; a name may be that of several sweeps."""
    changed = fields_set(job.space, values)
    trial = apply(job.base, job.space, values)
    _check_fixed_size(trial)
    check_latents(job, trial)
    _check_feed(job, trial, changed)
    trial = trial.model_copy(update={"feed": _fed(job, trial, changed, share)})
    steps, budget = _length(job, trial)
    told: dict[str, Any] = {
        "name": f"{job.name}-{number:04d}",
        "steps": steps,
        "budget": budget,
        "validation": _judged(job, trial, steps, budget),
        "checkpoint": trial.checkpoint.model_copy(update=_saved(job, trial)),
        "tracking": trial.tracking.model_copy(update={"wandb_group": group or job.name}),
        "latents": latents_of(job, trial),
        # Made beside the training they would take the cores of other trials; the sweep makes some of finished ones.
        "samples": trial.samples.model_copy(update={"every_steps": 0}),
        "limits": trial.limits.model_copy(update=_put_up_with(trial)),
    }
    return check(TrainJob, trial.model_copy(update=told).model_dump(mode="json"))


def best_job(job: SweepJob, values: Values, *, steps: int) -> TrainJob:
    """The training of these values as a job of its own, from the start. Its seconds became the steps that they were
    enough for, so it does what the trial did, also on a slower machine; what was only the sweep's is as the base job
    has it. A trial of a population had other values before, and other weights: it is not made again by this."""
    best = apply(job.base, job.space, values)
    often = best.validation.every_steps
    judged = {"recipe": job.judge.recipe, "every_steps": min(often, steps) if often else math.ceil(steps / 4)}
    told = {
        "name": f"{job.name}-best",
        "steps": steps,
        "validation": best.validation.model_copy(update=judged),
        "latents": latents_of(job, best),
    }
    return check(TrainJob, best.model_copy(update=told).model_dump(mode="json"))


def _check_fixed_size(trial: TrainJob) -> None:
    if isinstance(trial.parallel.workers, tuple):
        raise UsageError(
            f"parallel.workers is {trial.parallel.workers}: a trial that grows and shrinks cannot be compared with "
            "others; give one number"
        )


def _check_feed(job: SweepJob, trial: TrainJob, changed: Mapping[str, Any]) -> None:
    """Is what decodes for it a share of the cluster, as that of all?"""
    if "feed.workers" in changed and trial.feed.workers == 0:
        raise UsageError(
            "feed.workers is 0, which is one process for every core that there is, also for those of other trials; "
            "give numbers of at least 1, or leave it out of the space: then each trial decodes with its share"
        )
    share, task = job.share.decode_cpus, trial.feed.cpus_per_task
    if share is not None and share < task:
        raise UsageError(
            f"share.decode_cpus is {share:g} and feed.cpus_per_task is {task:g}: a decode process reserves so much, "
            f"and a trial has one at least. Give share.decode_cpus={task:g} or more; or, where processes mostly wait "
            f"for remote bytes, feed.cpus_per_task={share:g}"
        )


def _length(job: SweepJob, trial: TrainJob) -> tuple[int, BudgetConfig]:
    """How long a trial is, by its budget."""
    unit, amount = job.budget.unit, job.budget.amount
    if unit == "steps":
        return math.ceil(amount), BudgetConfig()
    if unit == "clips":
        return math.ceil(amount / clips_per_step(trial)), BudgetConfig()
    return UNBOUNDED_STEPS, BudgetConfig(seconds=budget_seconds(job, trial))


def budget_seconds(job: SweepJob, trial: TrainJob) -> float:
    """The training seconds of a budget of seconds or of money."""
    if job.budget.unit == "seconds":
        return job.budget.amount
    assert job.prices is not None
    rate = rate_per_hour(trial, job.prices)
    if rate <= 0:
        raise UsageError("budget.cost is given, but by prices an hour of a trial costs nothing; set prices.nodes")
    return job.budget.amount / rate * 3600


def clips_per_step(trial: TrainJob) -> float:
    """On average, where buckets have different sizes."""
    shapes = trial.recipe.shapes
    if len({trial.recipe.size_of(bucket) for bucket in shapes}) == 1:
        return float(trial.recipe.size_of(shapes[0]))
    plan = FeedSpec(recipe=trial.recipe, seed=trial.seed).open().plan
    return plan.clips_per_epoch / plan.steps_per_epoch


def _judged(job: SweepJob, trial: TrainJob, steps: int, budget: BudgetConfig) -> ValidationConfig:
    """The same clips for all, so many times per budget; the last time at the end."""
    told: dict[str, Any] = {"recipe": job.judge.recipe, "every_steps": 0, "every_seconds": None}
    if budget.seconds is not None:
        told["every_seconds"] = LATER * budget.seconds / job.judge.times
    else:
        told["every_steps"] = math.ceil(steps / job.judge.times)
    return trial.validation.model_copy(update=told)


def _saved(job: SweepJob, trial: TrainJob) -> dict[str, Any]:
    """Whenever it is judged: a trial that is stopped, paused or taken over goes on from there."""
    kept = job.judge.times if isinstance(job.scheduler, Pbt) else trial.checkpoint.keep_last
    return {"every_steps": None, "keep_best": max(1, trial.checkpoint.keep_best), "keep_last": kept}


def _put_up_with(trial: TrainJob) -> dict[str, Any]:
    """In a search many configs do not fit, into memory above all: the same error twice and no step more is enough to
    know it. For machines that are lost a trial is tried again."""
    return {"failures_without_progress": min(1, trial.limits.failures_without_progress)}


def _fed(job: SweepJob, trial: TrainJob, changed: Mapping[str, Any], share: Share | None) -> FeedConfig:
    """Its share of the decoding, unless the search itself decides about it."""
    told: dict[str, Any] = {"ahead_bytes": job.share.object_store_bytes}
    if share is not None:
        workers = max(1, math.floor(share.decode_cpus / trial.feed.cpus_per_task + 1e-9))
        told = {"workers": workers, "ahead_bytes": share.object_store_bytes}
    told = {name: value for name, value in told.items() if f"feed.{name}" not in changed}
    return trial.feed.model_copy(update={"driver": "ray", **told})
