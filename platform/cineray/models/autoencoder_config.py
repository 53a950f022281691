"""Which autoencoder a run's latents are of, in words: torch-free, so that a job and its plan need no GPU library.

pixels        none: the model learns pixels
vae_lite      ours, trained by a job of its own (`jobs/train_vae.py`), from the file that it exported
diffusers     one of the `diffusers` library, from a local folder (extra `diffusers`)
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cineray.config import Config


class GateLimits(Config):
    """What an autoencoder must have shown on held-out clips before a run builds on its latents."""

    least_psnr_db: float = 28.0
    """Of single frames, in decibels of the full range; the mean over held-out clips."""
    least_temporal_psnr_db: float = 25.0
    """The same of what changes from frame to frame: a still picture of the right scene fails here. Errors that do not
    follow each other cost 3 dB against single frames."""
    most_flicker_error: float = Field(default=0.05, ge=0)
    """How far the flicker of what is decoded may lie from that of the real clips: 0.05 is five percent either way."""


class VaeLiteShape(Config):
    """How large a `vae_lite` is and what it makes of a clip."""

    channels: int = Field(default=8, ge=1, le=64)
    """Of a latent: 4 for small domains, 8 or 16 for more detail."""
    compression: tuple[int, int, int] = (4, 8, 8)
    """Frames, rows and columns of pixels for each place of the latent; powers of two. The first frame has its own."""
    width: int = Field(default=128, ge=8)
    """Features of the finer of its two levels; the coarser one has twice as many. 128 makes 6 million parameters."""
    blocks: int = Field(default=3, ge=1, le=32)
    """Residual blocks of each level, on either side."""

    @field_validator("compression")
    @classmethod
    def _powers_of_two(cls, compression: tuple[int, int, int]) -> tuple[int, int, int]:
        frames, rows, columns = compression
        if any(size < 1 or size & (size - 1) for size in compression) or rows != columns or rows < 2:
            raise ValueError(
                "compression must be powers of two, as (frames, rows, columns) with rows = columns of at least 2: "
                f"(4, 8, 8), (1, 8, 8); got {tuple(compression)}"
            )
        return frames, rows, columns


class PixelsConfig(Config):
    """No autoencoder: what is learnt are pixels."""

    kind: Literal["pixels"] = "pixels"


class VaeLiteConfig(Config):
    """A `vae_lite` that was trained and exported."""

    kind: Literal["vae_lite"] = "vae_lite"
    path: str = Field(min_length=1)
    """Its exported file: a path or an object's uri."""
    gate: GateLimits | None = GateLimits()
    """Refused if its recorded held-out figures are worse; null takes it as it is."""


class DiffusersVaeConfig(Config):
    """An autoencoder of the `diffusers` library. Nothing is downloaded: the folder must be there."""

    kind: Literal["diffusers"] = "diffusers"
    path: str = Field(min_length=1)
    """The local folder with `config.json` and weights, as `save_pretrained` writes it."""
    gate: GateLimits | None = None
    """Held-out figures are wanted only where limits are given: `cineray latents` measures none for it."""


AutoencoderConfig = Annotated[PixelsConfig | VaeLiteConfig | DiffusersVaeConfig, Field(discriminator="kind")]
"""What a job says of its autoencoder."""
