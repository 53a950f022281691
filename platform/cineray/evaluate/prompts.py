"""What a run is asked for again and again: its held-out clips go in; prompts that stay the same for ever come out.

A prompt is what is known of a held-out clip without its pixels: label, caption, the times of its frames, what is true
of it; and a seed of its own. They are written once, to `prompts.json` in the run's folder, so that the clips of any two
checkpoints, today or in a year, answer the same questions from the same noise, and lie side by side.

    prompts = prompts_of(run, clips=64)        made at the first call, read at every other
    real = real_clips(run, prompts)            the clips that they are of: same names, same order
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from cineray.config import job_from_yaml
from cineray.errors import CinerayError, PlaceMissing, UsageError
from cineray.evaluate.clip_set import ClipSet
from cineray.evaluate.truth import facts_of
from cineray.feed import FeedSpec, local_batch
from cineray.plan import Plan
from cineray.records import ClipSpec
from cineray.storage import put_if_absent, read_object
from cineray.train.config import TrainJob
from cineray.train.job_kinds import JOB_KINDS
from cineray.train.resolve import validation_spec
from cineray.train.run_folder import RunFolder

FILE = "prompts.json"
TRUTH_LAYER = "truth"
FORMAT = 1
MOST_PROMPTS = 2048
_MOST_FRAMES = 1 << 16
"""Of all prompts together: those of long clips are fewer, so that the file stays small."""
_LIMIT_BYTES = 64 << 20
_MOST_STEPS = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One question."""

    name: str
    """`prompt-0007`: names the clip that answers it, at every checkpoint."""
    seed: int
    """The address of its noise."""
    label: str
    """"" where there is none."""
    caption: str
    """"" where there is none."""
    seconds: tuple[float, ...]
    """Each frame's time since the first."""
    facts: Mapping[str, Any]
    """What is true of the held-out clip, as far as the lake knows."""
    source: Literal["held_out", "training"]
    """Where the clip is from: `training` only in a run that holds no clips out."""
    first_frame_of: str
    """The clip: its row in the lake's `clips`."""
    height: int
    """Of the clip."""
    width: int
    """Of the clip."""
    step: int
    """Where the clip is in the plan of `clips_spec`,"""
    slot: int
    """and in that step."""


def train_job(run: RunFolder) -> TrainJob:
    """The job of a run that has learnt to make clips."""
    job = job_from_yaml(run.job_text(), JOB_KINDS, where=f"{run.uri}/run.json")
    if not isinstance(job, TrainJob):
        raise UsageError(
            f"the run {run.uri} is of a {type(job).__name__}, which makes no clips; wanted the run of a TrainJob"
        )
    return job


def prompts_of(run: RunFolder, clips: int, *, truth_layer: str = TRUTH_LAYER) -> list[Prompt]:
    """The first so many prompts of a run; more than there are is refused.

    Whoever asks first writes them, for all. `truth_layer`: the lake's layer that facts are taken from.
    """
    place = run.folder(FILE)
    try:
        found = _read(place)
    except PlaceMissing:
        put_if_absent(place, _written(_made(run, truth_layer)))
        found = _read(place)
    if clips > len(found):
        raise UsageError(f"{clips} clips were asked for, and the run {run.uri} has {len(found)} prompts; lower clips")
    return found[:clips]


