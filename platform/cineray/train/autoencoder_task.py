"""The objective of an autoencoder: clips go in; what each loses on the way through the latent comes out.

    clip -> posterior -> a sample of it, by (seed, step, slot) -> clip again      L1, squares, gradients, a little KL

Judging it (`validate`) decodes held-out clips from the posterior's mean and measures what the gate asks for: PSNR,
PSNR of the differences between frames, flicker. It measures each channel's mean and spread as well, stores them in the
model, and exports it: the newest figures and the weights that they are of always lie in one file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from cineray.diffusion.noise import Purpose, normal
from cineray.models.autoencoder import HeldOut, shortcomings
from cineray.models.reconstruction import (
    DIVERGENCE_WEIGHT,
    flicker,
    psnr_db,
    reconstruction_loss,
    temporal_psnr_db,
)
from cineray.models.vae_lite import Posterior, VaeLite
from cineray.models.vae_lite_file import write_vae_lite
from cineray.records import Batch
from cineray.train.inputs import Inputs, inputs_of, micro_batches
from cineray.train.learner import seeded
from cineray.train.parallel import World
from cineray.train.task import Shape
from cineray.train.vae_config import TrainVaeJob

Batches = Callable[[int, int], Iterator[Batch]]
"""(rank, world) -> that share of the held-out batches, in order."""

_LEAST_STD_SHARE = 0.01
"""Of the largest channel's spread: a channel that says nothing is not blown up to be as loud as the others."""


