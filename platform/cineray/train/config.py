"""What a training run was told: `TrainJob`, a `DataJob` with a model and all that learning takes. No torch here.

`LearningJob` is what every kind of training shares (the loop reads nothing else); `TrainJob` adds a diffusion model.
What shapes the numbers comes first, what only shapes where and how fast they are computed comes after.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

from cineray.config import Config
from cineray.diffusion.config import DiffusionConfig
from cineray.feed.job import SUBCLUSTER, DataJob
from cineray.models.autoencoder_config import AutoencoderConfig, PixelsConfig
from cineray.models.configs import Image2VideoConfig, ModelConfig, StDiTConfig, TextConfig
from cineray.plan import Recipe
from cineray.train.latents_config import LatentsConfig
from cineray.train.samples_config import SamplesConfig


class OptimiserConfig(Config):
    """How weights follow their gradients."""

    kind: Literal["muon+adamw", "adamw"] = "muon+adamw"
    """`muon+adamw`: Muon on the blocks' hidden matrices, AdamW on all else (embeddings, norms, convolutions)."""
    muon_lr: float = Field(default=2e-3, gt=0)
    """Muon's rate at its highest, in AdamW's terms (updates are scaled to the size of AdamW's)."""
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    """How long Muon remembers gradients."""
    lr: float = Field(default=1e-3, gt=0)
    """AdamW's rate at its highest. Alone, at 256 clips a step, 1e-4 is safe."""
    betas: tuple[float, float] = (0.9, 0.95)
    """How long AdamW remembers gradients and their squares."""
    eps: float = Field(default=1e-8, gt=0)
    """AdamW's guard against small gradients."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of matrices only; never of biases, norms and tables."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Gradients longer than this, all together, are shortened to it; None leaves them."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps in which the rates rise from 0."""
    schedule: Literal["wsd", "cosine", "constant"] = "wsd"
    """After the warm-up: `wsd` stays, then falls in a straight line; `cosine` falls all along; `constant` stays."""
    decay_fraction: float = Field(default=0.3, gt=0, le=1)
    """`wsd`: the share of all steps, at the end, in which the rates fall."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """The rates' last value over their highest."""

    @field_validator("betas")
    @classmethod
    def _below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("each must be at least 0 and below 1")
        return betas


class EmaConfig(Config):
    """The average of the weights over the last steps, which is what is judged and exported."""

    decay: float = Field(default=0.999, ge=0, lt=1)
    """How much of the average stays at each step; 0.9999 for 100k steps and more."""
    ramp: bool = True
    """Early on a shorter memory: min(decay, (1 + step) / (10 + step)), so that first weights are soon forgotten."""


class ParallelConfig(Config):
    """How many processes learn together, and how they share the work."""

    kind: Literal["auto", "none", "ddp", "fsdp2", "hsdp"] = "auto"
    """`ddp`: each has all weights; `fsdp2`: each has a share of them; `hsdp`: shares within a node, copies across.
    `auto`: `none` for one process, `ddp` while weights, gradients and optimiser fit twice on a device, else `fsdp2`."""
    workers: int | tuple[int, int] = 1
    """Processes; (least, most) lets a Ray cluster shrink and grow the run."""
    gpus_per_worker: Literal[0, 1] | None = None
    """None: one where there are GPUs, else none. 0: computed on cores, even where there are GPUs."""
    cpus_per_worker: float = Field(default=1.0, ge=0)
    """Cores of the cluster that each process takes away from decoding."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Only on machines with these Ray labels. `feed.decode_subcluster` keeps trainers off the machines that decode."""
    resize_seconds: float = Field(default=60.0, gt=0)
    """(least, most) workers: how often a healthy run looks whether it could have more."""
    reshard_after_forward: bool = False
    """`fsdp2`, `hsdp`: give gathered weights back after the forward pass and gather them again for the backward one:
    less memory, more traffic."""
    shard_size: int | None = Field(default=None, ge=1)
    """`hsdp`: processes that share one copy of the weights; None: those of one node."""

    @field_validator("workers")
    @classmethod
    def _at_least_one(cls, workers: int | tuple[int, int]) -> int | tuple[int, int]:
        least, most = workers if isinstance(workers, tuple) else (workers, workers)
        if not 1 <= least <= most:
            raise ValueError("wanted a number of at least 1, or (least, most) with 1 <= least <= most")
        return workers

    @model_validator(mode="after")
    def _no_contradiction(self) -> ParallelConfig:
        if self.shard_size is not None and self.kind != "hsdp":
            raise ValueError(f"parallel.shard_size is given but parallel.kind is {self.kind}; only hsdp uses it")
        if self.kind == "none" and self.most_workers > 1:
            raise ValueError(f"parallel.workers is {self.workers} but parallel.kind is none; choose ddp or fsdp2")
        return self

    @property
    def least_workers(self) -> int:
        """Fewer are not started."""
        return self.workers[0] if isinstance(self.workers, tuple) else self.workers

    @property
    def most_workers(self) -> int:
        """More are never used."""
        return self.workers[1] if isinstance(self.workers, tuple) else self.workers