def real_clips(run: RunFolder, prompts: Sequence[Prompt]) -> ClipSet:
    """The clips that prompts are of, decoded: names, labels and captions are the prompts'.

    A clip that cannot be decoded any more is left out: another clip in its place would be the answer to no question.
    """
    by_step: dict[tuple[str, int], list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        by_step[prompt.source, prompt.step].append(prompt)
    found: dict[str, np.ndarray] = {}
    for (source, step), asked in by_step.items():
        batch = local_batch(clips_spec(run, source), step)
        for prompt in asked:
            if batch.specs[prompt.slot].clip_id == prompt.first_frame_of:
                found[prompt.name] = batch.frames_BTHWC[prompt.slot]
    kept = [prompt for prompt in prompts if prompt.name in found]
    if not kept:
        raise CinerayError(f"none of the {len(prompts)} held-out clips of the run {run.uri} can be decoded any more")
    return clip_set_of(kept, np.stack([found[prompt.name] for prompt in kept]), [prompt.seconds for prompt in kept])


def clip_set_of(prompts: Sequence[Prompt], frames_NTHWC: np.ndarray, seconds: Sequence[Sequence[float]]) -> ClipSet:
    """Pixels with the words of the prompts that they belong to."""
    return ClipSet(
        frames_NTHWC=frames_NTHWC,
        seconds_NT=np.array(seconds, dtype=np.float64).reshape(frames_NTHWC.shape[:2]),
        names=tuple(prompt.name for prompt in prompts),
        labels=tuple(prompt.label for prompt in prompts),
        captions=tuple(prompt.caption for prompt in prompts),
        facts=tuple(prompt.facts for prompt in prompts),
    )


def clips_spec(run: RunFolder, source: str) -> FeedSpec:
    """The plan that prompts come from; without a journal, for nobody who looks has a say in a run."""
    if source == "training":
        return run.spec(journal="")
    spec = validation_spec(train_job(run))
    if spec is None:
        raise CinerayError(f"{run.folder(FILE)} names held-out clips, and the run {run.uri} has none")
    return spec


# ---- made once -------------------------------------------------------------------------------------------------------


def _made(run: RunFolder, truth_layer: str) -> list[Prompt]:
    source: Literal["held_out", "training"] = "held_out" if validation_spec(train_job(run)) else "training"
    plan = clips_spec(run, source).open().plan
    bucket = plan.bucket(0)
    most = max(1, min(MOST_PROMPTS, _MOST_FRAMES // bucket.frames))
    found = list(islice(_whole_clips(plan), most))
    if not found:
        raise CinerayError(
            f"all clips that the run {run.uri} holds out are shorter than {bucket.frames} frames, so nothing says what "
            "to ask it for; hold out longer ones (validation.recipe)"
        )
    facts = facts_of(plan.recipe, [spec for _, _, spec in found], truth_layer) if truth_layer else [{}] * len(found)
    return [
        Prompt(
            name=f"prompt-{number:04d}",
            seed=number,
            label=spec.label or "",
            caption=spec.caption or "",
            seconds=seconds_of(spec),
            facts=facts[number],
            source=source,
            first_frame_of=spec.clip_id,
            height=bucket.height,
            width=bucket.width,
            step=step,
            slot=slot,
        )
        for number, (step, slot, spec) in enumerate(found)
    ]


def _whole_clips(plan: Plan) -> Iterator[tuple[int, int, ClipSpec]]:
    """Clips of the first step's shape that have no padding, in the order of the plan: (step, slot, clip)."""
    shape = plan.bucket(0)
    for step in range(_MOST_STEPS):
        if plan.bucket(step) == shape:
            for slot, spec in enumerate(plan.batch(step)):
                if all(spec.frame_is_real):
                    yield step, slot, spec


def seconds_of(spec: ClipSpec) -> tuple[float, ...]:
    """Each frame's time since the clip's first, from exact timestamps."""
    num, den = spec.time_base.numerator, spec.time_base.denominator
    return tuple((pts - spec.frame_pts[0]) * num / den for pts in spec.frame_pts)


def _written(prompts: Sequence[Prompt]) -> bytes:
    """A line per prompt, so that people and `diff` can read it."""
    lines = ",\n".join(json.dumps(asdict(prompt)) for prompt in prompts)
    return f'{{"format": {FORMAT}, "prompts": [\n{lines}\n]}}\n'.encode()


def _read(place: str) -> list[Prompt]:
    data = read_object(place, limit_bytes=_LIMIT_BYTES)
    try:
        told = json.loads(data)
        if told["format"] != FORMAT:
            raise CinerayError(
                f"{place} has format {told['format']}; this code reads {FORMAT}. Use the cineray that wrote it"
            )
        return [Prompt(**(one | {"seconds": tuple(one["seconds"])})) for one in told["prompts"]]
    except (ValueError, KeyError, TypeError) as error:
        raise CinerayError(f"{place} is damaged ({type(error).__name__}: {error}); restore it from a copy") from None
