"""From a definite job to what it learns, with the clips that judge it: a job and its run in, a `TrainTask` out.

Validation clips are decoded by each process itself, its own share, once; baselines by the first process, once in the
life of a run. A new kind of training is a job in `job_kinds.py`, a task, and a line here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import nn

from cineray.errors import PlaceMissing, UsageError
from cineray.feed import FeedSpec, local_batches
from cineray.storage import put_object, read_object
from cineray.train.autoencoder_task import AutoencoderTask
from cineray.train.baseline_losses import baseline_losses
from cineray.train.clip_losses import keep_clip_losses
from cineray.train.config import LearningJob, TrainJob
from cineray.train.diffusion_task import DiffusionTask
from cineray.train.latents import LatentEncoder
from cineray.train.parallel import World
from cineray.train.resolve import validation_spec
from cineray.train.run_folder import RunFolder
from cineray.train.task import TrainTask
from cineray.train.vae_config import TrainVaeJob
from cineray.train.validation import Batches, FlowValidation

_LIMIT_BYTES = 1 << 20


def task_for(job: LearningJob, run: RunFolder, world: World, *, encoder: LatentEncoder | None = None) -> TrainTask:
    """What a job learns. `encoder`: that of its latents, where it has some."""
    if isinstance(job, TrainJob):
        return DiffusionTask(job, encoder=encoder, validation=flow_validation(job, run, world, keep=True))
    if isinstance(job, TrainVaeJob):
        exports = [run.folder("autoencoder.safetensors"), *([job.export] if job.export else [])]
        return AutoencoderTask(job, world=world, held_out=fixed_batches(job, run), exports=exports)
    raise UsageError(f"a {type(job).__name__} has no training; wanted a TrainJob or a TrainVaeJob")


def fixed_batches(job: LearningJob, run: RunFolder) -> Batches | None:
    """The batches that a job is judged on; None where it wants none. A clip that kills its decoder is replaced when the
    run is started again, as it is in training: it has a journal of its own."""
    spec = validation_spec(job)
    if spec is None:
        return None
    spec = replace(spec, journal=run.folder("validation/journal"))
    steps = steps_for(spec, job.validation.clips)
    return lambda rank, size: local_batches(spec, steps, rank=rank, world=size)


def flow_validation(job: TrainJob, run: RunFolder, world: World, *, keep: bool = False) -> FlowValidation | None:
    """How a diffusion model is judged; None where the job does not want it. `keep`: the losses of single clips, in the
    run; not for who only looks at one of its checkpoints."""
    batches = fixed_batches(job, run)
    if batches is None:
        return None

    def baselines(task: DiffusionTask, model: nn.Module) -> Mapping[str, Sequence[float]]:
        def make() -> dict[str, list[float]]:
            training = local_batches(_training_clips(job, run), range(1 << 30))
            config = job.validation
            return baseline_losses(task, model, training, batches(0, 1), clips=config.baseline_clips, bins=config.bins)

        return made_once(run.folder("validation/baselines.json"), make)

    return FlowValidation(
        batches,
        bins=job.validation.bins,
        world=world,
        captions=_captions(job) if job.text.kind != "none" else (),
        baselines=baselines if job.validation.baseline_clips else None,
        keep=partial(keep_clip_losses, run.uri) if keep else None,
    )


def _training_clips(job: LearningJob, run: RunFolder) -> FeedSpec:
    """Clips to make baselines from: of the videos that the job trains on, but weighed and cut as those that judge it.
    They do not depend on how, or in which order, the job sees them: runs that are judged on the same clips after
    training on the same videos by other recipes have the same baselines, and their skills compare."""
    judging = job.validation.recipe
    assert judging is not None, "batches to judge on come from it"
    training, asked = run.spec().recipe.datasets, judging.datasets
    if [one.lake for one in training] == [one.lake for one in asked]:
        weighed = [{"weight": one.weight, "balance": one.balance} for one in asked]
        training = tuple(one.model_copy(update=told) for one, told in zip(training, weighed, strict=True))
    recipe = judging.model_copy(update={"datasets": training})
    return FeedSpec(recipe=recipe, seed=0, journal=run.folder("validation/journal-baselines")).pinned()


def steps_for(spec: FeedSpec, clips: int) -> range:
    """As many steps of a plan as hold so many clips."""
    plan = spec.open().plan
    step = found = 0
    while found < clips:
        found += plan.window(step).size
        step += 1
    return range(step)


def _captions(job: TrainJob) -> list[str]:
    """All that the fixed clips have; nothing is decoded for it."""
    spec = validation_spec(job)
    assert spec is not None
    plan = spec.open().plan
    clips = (clip for step in steps_for(spec, job.validation.clips) for clip in plan.batch(step))
    return [clip.caption for clip in clips if clip.caption is not None]


def made_once(place: str, make: Callable[[], dict[str, list[float]]]) -> dict[str, list[float]]:
    """A small result that is kept with the run, so that a restart does not make it again."""
    try:
        told: dict[str, list[float]] = json.loads(read_object(place, limit_bytes=_LIMIT_BYTES))
    except PlaceMissing:
        told = make()
        put_object(place, json.dumps(told).encode())
    return told
