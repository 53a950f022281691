"""From a checkpoint to clips: a run's prompts go in, what the model makes of them comes out, as a `ClipSet`.

    sampler = load_sampler(run)                                    the newest whole checkpoint, its averaged weights
    clips = sampler.generate(prompts_of(run, clips=64))

A prompt's noise has an address, (the config's seed, the prompt's seed), and nothing else decides on it: the same prompt
begins from the same noise at every checkpoint, in any batch, on any device. Latents are decoded by the run's own
autoencoder. Only weights are read: no optimiser, no gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from cineray.config import job_from_yaml
from cineray.diffusion import Purpose, guided, normal, sample
from cineray.diffusion.samplers import Velocity
from cineray.errors import CinerayError, UsageError
from cineray.evaluate.clip_set import ClipSet
from cineray.evaluate.prompts import Prompt, clip_set_of, real_clips, train_job
from cineray.evaluate.sample_config import SampleConfig
from cineray.evaluate.sample_times import check_fits, size_of, times_of
from cineray.models import Conditioning
from cineray.models.autoencoder import PixelAutoencoder
from cineray.train.checkpoint import Checkpoints
from cineray.train.checkpoint_manifest import CheckpointInfo
from cineray.train.checkpoint_read import CheckpointUnfit, read_tensors
from cineray.train.config import TrainJob
from cineray.train.diffusion_model import DiffusionModel
from cineray.train.diffusion_task import DiffusionTask
from cineray.train.job_kinds import JOB_KINDS
from cineray.train.latents import compute_for
from cineray.train.run_folder import RunFolder

Weights = Literal["ema", "model", "initial"]

_AS_USUAL = SampleConfig()


def generate(
    run: RunFolder,
    prompts: Sequence[Prompt],
    config: SampleConfig = _AS_USUAL,
    *,
    step: int | None = None,
    device: torch.device | None = None,
) -> ClipSet:
    """What a run's checkpoint (the newest whole one, or that of `step`) makes of these prompts."""
    return load_sampler(run, step=step, device=device, weights=config.weights).generate(prompts, config)


def load_sampler(
    run: RunFolder, *, step: int | None = None, device: torch.device | None = None, weights: Weights = "ema"
) -> Sampler:
    """The model of a checkpoint, ready to make clips. `initial`: as it was before anything was learnt."""
    info = checkpoint_of(run, step)
    # A run may have been gone on with by a job that differs in all but its plan: the checkpoint knows its own.
    told = info.facts.get("job")
    job = train_job(run) if told is None else job_from_yaml(str(told), JOB_KINDS, where=info.uri)
    assert isinstance(job, TrainJob)
    task = DiffusionTask(job)
    here = device if device is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if here.type == "cuda":
        torch.set_float32_matmul_precision("high")
    model = _initial(task, info) if weights == "initial" else _trained(task, info, weights)
    return Sampler(run=run, info=info, job=job, task=task, model=model.to(here).eval().requires_grad_(False))


