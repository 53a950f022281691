"""The seam between pixels and what a diffusion model learns: frames in [-1, 1] go in, normalised latents come out.

    x_BCTHW  --encode-->  z_BCthw  --decode-->  x_BCTHW        c, t, h, w are the latent's own sizes

    frames     0 | 1 2 3 4 | 5 6 7 8        compression 4 in time: the first frame has a latent frame of its own, so it
    latent     0 |    1    |    2           can be encoded and decoded alone; nothing looks into the future

A clip whose last group is not full is filled up with its last frame, and `decode(z, frames=T)` cuts that off again. A
latent frame's time is that of its last frame, and it is real only if all of its frames are. Latents are normalised by
the autoencoder's own statistics, per channel. `PixelAutoencoder` is the identity, so whoever trains knows no cases.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import blake3
import torch
from torch import Tensor, nn

from cineray.errors import UsageError
from cineray.models.autoencoder_config import (
    AutoencoderConfig,
    DiffusersVaeConfig,
    GateLimits,
    PixelsConfig,
    VaeLiteConfig,
)
from cineray.models.base import weights_hash

if TYPE_CHECKING:
    from collections.abc import Iterable

Shape3 = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What an autoencoder showed on clips that it had not learnt from."""

    psnr_db: float
    temporal_psnr_db: float
    flicker_ratio: float
    """Flicker of decoded clips over that of the real ones; 1 is perfect."""
    clips: int


