"""A job made definite: names that may mean something else tomorrow go in, what they mean today comes out.

Versions become numbers, `classes: data` becomes the labels that there are, and the clips to validate on become a recipe
of their own. A run's record holds the definite job, so repeating it asks nothing again.

Validation clips come from the split that is meant for it (`validation.split`). Of a dataset whose version has no clips
of that split, or that trains on all splits, a share of the videos (`validation.held_out`) is kept from training by a
filter, whole groups at a time: what was cut from one recording is on one side. Where each video is its own group these
are the ones whose ids are the smallest, at least one; else the groups are taken by a hash of their keys and the filter
lists their videos. An id is a hash of the video's content, so which videos these are is as good as drawn by lot either
way, and the same in every run on that version.
"""

from __future__ import annotations

from typing import TypeVar

import blake3

from cineray.errors import UsageError
from cineray.feed import FeedSpec, LakeCatalog, resolve
from cineray.lake import Lake
from cineray.lake.schema import sql_text
from cineray.plan import DatasetSpec, Recipe
from cineray.train.config import LearningJob, TrainJob, ValidationConfig

J = TypeVar("J", bound=LearningJob)

MOST_LISTED = 10_000
"""Videos that a filter names one by one, at most: a run's record holds it, and few judge as well as many."""


def resolved(job: J) -> J:
    """The definite job; one that is definite comes out as it is."""
    job = job.model_copy(update={"recipe": resolve(job.recipe)})
    if job.validation.recipe is not None:
        given = job.validation.model_copy(update={"recipe": resolve(job.validation.recipe)})
        job = job.model_copy(update={"validation": given})
    elif job.validation.is_on:
        job = _with_validation(job)
    if isinstance(job, TrainJob) and job.classes == "data":
        job = job.model_copy(update={"classes": _labels(job)})
    return job


def training_spec(job: LearningJob, journal: str = "") -> FeedSpec:
    """The plan that a definite job trains on."""
    return FeedSpec(recipe=job.recipe, seed=job.seed, journal=journal).pinned()


def validation_spec(job: LearningJob) -> FeedSpec | None:
    """The plan whose first clips a definite job is judged on. Its seed is its own: the clips do not change with it."""
    recipe = job.validation.recipe
    return None if recipe is None or not job.validation.is_on else FeedSpec(recipe=recipe, seed=0).pinned()


def _with_validation(job: J) -> J:
    pairs = [_apart(spec, job.validation) for spec in job.recipe.datasets]
    training = job.recipe.model_copy(update={"datasets": tuple(pair[0] for pair in pairs)})
    # One visit, one clip: more would show few videos again and again.
    told = {"datasets": tuple(pair[1] for pair in pairs), "clips_per_visit": 1}
    validating = job.recipe.model_copy(update=told)
    _check_has_clips(validating, job.validation)
    told_too = {"validation": job.validation.model_copy(update={"recipe": validating}), "recipe": training}
    return job.model_copy(update=told_too)


def _apart(spec: DatasetSpec, config: ValidationConfig) -> tuple[DatasetSpec, DatasetSpec]:
    """What of a dataset trains, and what judges."""
    version = Lake.open(spec.lake).resolve(spec.version)
    if version.splits.get(config.split) and spec.split not in (None, config.split):
        return spec, spec.model_copy(update={"split": config.split, "balance": "none"})
    held = _held_out(spec, config.held_out)
    own = f"({spec.filter}) AND " if spec.filter else ""
    judges = spec.model_copy(update={"filter": f"{own}{held}", "balance": "none"})
    return spec.model_copy(update={"filter": f"{own}NOT ({held})"}), judges


def _held_out(spec: DatasetSpec, share: float) -> str:
    """Which of a dataset's videos judge, as a filter."""
    group_of = group_of_videos(spec)
    groups: dict[str, list[str]] = {}
    for video, group in sorted(group_of.items()):
        groups.setdefault(group, []).append(video)
    kept = max(1, round(share * len(group_of)))
    if len(groups) < 2 or len(group_of) <= kept:
        raise UsageError(
            f"the dataset of {spec.lake} has {len(group_of)} videos of {len(groups)} groups in split {spec.split}, too "
            f"few to hold out {share:g} of them for validation; ingest more, or set validation.every_steps=0"
        )
    if len(groups) == len(group_of):
        return f"video_id <= {sql_text(sorted(group_of)[kept - 1])}"
    held = _some_groups(groups, min(kept, MOST_LISTED))
    return f"video_id IN ({', '.join(map(sql_text, held))})"


def _some_groups(groups: dict[str, list[str]], most: int) -> list[str]:
    """The videos of some groups, as many as fit, but of one group at least."""
    in_turn = sorted(groups, key=lambda group: blake3.blake3(group.encode()).digest())
    held: list[str] = []
    for group in in_turn:
        if len(held) + len(groups[group]) <= most:
            held += groups[group]
    smallest: list[str] = min((groups[group] for group in in_turn), key=len)
    return sorted(held or smallest)


def group_of_videos(spec: DatasetSpec) -> dict[str, str]:
    """The group of each video that a dataset draws from; nothing but ids is read."""
    lake = Lake.open(spec.lake)
    version = lake.resolve(spec.version)
    in_split = None if spec.split is None else f"split = {sql_text(spec.split)}"
    media = {video for _, batch in lake.ready(version, spec.filter) for video in batch["video_id"].to_pylist()}
    return {
        video: group or video
        for batch in lake.scan(version, "clips", ["video_id", "group_id"], in_split)
        for video, group in zip(batch["video_id"].to_pylist(), batch["group_id"].to_pylist(), strict=True)
        if video in media
    }


def _check_has_clips(recipe: Recipe, config: ValidationConfig) -> None:
    try:
        FeedSpec(recipe=recipe).open()
    except UsageError as error:
        raise UsageError(
            f"there is nothing to validate on in split {config.split} or the held-out videos: {error}\nHold out more "
            "(validation.held_out), name another split (validation.split), or set validation.every_steps=0"
        ) from error


def _labels(job: TrainJob) -> tuple[str, ...]:
    """All labels of the clips that train or judge, in the order of the alphabet."""
    recipes = [job.recipe, *([job.validation.recipe] if job.validation.recipe is not None else [])]
    found: set[str] = set()
    for spec in (spec for recipe in recipes for spec in recipe.datasets):
        catalog = LakeCatalog(spec.lake, spec.version, split=spec.split, filter=spec.filter)
        found |= {label for label in catalog.columns.labels if label is not None}
    if not found:
        raise UsageError("classes is `data`, but no clip of the recipe has a label; set classes=none, or ingest labels")
    return tuple(sorted(found))