class AutoencoderTask:
    """What a `TrainVaeJob` asks for."""

    def __init__(
        self, job: TrainVaeJob, *, world: World, held_out: Batches | None = None, exports: Sequence[str] = ()
    ) -> None:
        """`exports`: where the autoencoder is written whenever it was judged."""
        self.job, self.world, self.exports = job, world, tuple(exports)
        self._held_out, self._fixed = held_out, list[Inputs]()

    # ---- learning ----------------------------------------------------------------------------------------------------

    def build(self) -> VaeLite:
        """A fresh one."""
        seeded(self.job.seed)
        return VaeLite(self.job.shape)

    def begin(self, model: nn.Module, batch: Batch, world: World) -> None:
        """Nothing has to be known before the first step."""

    def inputs(self, batch: Batch) -> Inputs:
        """Pixels and which of them are real."""
        return inputs_of(batch)

    def clip_losses(self, model: nn.Module, inputs: Inputs, step: int) -> Tensor:
        """Each clip's loss, with the noise of (seed, step, slot)."""
        x_BCTHW = _pixels(inputs)
        shape = core_of(model).latent_shape((x_BCTHW.shape[2], x_BCTHW.shape[3], x_BCTHW.shape[4]))
        seed, slots_B = self.job.seed, inputs.slots_B
        noise_BCTHW = normal(shape, seed=seed, step=step, slots_B=slots_B, purpose=Purpose.LATENT)
        made: tuple[Tensor, Posterior] = model(x_BCTHW, noise_BCTHW)
        again_BCTHW, posterior = made
        loss_B = reconstruction_loss(x_BCTHW, again_BCTHW, inputs.frame_is_real_BT)
        return loss_B + DIVERGENCE_WEIGHT * posterior.divergence()

    # ---- judging -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self, model: nn.Module, step: int) -> dict[str, float]:  # noqa: ARG002
        """Figures of held-out clips; stores the statistics in the model, and exports it with them."""
        core = core_of(model)
        channels = core.channels
        sums = torch.zeros(_Judged.FIGURES + 2 * channels + 1, dtype=torch.float64, device=self.world.device)
        for inputs in self._clips():
            sums += _Judged(model, inputs.to(self.world.device)).sums()
        judged = self.world.sum_(sums).cpu()
        clips, loss, psnr, temporal, *flickers = judged[: _Judged.FIGURES].tolist()
        mean_C, std_C = _moments(judged[_Judged.FIGURES :], channels)
        core.set_statistics(mean_C, std_C)
        jerk, change, jerk_again, change_again = flickers
        found = HeldOut(
            psnr_db=psnr / clips,
            temporal_psnr_db=temporal / clips,
            flicker_ratio=(jerk_again / max(change_again, 1e-12)) / max(jerk / max(change, 1e-12), 1e-12),
            clips=int(clips),
        )
        self._export(model, found)
        told = {
            "headline": loss / clips,
            "psnr_db": found.psnr_db,
            "temporal_psnr_db": found.temporal_psnr_db,
            "flicker_ratio": found.flicker_ratio,
            "passes_gate": float(not shortcomings(found, self.job.gate)),
        }
        return {f"validation/{name}": value for name, value in told.items()}

    def _clips(self) -> list[Inputs]:
        """This process's share of the held-out clips, decoded once and kept in main memory."""
        if not self._fixed and self._held_out is not None:
            for batch in self._held_out(self.world.rank, self.world.size):
                largest = self.world.largest_share(batch.global_size)
                parts = micro_batches(self.inputs(batch), largest_share=largest, micro_batch=self.job.micro_batch)
                self._fixed += parts
        return self._fixed

    def _export(self, model: nn.Module, found: HeldOut) -> None:
        """Every process calls it: where weights are shared out, each has some of them."""
        state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if self.world.rank == 0:
            whole = VaeLite(self.job.shape)
            whole.load_state_dict(state)
            for uri in self.exports:
                write_vae_lite(whole, uri, found)

    # ---- what the loop asks ------------------------------------------------------------------------------------------

    def blocks(self, model: nn.Module) -> Sequence[nn.Module]:
        """Of both sides."""
        return core_of(model).blocks()

    def muon_parameters(self, model: nn.Module) -> Sequence[nn.Parameter]:
        """The blocks' matrices over time."""
        return core_of(model).muon_parameters()

    def forward_flops(self, model: nn.Module, shape: Shape) -> int:
        """There and back, for one clip."""
        return core_of(model).forward_flops(shape)

    def tokens(self, shape: Shape) -> int:
        """Places of the latent."""
        time, rows, columns = self.job.shape.compression
        frames, height, width = shape
        return (1 + -(-(frames - 1) // time)) * (height // rows) * (width // columns)


class _Judged:
    """Some held-out clips, there and back by the posterior's mean."""

    FIGURES = 8

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self.weight_B = inputs.weight_B.double()
        self.real_BT = inputs.frame_is_real_BT
        self.x_BCTHW = _pixels(inputs)
        core = core_of(model)
        clips, _, frames, height, width = self.x_BCTHW.shape
        no_noise_BCTHW = self.x_BCTHW.new_zeros(clips, *core.latent_shape((frames, height, width)))
        # The whole model is called, for where weights are shared out, that is what gathers them.
        made: tuple[Tensor, Posterior] = model(self.x_BCTHW, no_noise_BCTHW)
        self.again_BCTHW, self.mean_BCTHW = made[0].float().clamp(-1, 1), made[1].mean_BCTHW
        self.latent_real_BT = core.latent_is_real(self.real_BT)

    def sums(self) -> Tensor:
        """Figures, then each channel's sum and sum of squares over real places, then how many places these were."""
        pair = (self.x_BCTHW, self.again_BCTHW, self.real_BT)
        each = [torch.ones_like(self.weight_B), reconstruction_loss(*pair), psnr_db(*pair), temporal_psnr_db(*pair)]
        each += [*flicker(self.x_BCTHW, self.real_BT), *flicker(self.again_BCTHW, self.real_BT)]
        figures = torch.stack([values_B.double() @ self.weight_B for values_B in each])
        counted_BT = self.latent_real_BT.double() * self.weight_B[:, None]
        mean = self.mean_BCTHW.double()
        sum_C = torch.einsum("bcthw,bt->c", mean, counted_BT)
        square_C = torch.einsum("bcthw,bt->c", mean.square(), counted_BT)
        places = counted_BT.sum() * mean.shape[3] * mean.shape[4]
        return torch.cat([figures, sum_C, square_C, places[None]])


def _moments(sums: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and spread per channel."""
    sum_C, square_C, places = sums[:channels], sums[channels : 2 * channels], sums[-1].clamp_min(1)
    mean_C = sum_C / places
    std_C = (square_C / places - mean_C.square()).clamp_min(0).sqrt()
    largest = float(std_C.max()) or 1.0
    return mean_C.float(), std_C.clamp_min(_LEAST_STD_SHARE * largest).float()


def _pixels(inputs: Inputs) -> Tensor:
    assert inputs.frames_BTHWC is not None
    return rearrange(inputs.frames_BTHWC, "b t h w c -> b c t h w").float() / 127.5 - 1


def core_of(model: nn.Module) -> VaeLite:
    """The autoencoder itself, whatever is wrapped around it."""
    core = model.module if isinstance(getattr(model, "module", None), nn.Module) else model
    assert isinstance(core, VaeLite)
    return core
