"""Latents that a sweep's trials will read: a definite sweep job goes in, a training per set of clips comes out, each
with the store that its trials look into. `cineray latents SWEEP_JOB` fills them.

What that takes is nobody's budget: no trial has it in its seconds or its cost. The result's notes say it (`notes.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cineray.errors import CinerayError, UsageError
from cineray.feed.latent_store import LatentStore, identity_at
from cineray.sweep.config import SweepJob
from cineray.sweep.latents import settings_of_draws
from cineray.sweep.parameters import fields_of
from cineray.sweep.trial_job import trial_job
from cineray.train.config import TrainJob
from cineray.train.latents_cost import Made, known_cost


def jobs_made_before(job: SweepJob) -> list[TrainJob]:
    """One training for each set of clips whose latents trials expect in a store."""
    found: dict[str, TrainJob] = {}
    for values in settings_of_draws(job.space):
        trial = trial_job(job, values)
        if trial.latents.mode == "precomputed":
            found.setdefault(draws_key(trial), trial)
    if not found:
        raise UsageError(
            f"no trial of the sweep {job.name} has latents.mode=precomputed, so nothing is to be made before; set "
            "base.latents.mode=precomputed and base.latents.store=FOLDER, or let the space choose that mode"
        )
    return list(found.values())


def draws_key(trial: TrainJob) -> str:
    """The same for trials that look for the same latents in the same store."""
    steps = trial.latents.made_steps(trial.steps)
    return f"{trial.latents.store} {trial.recipe.digest()} {trial.seed} {steps}"


def encoded_before(job: SweepJob, trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences about latents that trials, as the result tells them, read and did not make: what they cost, and where
    they did not reach."""
    if not _may_be_made_before(job):
        return []
    stores: dict[str, None] = {}
    beyond: dict[int, list[int]] = {}
    for trial in trials:
        try:
            job_of = trial_job(job, trial["values"])
        except UsageError:
            continue  # it could not be trained, and read nothing
        if job_of.latents.mode == "precomputed":
            stores[job_of.latents.store] = None
            made = job_of.latents.made_steps(job_of.steps)
            if (trial["step"] or 0) > made:
                beyond.setdefault(made, []).append(trial["number"])
    return [*_costs(stores), *(_past(made, numbers) for made, numbers in sorted(beyond.items()))]


def _may_be_made_before(job: SweepJob) -> bool:
    return job.base.latents.mode == "precomputed" or any(
        field.startswith("latents") for one in job.space.values() for field in fields_of(one)
    )


def _costs(stores: Iterable[str]) -> list[str]:
    """What was noted beside the stores, of whoever filled them, also for others. A result does not hang on it."""
    total, told = Made(), []
    for store in stores:
        try:
            if (there := identity_at(store)) is not None:
                total.add(known_cost(LatentStore(store, there)))
        except (CinerayError, OSError, ValueError, TypeError, KeyError) as error:
            told.append(f"what the latents in {store} cost is not known: {type(error).__name__}: {error}")
    if total.encoded:
        told.append(
            f"latents of {total.encoded:,} clips were made before (precomputed), in {total.seconds:,.1f} seconds of "
            f"work ({total.encode_seconds:,.1f} of them encoding), which no trial's seconds and no cost have in them: "
            "other modes pay for that in their budget"
        )
    return told


def _past(made: int, numbers: Sequence[int]) -> str:
    told = f"{'trial' if len(numbers) == 1 else 'trials'} {', '.join(map(str, numbers))}"
    return (
        f"{told} trained on past the {made:,} steps (base.steps, or latents.steps) whose latents were made before: "
        "what was missing after them was encoded within the budget. More of base.steps, and `cineray latents` again, "
        "makes that comparable"
    )