def checkpoint_of(run: RunFolder, step: int | None) -> CheckpointInfo:
    """The newest whole checkpoint of a run, or that of a step."""
    train_job(run)  # a run that makes no clips is told so, whatever it has saved
    checkpoints = Checkpoints(run, train_job(run).checkpoint, asynchronous=False)
    try:
        info = checkpoints.latest() if step is None else checkpoints.at(step)
    finally:
        checkpoints.close()
    if info is None:
        which = "whole checkpoint" if step is None else f"checkpoint of step {step}"
        raise CinerayError(f"the run {run.uri} has no {which}; go on with it: cineray train {run.uri}")
    return info


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """A model that makes clips, and where it is from."""

    run: RunFolder
    info: CheckpointInfo
    job: TrainJob
    task: DiffusionTask
    model: DiffusionModel

    def generate(self, prompts: Sequence[Prompt], config: SampleConfig = _AS_USUAL) -> ClipSet:
        """One clip for each prompt, in their order. With `first_frame`, prompts whose held-out clip cannot be decoded
        any more are left out, with a warning. `config.weights` is not looked at: the weights are this sampler's."""
        times, size = times_of(prompts, config), size_of(prompts, config)
        check_fits((len(times[0]), *size), self.job.model, self.task.autoencoder, trained=self.task.shapes)
        self._check_guidance(config)
        first_frames = self._first_frames(prompts) if config.first_frame else None
        if first_frames is not None:
            times = [one for prompt, one in zip(prompts, times, strict=True) if prompt.name in first_frames]
            prompts = [prompt for prompt in prompts if prompt.name in first_frames]
        made: list[npt.NDArray[np.uint8]] = []
        for start in range(0, len(prompts), config.batch):
            part = slice(start, start + config.batch)
            given = None if first_frames is None else [first_frames[prompt.name] for prompt in prompts[part]]
            made.append(self._batch(prompts[part], times[part], size, config, given))
        return clip_set_of(prompts, np.concatenate(made), times)

    # ---- one batch ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _batch(
        self,
        prompts: Sequence[Prompt],
        times: Sequence[Sequence[float]],
        size: tuple[int, int],
        config: SampleConfig,
        first_frames: Sequence[npt.NDArray[np.uint8]] | None,
    ) -> npt.NDArray[np.uint8]:
        frames = len(times[0])
        slots_B = torch.tensor([prompt.seed for prompt in prompts], device=self._device)
        shape = self.task.autoencoder.latent_shape((frames, *size))
        noise_BCTHW = normal(shape, seed=config.seed, step=0, slots_B=slots_B, purpose=Purpose.SAMPLE)
        given_BCHW = None if first_frames is None else self._encoded(np.stack(first_frames))
        with self._computing():
            cond = self._conditioning(prompts, times)
            velocity = self._velocity(cond)
            if config.guidance != 1 and self.told:
                without = self._velocity(cond.without(len(self.task.class_ids)))
                velocity = guided(velocity, without, config.guidance)
            z_BCTHW = sample(velocity, noise_BCTHW, config.sampler(), first_frame_BCHW=given_BCHW)
        return _bytes(self._decoded(z_BCTHW, frames))

    def _conditioning(self, prompts: Sequence[Prompt], times: Sequence[Sequence[float]]) -> Conditioning:
        """What the network is told of these prompts; captions are encoded once for all steps."""
        seconds_BT = torch.tensor(times, dtype=torch.float32, device=self._device)
        real_BT = torch.ones_like(seconds_BT, dtype=torch.bool)
        if self.task.autoencoder.compression[0] > 1:
            seconds_BT = self.task.autoencoder.latent_seconds(seconds_BT)
            real_BT = self.task.autoencoder.latent_is_real(real_BT)
        class_B = torch.tensor(self._classes(prompts), device=self._device) if self.task.class_ids else None
        cond = Conditioning(seconds_BT=seconds_BT, frame_is_real_BT=real_BT, class_B=class_B, has_padding=False)
        if self.model.text is None:
            return cond
        text_BLD, text_is_real_BL = self.model.text.encode([prompt.caption or None for prompt in prompts])
        return replace(cond, text_BLD=text_BLD, text_is_real_BL=text_is_real_BL)

    def _classes(self, prompts: Sequence[Prompt]) -> list[int]:
        ids = self.task.class_ids
        unknown = sorted({prompt.label for prompt in prompts} - ids.keys() - {""})
        if unknown:
            raise UsageError(f"a prompt has the label {unknown[0]!r}; the model was trained on {', '.join(ids)}")
        return [ids.get(prompt.label, len(ids)) for prompt in prompts]

    def _velocity(self, cond: Conditioning) -> Velocity:
        flow = self.model.flow()
        return lambda z_BCTHW, t_BT: flow.velocity(self.model.net(z_BCTHW, t_BT, cond), z_BCTHW, t_BT)

    # ---- pixels ------------------------------------------------------------------------------------------------------

    def _first_frames(self, prompts: Sequence[Prompt]) -> dict[str, npt.NDArray[np.uint8]]:
        if self.job.diffusion.first_frame == 0:
            warnings.warn(
                "the run was trained with diffusion.first_frame=0, so its model has never seen a first frame that was "
                "given; clips go on from it better after a training with, say, diffusion.first_frame=0.2",
                stacklevel=3,
            )
        real = real_clips(self.run, prompts)
        missing = sorted({prompt.name for prompt in prompts} - set(real.names))
        if missing:
            warnings.warn(f"without a first frame, and left out: {', '.join(missing)}", stacklevel=3)
        return {name: real.frames_NTHWC[number, 0] for number, name in enumerate(real.names)}

    def _encoded(self, frames_BHWC: npt.NDArray[np.uint8]) -> Tensor:
        """First frames as the network sees them. A latent's first frame is made of the clip's first frame alone."""
        frames_B1HWC = torch.from_numpy(frames_BHWC).to(self._device)[:, None]
        if isinstance(self.task.autoencoder, PixelAutoencoder):
            return rearrange(frames_B1HWC, "b 1 h w c -> b c h w").float() / 127.5 - 1
        return self.task.encoder.encode(frames_B1HWC)[:, :, 0].float()

    def _decoded(self, z_BCTHW: Tensor, frames: int) -> Tensor:
        """Pixels in [-1, 1]."""
        autoencoder = self.task.autoencoder.to(self._device)
        bf16 = compute_for(self.job.latents, self._device) == "bf16" and not isinstance(autoencoder, PixelAutoencoder)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bf16):
            return autoencoder.decode(z_BCTHW, frames=frames).float()

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def _device(self) -> torch.device:
        return self.model.data_mean_C.device

    @property
    def told(self) -> list[Literal["label", "caption"]]:
        """What of a prompt the network is told, which guidance can move towards."""
        found: list[Literal["label", "caption"]] = ["label"] if self.task.class_ids else []
        return [*found, "caption"] if self.model.text is not None else found

    def _computing(self) -> AbstractContextManager[object]:
        """In the precision of the training."""
        return torch.autocast(self._device.type, torch.bfloat16) if self.job.precision == "bf16" else nullcontext()

    def _check_guidance(self, config: SampleConfig) -> None:
        if config.guidance != 1 and self.told and self.job.diffusion.drop == 0:
            raise UsageError(
                f"guidance is {config.guidance:g}, and the run was trained with diffusion.drop=0: without classes and "
                "captions that are hidden now and then, there is nothing to move away from; set guidance to 1"
            )