class CheckpointConfig(Config):
    """When the run is saved, and what is kept."""

    every_steps: int | None = Field(default=1000, ge=1)
    """Save after so many steps; None: only by time and at the end."""
    every_seconds: float | None = Field(default=None, gt=0)
    """Save when so long has passed since the last time."""
    keep_last: int = Field(default=2, ge=1)
    """The newest so many are kept."""
    keep_best: int = Field(default=1, ge=0)
    """And so many of those with the lowest `best_metric`: above 0, the run is also saved whenever it was judged."""
    best_metric: str = "validation/headline"
    """What is compared; lower is better."""
    keep_every: int | None = Field(default=None, ge=1)
    """And those of every so manieth step, for ever."""
    asynchronous: bool = True
    """Write while training goes on."""


class ValidationConfig(Config):
    """How the run is judged on clips that it does not learn from: always the same clips, noise and noise levels."""

    every_steps: int = Field(default=1000, ge=0)
    """0: never for that reason."""
    every_seconds: float | None = Field(default=None, gt=0)
    """Also after the first step at or beyond each multiple of so many training seconds (`budget.seconds` says which
    those are): runs of different speed are judged at the same times."""
    clips: int = Field(default=256, ge=1)
    """How many."""
    bins: int = Field(default=8, ge=2)
    """Noise levels, evenly from noise to data; the clips take them in turn."""
    split: str = "validation"
    """The split that they come from."""
    held_out: float = Field(default=0.05, gt=0, lt=1)
    """Of a version that has no clips of that split: this share of its videos is kept from training, whole groups of
    them, chosen by a hash, so that they are the same in every run."""
    baseline_clips: int = Field(default=256, ge=0)
    """Training clips from which the mean and the best linear denoiser are made; 0: without."""
    recipe: Recipe | None = None
    """Where the clips come from, in full. None: found by `split` and `held_out`, and written here in a run's record.
    It may be another than what is trained on: then other recipes are judged on the same clips, at the same instants."""

    @property
    def is_on(self) -> bool:
        """Is the run judged at all? At its end, too, if it is."""
        return self.every_steps > 0 or self.every_seconds is not None

    @model_validator(mode="after")
    def _a_clip_each(self) -> ValidationConfig:
        if self.is_on and self.clips < self.bins:
            raise ValueError(
                f"validation.clips is {self.clips} and validation.bins is {self.bins}: a noise level without a clip "
                "has no loss; want at least a clip for each"
            )
        return self


class TrackingConfig(Config):
    """Where a run's figures go, beside its own ledger."""

    wandb: Literal["off", "offline", "online"] = "off"
    """Weights & Biases; `offline` writes files that `wandb sync` sends later."""
    wandb_project: str = "cineray"
    """Its project."""
    wandb_group: str = ""
    """Runs of one group are shown together there: those of a sweep."""
    tensorboard: bool = False
    """Event files in the run's folder; needs the extra `tensorboard`."""
    prometheus: bool = True
    """Gauges through Ray, where Ray runs."""


