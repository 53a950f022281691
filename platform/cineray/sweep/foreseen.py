"""What would end a trial as soon as it has begun, and is known before: a trial's job goes in, an error comes out.

    clips         are there any of that length, size and spacing?
    autoencoder   is its file there and good enough, and do clips divide into its latents, and these into patches?
    ahead         do the bytes that may be decoded ahead hold what the ranks have in their hands?
    latents       are those in the store that were to be made before?

Nothing is decoded or encoded. Trials that are alike in what is looked at are looked at once (`Look.key`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from cineray.errors import CinerayError, UsageError
from cineray.feed import FeedSpec
from cineray.feed.ahead_bytes import Rows, rows_of
from cineray.sweep.latents import OF_DRAWS
from cineray.train.config import TrainJob


@dataclass(frozen=True, slots=True)
class Look:
    """One thing that is looked at."""

    key: Callable[[TrainJob], str]
    """The same for trials of which it says the same; empty: it says nothing of this one."""
    at: Callable[[TrainJob], None]
    """Raises UsageError."""
    by: tuple[str, ...] = ()
    """Told with all values of these fields, also of those that alone are not wrong. Empty: with as few as are wrong."""


def _clips(trial: TrainJob) -> None:
    try:
        FeedSpec(recipe=trial.recipe).open()
    except UsageError as error:
        raise UsageError(f"there are no clips for that: {error}") from None


def _autoencoder_key(trial: TrainJob) -> str:
    if trial.autoencoder.kind == "pixels":
        return ""
    recipes = [trial.recipe, *([trial.validation.recipe] if trial.validation.recipe is not None else [])]
    shapes = [bucket.shape for recipe in recipes for bucket in recipe.shapes]
    return json.dumps([trial.autoencoder.digest(), trial.model.digest(), trial.diffusion.data_mean, shapes])


def _autoencoder(trial: TrainJob) -> None:
    from cineray.models.autoencoder import load_autoencoder
    from cineray.train.diffusion_task import check_shapes

    assert trial.autoencoder.kind != "pixels"
    try:
        autoencoder = load_autoencoder(trial.autoencoder)
    except UsageError:
        raise
    except (CinerayError, OSError) as error:
        raise UsageError(f"autoencoder.path is {trial.autoencoder.path}, which cannot be opened: {error}") from None
    check_shapes(trial, autoencoder)


def rows_key(trial: TrainJob) -> str:
    """The same for trials whose plans are cut into the same rows."""
    told = [trial.recipe.digest(), trial.seed, trial.parallel.most_workers]
    return json.dumps([*told, trial.feed.prefetch_steps, trial.feed.task_seconds])


def rows_of_trial(trial: TrainJob) -> Rows:
    """As its feed will cut them."""
    return rows_of(
        FeedSpec(recipe=trial.recipe, seed=trial.seed),
        world=trial.parallel.most_workers,
        prefetch_steps=trial.feed.prefetch_steps,
        task_seconds=trial.feed.task_seconds,
    )


def _ahead_key(trial: TrainJob) -> str:
    if trial.feed.ahead_bytes is None:
        return ""  # an even share of the cluster's, which is looked at where that is known (capacity.py)
    return json.dumps([rows_key(trial), trial.feed.ahead_bytes])


def _ahead(trial: TrainJob) -> None:
    assert trial.feed.ahead_bytes is not None
    rows_of_trial(trial).check(trial.feed.ahead_bytes, ranks=trial.parallel.most_workers)


def _latents_key(trial: TrainJob) -> str:
    if trial.latents.mode != "precomputed":
        return ""
    return json.dumps([trial.recipe.digest(), trial.seed, trial.steps, trial.latents.digest()])


def _latents(trial: TrainJob) -> None:
    from cineray.train.latents_run import check_made_before

    check_made_before(trial)


LOOKS = (
    Look(lambda trial: trial.recipe.digest(), _clips),
    Look(_autoencoder_key, _autoencoder),
    Look(_ahead_key, _ahead),
    Look(_latents_key, _latents, OF_DRAWS),
)
