"""The objective of a diffusion job: clips go in; each clip's loss at the noise that its address gives it comes out.

    pixels or latents x, noise e, time t   ->   z = t x + (1 - t) e   ->   model   ->   squared error of the velocity

Noise, times, what is hidden and which clips show their first frame are drawn by (seed, step, slot): no process, no
micro-batch and no restart can change them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from cineray.diffusion.chance import drawn
from cineray.errors import UsageError
from cineray.models import Conditioning, build_model, build_text
from cineray.models.autoencoder import Autoencoder, PixelAutoencoder, load_autoencoder
from cineray.models.configs import Image2VideoConfig, StDiTConfig
from cineray.plan import Recipe
from cineray.records import Batch
from cineray.train.config import TrainJob, check_patches
from cineray.train.diffusion_model import DiffusionModel, core_of
from cineray.train.image_start import take_over
from cineray.train.inputs import Inputs, inputs_of
from cineray.train.latents import LatentEncoder
from cineray.train.learner import seeded
from cineray.train.parallel import World
from cineray.train.task import Shape

_LEAST_SPREAD = 0.02
"""Of a channel that hardly varies: nothing is blown up more than fifty-fold."""


class Validation(Protocol):
    """How a task judges its model."""

    def measure(self, task: DiffusionTask, model: nn.Module, step: int) -> dict[str, float]:
        """Figures by name."""


class DiffusionTask:
    """What a `TrainJob` asks for. `job.classes` must be resolved: `none`, or the labels."""

    def __init__(
        self,
        job: TrainJob,
        *,
        autoencoder: Autoencoder | None = None,
        encoder: LatentEncoder | None = None,
        validation: Validation | None = None,
    ) -> None:
        """`encoder`: the job's, where somebody has it open; else one of `autoencoder`, or of the one that it names."""
        if job.classes == "data":
            raise UsageError("classes is `data`, which stands for the labels of a version; resolve the job first")
        self.job, self.validation = job, validation
        if encoder is None:
            encoder = LatentEncoder(autoencoder or load_autoencoder(job.autoencoder), job.latents)
        self.encoder, self.autoencoder = encoder, encoder.autoencoder
        names = () if job.classes == "none" else job.classes
        self.class_ids: Mapping[str, int] = {name: number for number, name in enumerate(names)}
        self.has_padding = any(recipe.sampling.short_videos == "pad" for recipe in _recipes(job))
        self.buckets = [bucket for recipe in _recipes(job) for bucket in recipe.shapes]
        self.shapes = [self.autoencoder.latent_shape(bucket.shape) for bucket in self.buckets]
        self._knows_data = job.diffusion.data_mean is not None
        check_shapes(job, self.autoencoder)

    # ---- the model ---------------------------------------------------------------------------------------------------

    def build(self) -> DiffusionModel:
        """The network, its caption encoder, and what the job says of the data's mean and spread."""
        job = self.job
        seeded(job.seed)
        channels = self.autoencoder.channels
        text = build_text(job.text)
        net = build_model(
            job.model,
            channels=channels,
            num_classes=len(self.class_ids),
            text_width=text.width if text is not None else None,
            longest=_longest(self.shapes),
            cell_pixels=self.autoencoder.compression[1],
        )
        diffusion = job.diffusion
        model = DiffusionModel(
            net, text, channels=channels, predict=diffusion.predict, least_noise=diffusion.least_noise
        )
        if diffusion.data_mean is not None and diffusion.data_sd is not None:
            model.data_mean_C.copy_(torch.tensor(diffusion.data_mean))
            model.data_sd_C.copy_(torch.tensor(diffusion.data_sd))
        if isinstance(job.model, Image2VideoConfig) and not model.data_mean_C.is_meta:
            self._knows_data |= take_over(model, job)
        return model

    def begin(self, model: nn.Module, batch: Batch, world: World) -> None:
        """Measure mean and spread of the first batch's clips, if neither the job nor an image model says them."""
        if self._knows_data:
            return
        inputs = self.inputs(batch).to(world.device)
        core = core_of(model)
        mean_C, sd_C = self._moments(inputs, world)
        core.data_mean_C.copy_(mean_C)
        core.data_sd_C.copy_(sd_C.clamp(min=_LEAST_SPREAD))

    def _moments(self, inputs: Inputs, world: World) -> tuple[Tensor, Tensor]:
        """Over the real frames of all processes. Of pixels it is exact, so alike for any number of processes."""
        if inputs.frames_BTHWC is not None and isinstance(self.autoencoder, PixelAutoencoder):
            values_NC = inputs.frames_BTHWC[inputs.frame_is_real_BT].flatten(0, 2).to(torch.int64)
            scale, zero = 127.5, -1.0
        else:
            x_BCTHW, _, real_BT = self.clips(inputs)
            values_NC = rearrange(x_BCTHW, "b c t h w -> b t h w c")[real_BT].flatten(0, 2).double()
            scale, zero = 1.0, 0.0
        sums = torch.stack([torch.ones_like(values_NC).sum(0), values_NC.sum(0), values_NC.square().sum(0)])
        count_C, sum_C, square_C = world.sum_(sums).double()
        mean_C = sum_C / count_C
        variance_C = (square_C / count_C - mean_C.square()).clamp(min=0)
        return mean_C / scale + zero, variance_C.sqrt() / scale

    # ---- clips -------------------------------------------------------------------------------------------------------

    def inputs(self, batch: Batch) -> Inputs:
        """Pixels, times, classes and captions, as far as the job uses them."""
        class_ids = self.class_ids if self.class_ids else None
        return inputs_of(batch, class_ids=class_ids, captions=self.job.text.kind != "none")

    def clips(self, inputs: Inputs, step: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x_BCTHW as the model learns it, the seconds of its frames, and which of them are real. `step`: of training,
        where encoding is a part of what it takes."""
        seconds_BT, real_BT = inputs.seconds_BT, inputs.frame_is_real_BT
        if self.autoencoder.compression[0] > 1:
            seconds_BT = self.autoencoder.latent_seconds(seconds_BT)
            real_BT = self.autoencoder.latent_is_real(real_BT)
        if inputs.latents_BCTHW is not None:
            return inputs.latents_BCTHW.float(), seconds_BT, real_BT
        assert inputs.frames_BTHWC is not None
        if isinstance(self.autoencoder, PixelAutoencoder):
            x_BCTHW = rearrange(inputs.frames_BTHWC, "b t h w c -> b c t h w").float() / 127.5 - 1
            return x_BCTHW, seconds_BT, real_BT
        return self.encoder.encode(inputs.frames_BTHWC, step=step).float(), seconds_BT, real_BT

    def clip_losses(self, model: nn.Module, inputs: Inputs, step: int) -> Tensor:
        """Each clip's squared error of the velocity, at the noise of (seed, step, slot)."""
        x_BCTHW, seconds_BT, real_BT = self.clips(inputs, step)
        had = drawn(self.job.diffusion, x_BCTHW.shape[1:], seed=self.job.seed, step=step, slots_B=inputs.slots_B)
        cond = self.conditioning(inputs, seconds_BT, real_BT, had.is_hidden_B, had.pace_is_known_B)
        flow = core_of(model).flow()
        noised_BCTHW = flow.noised(x_BCTHW, had.e_BCTHW, had.t_BT)
        out = model(noised_BCTHW, had.t_BT, cond, inputs.captions, had.is_hidden_B)
        return flow.losses(out, x_BCTHW, had.e_BCTHW, had.t_BT, real_BT)

    def conditioning(
        self,
        inputs: Inputs,
        seconds_BT: Tensor,
        real_BT: Tensor,
        hidden_B: Tensor | None = None,
        pace_is_known_B: Tensor | None = None,
    ) -> Conditioning:
        """What the network is told, but for captions; the class of hidden clips is none."""
        class_B = inputs.class_B
        if class_B is not None and hidden_B is not None:
            class_B = torch.where(hidden_B, len(self.class_ids), class_B)
        return Conditioning(
            seconds_BT=seconds_BT,
            frame_is_real_BT=real_BT,
            class_B=class_B,
            pace_is_known_B=pace_is_known_B,
            has_padding=self.has_padding,
        )

    # ---- what the loop asks ------------------------------------------------------------------------------------------

    def validate(self, model: nn.Module, step: int) -> dict[str, float]:
        """As the job's validation does it; nothing without one."""
        return {} if self.validation is None else self.validation.measure(self, model, step)

    def blocks(self, model: nn.Module) -> Sequence[nn.Module]:
        """Of the network; the caption encoder is small."""
        return core_of(model).net.blocks()

    def muon_parameters(self, model: nn.Module) -> Sequence[nn.Parameter]:
        """Of the network."""
        return core_of(model).net.muon_parameters()

    def forward_flops(self, model: nn.Module, shape: Shape) -> int:
        """Of the network, for one clip: a third of what it takes forward and back, for parts may be frozen."""
        text_tokens = self.job.text.tokens if self.job.text.kind != "none" else 0
        return core_of(model).net.training_flops(self.autoencoder.latent_shape(shape), text_tokens=text_tokens) // 3

    def tokens(self, shape: Shape) -> int:
        """Patches of a transformer; places of what a U-Net sees."""
        _, *size = self.autoencoder.latent_shape(shape)
        model = self.job.model
        patch: tuple[int, ...] = (1, 1, 1)
        if isinstance(model, StDiTConfig):
            patch = model.patch
        elif isinstance(model, Image2VideoConfig):
            patch = model.base.patch
        return math.prod(length // part for length, part in zip(size, patch, strict=True))


def check_shapes(job: TrainJob, autoencoder: Autoencoder) -> None:
    """Before anything is decoded: pixels' were checked with the job, latents' are known with their autoencoder."""
    given = job.diffusion.data_mean
    if given is not None and len(given) != autoencoder.channels:
        raise UsageError(
            f"diffusion.data_mean has {len(given)} numbers; the latents have {autoencoder.channels} channels"
        )
    for bucket in (bucket for recipe in _recipes(job) for bucket in recipe.shapes):
        _, *seen = autoencoder.latent_shape(bucket.shape)
        try:
            check_patches(job.model, bucket.shape, tuple(seen))
        except ValueError as error:
            raise UsageError(f"{error} (model.patch, recipe.frame, recipe.buckets)") from error


def _recipes(job: TrainJob) -> list[Recipe]:
    """Whose clips the model sees: it may be judged on others than it learns."""
    judging = job.validation.recipe if job.validation.is_on else None
    return [job.recipe, *([judging] if judging is not None else [])]


def _longest(shapes: Sequence[tuple[int, int, int, int]]) -> Shape:
    """The largest of each of frames, rows and columns."""
    frames, height, width = (max(shape[axis] for shape in shapes) for axis in (1, 2, 3))
    return frames, height, width