class LimitsConfig(Config):
    """When a run gives up."""

    no_step_seconds: float = Field(default=1800.0, gt=0)
    """The watchdog dumps all ranks' stacks and ends the run when nothing got on for so long: no step, no batch of a
    validation; a save that holds the run up counts as one thing."""
    failures_without_progress: int = Field(default=3, ge=0)
    """Lost workers are replaced for as long as the run gets further; so often in a row without a step more, it ends."""
    stop_on_nan: bool = True
    """A loss that is no number ends the run, with the addresses of the clips that caused it."""


class BudgetConfig(Config):
    """What a run may take, where that is not said in steps."""

    seconds: float | None = Field(default=None, gt=0)
    """Training seconds: the first process's seconds of all steps, waiting for data too, without checkpoints and
    validations, and without the first wait of each start, for a feed that starts itself. The run ends with the step
    that they are over at, or with `steps` if those are done before. With `wsd` its last step is fixed once 1 -
    decay_fraction of them are spent, so that the rates fall to the end of it; from then on it is the run that `steps`
    of that number would have been. None: `steps` says it alone."""


class BeginFromConfig(Config):
    """Another run's checkpoint, with which a run begins: its weights, their average, its optimiser and its step."""

    run: str
    """Where that run lies."""
    step: int | None = Field(default=None, ge=1)
    """The checkpoint's; None: its newest, which the record of the new run names."""


class LearningJob(DataJob):
    """What every training shares."""

    steps: int = Field(ge=1)
    """Optimiser steps of the whole run; at most, where `budget` says more."""
    budget: BudgetConfig = BudgetConfig()
    """What it may take beside."""
    begin_from: BeginFromConfig | None = None
    """Go on from another run's checkpoint, perhaps with other data and other rates: the first step is the one that the
    other would have done next, and training seconds are counted on from its. None: from the beginning."""
    optimiser: OptimiserConfig = OptimiserConfig()
    """How weights follow their gradients."""
    ema: EmaConfig = EmaConfig()
    """The average that is judged and exported."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """What is computed in; weights, gradients' sums and optimiser are fp32 either way."""
    validation: ValidationConfig = ValidationConfig()
    """How it is judged."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Clips that a process computes at once; more of a step are taken in parts. None: all of its share."""
    parallel: ParallelConfig = ParallelConfig()
    """Who computes."""
    deterministic: bool = False
    """Only kernels that give the same bits each time: slower on a GPU, no matter on a CPU."""
    compile: bool = False
    """Compile each block, once per shape of batch; the compiled code is kept with the run."""
    activation_memory: Literal["auto", "none", "selective", "full"] = "auto"
    """What is computed again in the backward pass, to save memory; `auto` tries, from `none` on, what fits."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When it is saved."""
    tracking: TrackingConfig = TrackingConfig()
    """Who is told."""
    limits: LimitsConfig = LimitsConfig()
    """When it gives up."""
    runs: str = "runs"
    """The folder or object-store prefix that runs are made in."""

    @property
    def trainer_labels(self) -> dict[str, str]:
        """Machines that the trainers may be on: `parallel.labels`, and none that decodes for this job, where that is
        apart. There they would take the cores that their own batches need, and wait for them for ever."""
        part = self.feed.decode_subcluster
        return ({SUBCLUSTER: f"!{part}"} if part else {}) | self.parallel.labels

    @model_validator(mode="after")
    def _can_end_by_time(self) -> LearningJob:
        if self.budget.seconds is None:
            return self
        schedule, decay = self.optimiser.schedule, self.optimiser.decay_fraction
        if schedule == "cosine":
            raise ValueError(
                "budget.seconds is given and optimiser.schedule is cosine, which must know the last step from the "
                "first one on; choose wsd or constant, or give steps alone"
            )
        if schedule == "wsd" and decay == 1:
            raise ValueError(
                "budget.seconds is given and optimiser.decay_fraction is 1: the last step is fixed before the rates "
                "begin to fall, and here they fall all along; choose less, or optimiser.schedule=constant"
            )
        return self

    @model_validator(mode="after")
    def _shares(self) -> LearningJob:
        smallest = min(self.recipe.size_of(bucket) for bucket in self.recipe.shapes)
        if self.parallel.most_workers > smallest:
            raise ValueError(
                f"parallel.workers is {self.parallel.most_workers} but a step of the smallest batch has {smallest} "
                "clips, and each process needs one; raise recipe.batch_size, or use fewer workers"
            )
        return self