# ---- weights ---------------------------------------------------------------------------------------------------------


def _trained(task: DiffusionTask, info: CheckpointInfo, part: str) -> DiffusionModel:
    """Built without memory: the checkpoint's own tensors become its weights, and files of a training's start (an image
    model) need not be there any more."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        model = task.build()
    found = model.load_state_dict(read_tensors(info, part), strict=False, assign=True)
    if found.missing_keys or found.unexpected_keys:
        names = ", ".join([*found.missing_keys, *found.unexpected_keys][:4])
        raise CheckpointUnfit(
            f"the checkpoint of step {info.step} at {info.uri} is not of the model that its job describes: {names}; "
            "use the cineray that wrote it"
        )
    return model


def _initial(task: DiffusionTask, info: CheckpointInfo) -> DiffusionModel:
    """As the run began: weights by the job's seed, with the mean and spread of the data that it measured first."""
    with torch.random.fork_rng(devices=[]):
        model = task.build()
    tensors = read_tensors(info, "ema")
    model.data_mean_C.copy_(tensors["data_mean_C"])
    model.data_sd_C.copy_(tensors["data_sd_C"])
    return model


def _bytes(x_BCTHW: Tensor) -> npt.NDArray[np.uint8]:
    """Pixels in [-1, 1] as uint8 frames BTHWC."""
    pixels = ((x_BCTHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    found: npt.NDArray[np.uint8] = rearrange(pixels, "b c t h w -> b t h w c").contiguous().cpu().numpy()
    return found
