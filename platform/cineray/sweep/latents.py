"""Where trials' latents come from: a sweep's job and a trial's go in; out comes the store that is the trial's own.

    kept/                     what the base job names
    kept/1f0c9a7e2b64d583/    of stride 1: trials with the same sampling, size, autoencoder and precision share it
    kept/83be5512d0a9c7f4/    of stride 4

A store refuses latents of anything else, so where the space changes what a latent is, each setting has a part of its
own. Only who names a store for each setting by hand, in the variants that set it, is left alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from cineray.errors import UsageError
from cineray.storage import join_uri
from cineray.sweep.config import SweepJob, overlaps
from cineray.sweep.objectives import objectives_of
from cineray.sweep.parameters import FloatRange, Parameter, Variants, fields_of
from cineray.sweep.space import MOST_COMBINATIONS, Values, grid_values
from cineray.train.config import TrainJob
from cineray.train.latents_config import LatentsConfig

_OF_LATENTS = ("recipe.sampling", "recipe.frame", "recipe.buckets", "autoencoder", "latents.dtype", "latents.compute")
"""What a kept latent follows from; a store is of one such setting."""

OF_DRAWS = ("recipe", "seed", "autoencoder", "latents")
"""What decides which latents a run looks for, and where."""


def latents_of(job: SweepJob, trial: TrainJob) -> LatentsConfig:
    """With the trial's own store. By the clock nobody knows how far a trial comes: latents are made of as many steps as
    the base job says, or `latents.steps`."""
    told: dict[str, Any] = {"store": _store(job, trial)}
    if trial.latents.mode == "precomputed" and _is_by_the_clock(job):
        told["steps"] = trial.latents.steps or job.base.steps
    return trial.latents.model_copy(update=told)


def check_latents(job: SweepJob, trial: TrainJob) -> None:
    """A cache is filled by whoever comes first, who pays for all that come after."""
    if trial.latents.mode != "cache":
        return
    timed = [one.name for one in objectives_of(job) if one.is_timed]
    if not (_is_by_the_clock(job) or timed):
        return
    counts = f"the budget is in {job.budget.unit}" if _is_by_the_clock(job) else f"{', '.join(timed)} is an objective"
    raise UsageError(
        f"latents.mode is cache and {counts}: the first trial would pay for encoding what later ones only read, and "
        "which one that is would decide. Make the latents before (`cineray latents` with this job and "
        "latents.mode=precomputed), or choose latents.mode=online, or give the budget in steps or clips and choose by "
        "quality"
    )


def _is_by_the_clock(job: SweepJob) -> bool:
    return job.budget.unit in ("seconds", "cost")


# ---- a store for each setting ----------------------------------------------------------------------------------------


def _store(job: SweepJob, trial: TrainJob) -> str:
    store = trial.latents.store
    deciding = [one for one in job.space.values() if any(map(_changes_latents, fields_of(one)))]
    if not store or not deciding or (len(deciding) == 1 and _is_named_by_hand(deciding[0])):
        return store
    return join_uri(store, latents_digest(trial))


def _changes_latents(field: str) -> bool:
    # Who sets `latents` as a whole may set its precision, too.
    return any(overlaps(field, other) for other in _OF_LATENTS)


def _is_named_by_hand(parameter: Parameter) -> bool:
    """Has each of its variants that keep latents a store, and no two of different latents the same?"""
    if not isinstance(parameter, Variants):
        return False
    settings: dict[str, set[str]] = {}
    for variant in parameter.variants.values():
        if variant.get("latents.mode") == "online":
            continue
        setting = {field: value for field, value in variant.items() if _changes_latents(field)}
        settings.setdefault(str(variant.get("latents.store") or ""), set()).add(json.dumps(setting, sort_keys=True))
    return "" not in settings and all(len(some) == 1 for some in settings.values())


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


# ---- what can be made before -----------------------------------------------------------------------------------------


def settings_of_draws(space: Mapping[str, Parameter]) -> Iterator[Values]:
    """Values of a space that differ in what trials draw, with one of each other parameter: for all of them latents can
    be made before any trains."""
    drawing = {name: one for name, one in space.items() if any(_is_of_draws(field) for field in fields_of(one))}
    for name, one in drawing.items():
        if isinstance(one, FloatRange):
            raise UsageError(
                f"space.{name} is a range of {one.field}, and each value of it draws other clips: their latents cannot "
                "be made before. Give a few values of it (Choice), or choose latents.mode=online"
            )
    tried = [grid_values(one) if name in drawing else grid_values(one)[:1] for name, one in space.items()]
    for number, values in enumerate(product(*tried)):
        if number == MOST_COMBINATIONS:
            raise UsageError(
                f"{', '.join(drawing)} have more than {MOST_COMBINATIONS:,} combinations, each of which may draw "
                "clips of its own, too many to make their latents before; give fewer values, or latents.mode=online"
            )
        yield dict(zip(space, values, strict=True))


def _is_of_draws(field: str) -> bool:
    return any(overlaps(field, other) for other in OF_DRAWS)
