"""Is a sweep possible? A definite job goes in; what is wrong with it comes out as an error, before anything starts."""

from __future__ import annotations

import math

from cineray.errors import UsageError
from cineray.sweep.config import Fifo, Pbt, SweepJob, overlaps
from cineray.sweep.costs import rate_per_hour
from cineray.sweep.objectives import compared_while_training, objectives_of
from cineray.sweep.parameters import fields_of
from cineray.sweep.search import trials_of
from cineray.sweep.space import Values, apart, apply, check_space, grid_size, probes
from cineray.sweep.trial_job import trial_job
from cineray.train.config import TrainJob


def check_sweep(job: SweepJob) -> None:
    """Objectives are known, the space makes valid trials that have clips, the scheduler has something to compare."""
    for objective in objectives_of(job):
        if objective.needs_gpu and job.base.parallel.gpus_per_worker == 0:
            raise UsageError(f"the objective {objective.name} needs GPUs, and base.parallel.gpus_per_worker is 0")
        if objective.key.startswith("validation/skill_") and job.base.validation.baseline_clips == 0:
            raise UsageError(
                f"the objective {objective.name} needs base.validation.baseline_clips, which is 0; give it some"
            )
    _check_same_units(job)
    check_space(job, lambda values: trial_job(job, values))
    _check_told(job)
    _check_differ(job)
    _check_scheduler(job)


def _check_told(job: SweepJob) -> None:
    """Whether a network listens is only known of one that is told something, of which there is a wrong one."""
    asked = [one.name for one in objectives_of(job) if one.key == "validation/wrong_over_right"]
    trials = (apply(job.base, job.space, values) for values in apart(job.space, ("classes", "text")))
    if asked and not any(_can_be_told_wrong(trial) for trial in trials):
        raise UsageError(
            f"the objective {asked[0]} is measured by telling the network a wrong class or caption, and no trial has "
            f"two of either: base.classes is {_shown(job.base.classes)}, and base.text.kind is {job.base.text.kind}. "
            "Set base.classes=data (labels, two or more) or base.text.kind=builtin (captions), or leave it out"
        )


def _can_be_told_wrong(trial: TrainJob) -> bool:
    """As the validation decides it, but that captions are counted there."""
    several = trial.classes == "data" or (trial.classes != "none" and len(trial.classes) > 1)
    return several or trial.text.kind != "none"


def _shown(classes: str | tuple[str, ...]) -> str:
    return classes if isinstance(classes, str) else f"{', '.join(classes)} alone"


_UNIT_OF_ALL = ("autoencoder", "diffusion.data_mean", "diffusion.data_sd")
"""What a loss of 1 is depends on them: losses are of values that the autoencoder makes and that are scaled by these."""

_UNIT_OF_SOME = ("diffusion.predict", "diffusion.least_noise")
"""They weigh the loss where there is little noise, which is in the mean over all levels."""

_OF_MUCH_NOISE = tuple(f"validation/{one}" for one in ("headline", "skill_linear", "skill_mean", "wrong_over_right"))


def _check_same_units(job: SweepJob) -> None:
    """Are figures of the validation of one kind in all trials?"""
    figures = [one for one in objectives_of(job) if one.key.startswith("validation/")]
    for parameter, field in ((name, field) for name, one in job.space.items() for field in sorted(fields_of(one))):
        of_all = any(overlaps(field, other) for other in _UNIT_OF_ALL)
        of_some = any(overlaps(field, other) for other in _UNIT_OF_SOME)
        for one in figures:
            if of_all or (of_some and one.key not in _OF_MUCH_NOISE):
                untouched = "" if of_all else "noisiest_loss or skill, which it does not touch, or by "
                raise UsageError(
                    f"space.{parameter} sets {field}, by which {one.name} is counted in another unit in each trial; "
                    f"choose by {untouched}an evaluate/... metric, which looks at pictures"
                )


def _check_differ(job: SweepJob) -> None:
    """What is the same of all trials is no objective: to choose by it would be to choose by rounding."""
    unit: str = job.budget.unit
    same = {unit: ""}
    if unit in ("seconds", "cost") and _costs_one_rate(job):
        at_one_rate = f": it is in {unit}, and nothing in the space (parallel, feed) changes what an hour costs"
        same |= dict.fromkeys({"seconds", "wall_seconds", "cost"} - {unit}, at_one_rate)
    if unit == "seconds":
        same["wall_seconds"] = ", but for starts, judgements and checkpoints"
    for name in (objective.name for objective in job.objectives if objective.name in same):
        raise UsageError(
            f"objectives has {name}, of which the budget gives every trial the same{same[name]}; leave it out"
        )


def _costs_one_rate(job: SweepJob) -> bool:
    prices = job.prices
    if prices is None:
        return False
    trials = (trial_job(job, values) for values in apart(job.space, ("parallel", "feed")))
    return len({round(rate_per_hour(trial, prices), 9) for trial in trials}) == 1


def _check_scheduler(job: SweepJob) -> None:
    scheduler = job.scheduler
    if isinstance(scheduler, Fifo):
        return
    compared_while_training(job)
    name, share = ("every", scheduler.every) if isinstance(scheduler, Pbt) else ("first", scheduler.first)
    if scheduler.unit == "budget" and job.judge.times * share < 1 - 1e-9:
        raise UsageError(
            f"scheduler.{name} is {share:g} of a trial, and with judge.times={job.judge.times} it is judged every "
            f"{1 / job.judge.times:g}; judge more often ({math.ceil(1 / share)}), or compare later"
        )
    if isinstance(scheduler, Pbt):
        _check_same_clips(job, scheduler)
    if isinstance(scheduler, Pbt) and job.search.kind == "grid" and trials_of(job) > grid_size(job.space):
        raise UsageError(
            f"trials is {trials_of(job)} and the grid has {grid_size(job.space)} combinations; a population needs all "
            "of its members: search.kind=random has as many as wanted"
        )


def _check_same_clips(job: SweepJob, scheduler: Pbt) -> None:
    """By a budget in clips a member's last step follows from its batch: with another batch, what it took over may lie
    behind that, or its clips come on top of those that the other one had."""
    if job.budget.unit != "clips":
        return
    first = next(probes(job.space))
    for name in scheduler.explore:
        told = {_sizes(job, first | values) for values in probes({name: job.space[name]})} - {()}
        if len(told) > 1:
            sizes = " or ".join(sorted("/".join(map(str, one)) for one in told))
            raise UsageError(
                f"scheduler.explore has {name}, by which a step has {sizes} clips, and the budget is in clips: who "
                "takes over another's checkpoint would not get its budget. Give it in seconds or steps, or leave "
                f"{name} out of scheduler.explore"
            )


def _sizes(job: SweepJob, values: Values) -> tuple[int, ...]:
    """Clips in a step, by bucket; nothing for values that are only possible with others."""
    try:
        recipe = apply(job.base, job.space, values).recipe
    except UsageError:
        return ()
    return tuple(sorted({recipe.size_of(bucket) for bucket in recipe.shapes}))