class Autoencoder(nn.Module, ABC):
    """What every autoencoder offers. Those that are loaded are frozen and in evaluation mode."""

    channels: int
    """Of a latent."""
    compression: Shape3
    """Frames, rows and columns of pixels for each place of a latent."""
    held_out: HeldOut | None = None
    """What it showed when it was trained, if that is recorded."""
    name: str
    """For people: what it is, in a word or two."""

    @abstractmethod
    def encode(self, x_BCTHW: Tensor, noise_BCTHW: Tensor | None = None) -> Tensor:
        """Normalised latents: the posterior's mean, or with noise (of the latent's shape) a sample of it."""

    @abstractmethod
    def decode(self, z_BCTHW: Tensor, frames: int | None = None) -> Tensor:
        """Pixels of normalised latents; `frames` of them, or as many as the latent has room for."""

    @property
    @abstractmethod
    def content_hash(self) -> str:
        """Names exactly these weights and what is done with them; a latent of another hash is another latent."""

    def latent_shape(self, clip: Shape3) -> tuple[int, int, int, int]:
        """(channels, frames, rows, columns) of the latent of a clip of (frames, rows, columns) of pixels."""
        frames, height, width = clip
        time, rows, columns = self.compression
        if height % rows or width % columns:
            raise UsageError(
                f"a clip of {height}x{width} pixels was given to {self.name}, which makes one latent of "
                f"{rows}x{columns} pixels; wanted multiples of these: set "
                f"recipe.frame.height={-(-height // rows) * rows} recipe.frame.width={-(-width // columns) * columns}"
            )
        return self.channels, 1 + -(-(frames - 1) // time), height // rows, width // columns

    def pixel_frames(self, latent_frames: int) -> int:
        """How many frames such a latent has room for."""
        return 1 + (latent_frames - 1) * self.compression[0]

    def latent_seconds(self, seconds_BT: Tensor) -> Tensor:
        """When each latent frame is shown: the time of the last frame that it holds."""
        return seconds_BT[:, self._last_frames(seconds_BT.shape[1])]

    def latent_is_real(self, frame_is_real_BT: Tensor) -> Tensor:
        """Which latent frames hold nothing but real frames."""
        last = self._last_frames(frame_is_real_BT.shape[1])
        real_so_far_BT = frame_is_real_BT.cumprod(1).bool()  # padding comes last, so all before a real frame is real
        return real_so_far_BT[:, last]

    def _last_frames(self, frames: int) -> list[int]:
        latent_frames = 1 + -(-(frames - 1) // self.compression[0])
        return [min(frames - 1, at * self.compression[0]) for at in range(latent_frames)]


class PixelAutoencoder(Autoencoder):
    """The identity: latents are pixels."""

    channels = 3
    compression = (1, 1, 1)
    name = "pixels"

    def encode(self, x_BCTHW: Tensor, noise_BCTHW: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """The pixels as they are; they have no posterior to sample from."""
        return x_BCTHW

    def decode(self, z_BCTHW: Tensor, frames: int | None = None) -> Tensor:
        """The pixels as they are."""
        return z_BCTHW if frames is None else z_BCTHW[:, :, :frames]

    @property
    def content_hash(self) -> str:
        """There is only one."""
        return "pixels"


def fill_last_group(x_BCTHW: Tensor, time: int) -> Tensor:
    """A clip with its last frame repeated until its last group of `time` frames is full."""
    missing = -(x_BCTHW.shape[2] - 1) % time
    return torch.cat([x_BCTHW, x_BCTHW[:, :, -1:].expand(-1, -1, missing, -1, -1)], 2) if missing else x_BCTHW


def name_of(told: str, tensors: Iterable[tuple[str, Tensor]]) -> str:
    """32 hex digits for a description and named tensors, bit for bit."""
    return blake3.blake3(f"{told}\n{weights_hash(tensors)}".encode()).hexdigest()[:32]


def load_autoencoder(config: AutoencoderConfig) -> Autoencoder:
    """The autoencoder that a job names, frozen, after it passed the gate."""
    autoencoder: Autoencoder
    if isinstance(config, PixelsConfig):
        return PixelAutoencoder()
    if isinstance(config, VaeLiteConfig):
        from cineray.models.vae_lite_file import read_vae_lite

        autoencoder = read_vae_lite(config.path)
    elif isinstance(config, DiffusersVaeConfig):
        from cineray.models.diffusers_vae import load_diffusers_vae

        autoencoder = load_diffusers_vae(config.path)
    if config.gate is not None:
        refuse_below(autoencoder, config.gate, config.path)
    return autoencoder.eval().requires_grad_(False)


def refuse_below(autoencoder: Autoencoder, limits: GateLimits, path: str) -> None:
    """The gate: no run builds on latents whose pictures or motion are lost already."""
    found = autoencoder.held_out
    if found is None:
        raise UsageError(
            f"autoencoder.path {path} carries no held-out figures; wanted at least {limits.least_psnr_db:g} dB PSNR. "
            "Train it with `cineray train jobs/train_vae.py`, which records them, or set autoencoder.gate=null"
        )
    short = shortcomings(found, limits)
    if short:
        raise UsageError(
            f"the autoencoder at {path} is not good enough on {found.clips} held-out clips:\n  "
            + "\n  ".join(short)
            + "\nTrain it longer or larger (jobs/train_vae.py: --set steps, --set shape.width, --set shape.channels), "
            "or lower the limit on purpose, as with --set autoencoder.gate.least_psnr_db"
        )


def shortcomings(found: HeldOut, limits: GateLimits) -> list[str]:
    """What falls short, a line each: which figure, what it is, what is wanted."""
    lines = []
    if not found.psnr_db >= limits.least_psnr_db:
        lines.append(f"PSNR is {found.psnr_db:.2f} dB; wanted at least {limits.least_psnr_db:g}")
    if not found.temporal_psnr_db >= limits.least_temporal_psnr_db:
        lines.append(
            f"temporal PSNR is {found.temporal_psnr_db:.2f} dB; wanted at least {limits.least_temporal_psnr_db:g}"
        )
    if not abs(found.flicker_ratio - 1) <= limits.most_flicker_error:
        lines.append(
            f"flicker is {found.flicker_ratio:.3f} times that of the real clips; wanted "
            f"{1 - limits.most_flicker_error:g} to {1 + limits.most_flicker_error:g}"
        )
    return lines