class TrainJob(LearningJob):
    """A diffusion model over clips."""

    model: ModelConfig = StDiTConfig()
    """The network."""
    classes: Literal["none", "data"] | tuple[str, ...] = "none"
    """Labels that the network is told; `data`: all that the training clips have, which the run's record lists."""
    text: TextConfig = TextConfig()
    """What turns captions into vectors; `none`: captions are not used."""
    diffusion: DiffusionConfig = DiffusionConfig()
    """What is learnt."""
    autoencoder: AutoencoderConfig = PixelsConfig()
    """What stands between pixels and the network."""
    latents: LatentsConfig = LatentsConfig()
    """When it is computed."""
    samples: SamplesConfig = SamplesConfig()
    """Clips that are made of its checkpoints while it goes on, beside the training."""

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not isinstance(classes, str) and (not classes or len(set(classes)) < len(classes)):
            raise ValueError("wanted `none`, `data`, or a list of different labels")
        return classes

    @model_validator(mode="after")
    def _no_contradiction(self) -> TrainJob:
        if self.latents.mode != "online" and self.autoencoder.kind == "pixels":
            raise ValueError(
                f"latents.mode is {self.latents.mode} but autoencoder.kind is pixels, which has no latents; "
                "choose latents.mode online, or an autoencoder"
            )
        if self.samples.every_steps and self.samples.guidance != 1 and self.diffusion.drop == 0 and self._is_told:
            raise ValueError(
                f"samples.guidance is {self.samples.guidance:g} but diffusion.drop is 0: without classes and captions "
                "that are hidden now and then there is nothing to move away from; set samples.guidance=1, or a drop"
            )
        if self.autoencoder.kind == "pixels":
            self._check_channels(3)
            self._check_patches()
        return self

    @property
    def _is_told(self) -> bool:
        """Has the network a class or a caption?"""
        return self.classes != "none" or self.text.kind != "none"

    def _check_channels(self, channels: int) -> None:
        given = self.diffusion.data_mean
        if given is not None and len(given) != channels:
            raise ValueError(f"diffusion.data_mean has {len(given)} numbers; the clips have {channels} channels")

    def _check_patches(self) -> None:
        """Found here, in a second, and not when the first batch of an odd bucket comes. Of latents the autoencoder's
        file says how large they are, which is read when the run begins."""
        judging = self.validation.recipe if self.validation.is_on else None
        for recipe in (self.recipe, *([judging] if judging is not None else [])):
            for bucket in recipe.shapes:
                check_patches(self.model, bucket.shape, bucket.shape)


def check_patches(model: ModelConfig, clip: tuple[int, ...], seen: tuple[int, ...]) -> None:
    """Refuse clips (frames, rows, columns of pixels) that do not divide as the model sees them."""
    if isinstance(model, StDiTConfig):
        patch = model.patch
    elif isinstance(model, Image2VideoConfig):
        patch = model.base.patch
    else:
        halvings = 2 ** (len(model.multipliers) - 1)
        patch = (1, halvings, halvings)
    if any(size % part for size, part in zip(seen, patch, strict=True)):
        shape, sizes, parts = ("x".join(map(str, told)) for told in (clip, seen, patch))
        latents = "" if clip == seen else f" have latents of {sizes}, which"
        raise ValueError(f"clips of {shape}{latents} do not divide into the model's patches of {parts}; change either")


def accumulation(share: int, micro_batch: int | None) -> int:
    """In how many parts a share of clips is computed."""
    return 1 if micro_batch is None else math.ceil(share / micro_batch)
