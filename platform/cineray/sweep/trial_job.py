"""A trial's definite job: the sweep's definite job, a trial's values and its share go in; a whole `TrainJob` comes out.

What a trial is on top of its values is the same for all: how long it is (the budget), when it is judged and saved, on
what it is judged, what it gets of the cluster, and how figures reach their group. It is an ordinary training: its run's
folder can be gone on with by `cineray train`, and `best_job` makes of it a job that trains as it is, without a sweep.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from cineray.config import check
from cineray.errors import UsageError
from cineray.feed import FeedConfig, FeedSpec
from cineray.storage import join_uri
from cineray.sweep.capacity import Share
from cineray.sweep.config import Pbt, SweepJob
from cineray.sweep.costs import rate_per_hour
from cineray.sweep.objectives import objectives_of
from cineray.sweep.space import Values, apply, fields_set
from cineray.train.config import BudgetConfig, TrainJob, ValidationConfig

UNBOUNDED_STEPS = 10_000_000
"""Of a trial that ends by the clock: more than any does."""

_LATER = 1.05
"""Each judgement comes so much after its even share of the seconds, so that the last one falls behind the trial's end,
where it is judged anyway, and not two steps before it: by which step the seconds are over is known to some percent."""

_OF_LATENTS = ("recipe.sampling", "recipe.frame", "recipe.buckets", "autoencoder", "latents.dtype", "latents.compute")
"""What a kept latent follows from; a store is of one such setting."""


def trial_job(
    job: SweepJob, values: Values, *, number: int = 0, share: Share | None = None, group: str = ""
) -> TrainJob:
    """The job of a trial of a definite sweep job. `share`: None to see whether the values are possible. `group`: the
    sweep's id; a name may be that of several sweeps."""
    changed = fields_set(job.space, values)
    trial = apply(job.base, job.space, values)
    _check_fixed_size(trial)
    _check_latents(job, trial)
    trial = trial.model_copy(update={"feed": _fed(trial, changed, share)})
    steps, budget = _length(job, trial)
    told: dict[str, Any] = {
        "name": f"{job.name}-{number:04d}",
        "steps": steps,
        "budget": budget,
        "validation": _judged(job, trial, steps, budget),
        "checkpoint": trial.checkpoint.model_copy(update=_saved(job, trial)),
        "tracking": trial.tracking.model_copy(update={"wandb_group": group or job.name}),
        "latents": trial.latents.model_copy(update={"store": _store(trial, changed)}),
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
        "latents": best.latents.model_copy(update={"store": _store(best, fields_set(job.space, values))}),
    }
    return check(TrainJob, best.model_copy(update=told).model_dump(mode="json"))


def _check_fixed_size(trial: TrainJob) -> None:
    if isinstance(trial.parallel.workers, tuple):
        raise UsageError(
            f"parallel.workers is {trial.parallel.workers}: a trial that grows and shrinks cannot be compared with "
            "others; give one number"
        )


def _check_latents(job: SweepJob, trial: TrainJob) -> None:
    """A cache is filled by whoever comes first, who pays for all that come after."""
    if trial.latents.mode != "cache":
        return
    timed = [one.name for one in objectives_of(job) if one.is_timed]
    by_the_clock = job.budget.unit in ("seconds", "cost")
    if not (by_the_clock or timed):
        return
    counts = f"the budget is in {job.budget.unit}" if by_the_clock else f"{', '.join(timed)} is an objective"
    raise UsageError(
        f"latents.mode is cache and {counts}: the first trial would pay for encoding what later ones only read, and "
        "which one that is would decide. Make the latents before (`cineray latents`, then latents.mode=precomputed), "
        "or choose latents.mode=online, or give the budget in steps or clips and choose by quality"
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
        told["every_seconds"] = _LATER * budget.seconds / job.judge.times
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


def _fed(trial: TrainJob, changed: Mapping[str, Any], share: Share | None) -> FeedConfig:
    """Its share of the decoding, unless the search itself decides about it."""
    told: dict[str, Any] = {}
    if share is not None:
        workers = max(1, math.floor(share.decode_cpus / trial.feed.cpus_per_task + 1e-9))
        told = {"workers": workers, "ahead_bytes": share.object_store_bytes}
        told = {name: value for name, value in told.items() if f"feed.{name}" not in changed}
    return trial.feed.model_copy(update={"driver": "ray", **told})


def _store(trial: TrainJob, changed: Mapping[str, Any]) -> str:
    """Kept latents of one sampling are of no use for another, and a store refuses them: so each gets a store of its
    own, which trials with the same one share."""
    store = trial.latents.store
    differs = any(field.startswith(_OF_LATENTS) for field in changed)
    if not store or not differs or "latents.store" in changed or "latents" in changed:
        return store
    if trial.latents.mode == "precomputed":
        raise UsageError(
            f"latents.mode is precomputed, and {', '.join(sorted(changed))} change what a latent is: a store holds "
            "those of one sampling, size and autoencoder. Choose latents.mode=cache, which keeps each apart, or "
            "online; or set latents.store in variants, one for each"
        )
    return join_uri(store, latents_digest(trial))


def latents_digest(trial: TrainJob) -> str:
    """Names all that a kept latent follows from, beside the video."""
    told = {
        "sampling": trial.recipe.sampling.digest(),
        "frame": trial.recipe.frame.digest(),
        "shapes": [bucket.shape for bucket in trial.recipe.shapes],
        "autoencoder": trial.autoencoder.digest(),
        "numbers": [trial.latents.dtype, trial.latents.compute],
    }
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()
