"""Clips that a run has learnt from, and what they show: a run goes in; clips of one shape come out, and combinations.

They are the first of the run's own plan, so always the same ones, and just what the model saw at those steps. Of the
steps that share their visits only one is taken: many videos say more than many clips of few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cineray.evaluate.clip_set import ClipSet
from cineray.evaluate.prompts import seconds_of
from cineray.evaluate.shared import Frames
from cineray.evaluate.truth import combination, facts_of, read_truth
from cineray.feed import local_batch
from cineray.lake import Lake, sql_text
from cineray.plan import DatasetSpec
from cineray.records import Batch, ClipSpec
from cineray.train.run_folder import RunFolder

_MOST_STEPS = 1 << 14

Shape = tuple[int, int, int]
"""Frames, height, width."""


def training_clips(run: RunFolder, count: int, shape: Shape, *, truth_layer: str) -> ClipSet | None:
    """So many, of different rows; fewer where an epoch has no more. None for 0, or if no clip has the shape."""
    spec = run.spec(journal="")
    plan = spec.open().plan
    frames: list[Frames] = []
    specs: list[ClipSpec] = []
    for step in range(0, min(_MOST_STEPS, plan.steps_per_epoch), plan.recipe.clips_per_visit):
        if len(specs) >= count:
            break
        if plan.bucket(step).shape == shape:
            for one, pixels in _whole(local_batch(spec, step)):
                specs.append(one)
                frames.append(pixels)
    if not specs:
        return None
    specs, frames = specs[:count], frames[:count]
    facts = facts_of(plan.recipe, specs, truth_layer) if truth_layer else [{}] * len(specs)
    return ClipSet(
        frames_NTHWC=np.stack(frames),
        seconds_NT=np.array([seconds_of(one) for one in specs]),
        names=tuple(f"{one.clip_id}-{one.epoch}-{one.draw}" for one in specs),
        labels=tuple(one.label or "" for one in specs),
        captions=tuple(one.caption or "" for one in specs),
        facts=tuple(facts),
    )


def training_combinations(run: RunFolder, layer: str, names: Sequence[str]) -> set[tuple[Any, ...]]:
    """Every combination of these facts that a training clip shows; none where the lakes say nothing."""
    found: set[tuple[Any, ...]] = set()
    for dataset in run.spec(journal="").recipe.datasets if layer else ():
        lake = Lake.open(dataset.lake)
        if f"layers/{layer}" in lake.resolve(dataset.version).tables:
            told = read_truth(dataset, _video_ids(lake, dataset), layer)
            found |= {shown for facts in told.values() if (shown := combination(facts, names)) is not None}
    return found


def _video_ids(lake: Lake, dataset: DatasetSpec) -> set[str]:
    """The videos that a dataset draws from; nothing but ids is read."""
    version = lake.resolve(dataset.version)
    in_split = None if dataset.split is None else f"split = {sql_text(dataset.split)}"
    media = {video for _, batch in lake.ready(version, dataset.filter) for video in batch["video_id"].to_pylist()}
    drawn = lake.scan(version, "clips", ["video_id"], in_split)
    return media & {video for batch in drawn for video in batch["video_id"].to_pylist()}


def _whole(batch: Batch) -> Iterator[tuple[ClipSpec, Frames]]:
    """Clips without padding."""
    for spec, pixels in zip(batch.specs, batch.frames_BTHWC, strict=True):
        if all(spec.frame_is_real):
            yield spec, pixels
