"""What a diffusion run was told: plain values in, checked configs out. No torch here, so that planning needs none."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from cineray.config import Config


class TimestepConfig(Config):
    """Where between noise (t = 0) and data (t = 1) the clips of a batch are looked at."""

    mean: float = Field(default=-0.8, ge=-10, le=10)
    """Of a normal number whose sigmoid is t: below 0 leans to noise, where motion and layout are decided."""
    sd: float = Field(default=1.0, gt=0, le=10)
    """Its spread."""
    uniform_share: float = Field(default=0.1, ge=0, le=1)
    """The share of clips whose t is drawn evenly instead, so that no level is left unseen."""
    shift: float = Field(default=1.0, gt=0, le=100)
    """Above 1 moves every t towards noise, as larger pictures need; 1 leaves it."""
    shift_from: tuple[int, int, int] | None = None
    """Frames, rows and columns for which `shift` is meant: a clip of n times as many values is shifted by the root of
    n more. None: the same shift for all shapes."""


class DiffusionConfig(Config):
    """What the network learns."""

    predict: Literal["x", "v"] = "x"
    """`x`: the data (for pixels and large patches); `v`: data minus noise (for latents with small patches). The loss is
    on v either way."""
    least_noise: float = Field(default=0.05, gt=0, le=1)
    """`x` only: the loss on v grows as 1 / (1 - t); 1 - t counts as no less than this."""
    data_mean: tuple[float, ...] | None = None
    """Of each channel, in the units of the network's input ([-1, 1] for pixels); None: measured on the first batch."""
    data_sd: tuple[float, ...] | None = None
    """Spread of each channel; None: measured on the first batch."""
    timesteps: TimestepConfig = TimestepConfig()
    """Which noise levels are trained on."""
    drop: float = Field(default=0.1, ge=0, le=1)
    """The share of clips whose class and caption are hidden, which is what guidance needs."""
    drop_pace: float = Field(default=0.1, ge=0, le=1)
    """The share of clips for which the mean time between frames is hidden."""
    first_frame: float = Field(default=0.0, ge=0, le=1)
    """The share of clips whose first frame is shown to the network: it learns to go on from a picture."""

    @model_validator(mode="after")
    def _no_contradiction(self) -> DiffusionConfig:
        if (self.data_mean is None) != (self.data_sd is None):
            given, missing = ("data_sd", "data_mean") if self.data_mean is None else ("data_mean", "data_sd")
            raise ValueError(f"diffusion.{given} is given but diffusion.{missing} is not; give both, or neither")
        if self.data_sd is not None and min(self.data_sd, default=0.0) <= 0:
            raise ValueError(f"diffusion.data_sd is {self.data_sd}; each channel's spread must be above 0")
        if len(self.data_mean or ()) != len(self.data_sd or ()):
            raise ValueError("diffusion.data_mean and diffusion.data_sd must have one number per channel each")
        return self


class SamplerConfig(Config):
    """How clips are made from noise."""

    method: Literal["euler", "heun"] = "euler"
    """`heun` looks twice per step and follows the path more closely."""
    steps: int = Field(default=25, ge=1, le=10_000)
    """From noise to data."""
    guidance: float = Field(default=1.0, ge=0)
    """Above 1 moves away from what the network makes without a class or caption; 1 asks it once, not twice."""
    shift: float = Field(default=1.0, gt=0, le=100)
    """Above 1 spends more of the steps near noise."""
