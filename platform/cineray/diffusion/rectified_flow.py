"""The straight path from noise to data, and the loss on it. Data, noise and times in; one loss per clip out.

    z = t x + (1 - t) e        what the network sees, from noise e at t = 0 to data x at t = 1
    v = x - e                  the direction of the path, the same all along it

t is per frame: a frame with t = 1 is given as it is (first-frame conditioning) and has no loss, and neither have frames
of padding. A clip's loss is the mean over its own other frames, so it does not depend on what else is in the batch.

Shapes: B clips, C channels, T frames, H x W. `mean_C` and `sd_C` are of the data that the network sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange, reduce
from torch import Tensor

_NEVER_ZERO = 1e-4
"""Least 1 - t that is divided by: v is asked for at given frames too, where it is not used."""


def over_frames(value_BT: Tensor) -> Tensor:
    """One number per frame, to be broadcast over (B, C, T, H, W)."""
    return rearrange(value_BT, "b t -> b 1 t 1 1")


def over_channels(value_C: Tensor) -> Tensor:
    """One number per channel, to be broadcast over (B, C, T, H, W)."""
    return rearrange(value_C, "c -> 1 c 1 1 1")


@dataclass(frozen=True, slots=True)
class Flow:
    """How the network's output is to be understood."""

    predict: Literal["x", "v"]
    mean_C: Tensor
    sd_C: Tensor
    least_noise: float = 0.05
    """`x` only: the loss on v divides by 1 - t, which counts as no less."""

    def noised(self, x_BCTHW: Tensor, e_BCTHW: Tensor, t_BT: Tensor) -> Tensor:
        """z: data and noise mixed, each frame at its own time."""
        return torch.lerp(e_BCTHW, x_BCTHW, over_frames(t_BT))

    def clean(self, out_BCTHW: Tensor, z_BCTHW: Tensor, t_BT: Tensor) -> Tensor:
        """The data as the network sees it."""
        if self.predict == "x":
            return over_channels(self.mean_C) + over_channels(self.sd_C) * out_BCTHW.float()
        return z_BCTHW + over_frames(1 - t_BT) * out_BCTHW.float()

    def velocity(self, out_BCTHW: Tensor, z_BCTHW: Tensor, t_BT: Tensor) -> Tensor:
        """v as the network sees it: what a sampler follows."""
        if self.predict == "v":
            return out_BCTHW.float()
        noise_share = over_frames((1 - t_BT).clamp(min=_NEVER_ZERO))
        return (self.clean(out_BCTHW, z_BCTHW, t_BT) - z_BCTHW) / noise_share

    def losses(
        self, out_BCTHW: Tensor, x_BCTHW: Tensor, e_BCTHW: Tensor, t_BT: Tensor, frame_is_real_BT: Tensor
    ) -> Tensor:
        """Squared error of v, the mean of each clip: (B,), float32."""
        if self.predict == "v":
            error_BT = _mean_square(out_BCTHW.float() - (x_BCTHW - e_BCTHW))
            return over_real(error_BT, t_BT, frame_is_real_BT)
        return self.losses_of_clean(self.clean(out_BCTHW, x_BCTHW, t_BT), x_BCTHW, t_BT, frame_is_real_BT)

    def losses_of_clean(self, clean_BCTHW: Tensor, x_BCTHW: Tensor, t_BT: Tensor, frame_is_real_BT: Tensor) -> Tensor:
        """The same of a guess at the data, whoever made it: v's error is the data's error over 1 - t."""
        least = self.least_noise if self.predict == "x" else _NEVER_ZERO
        error_BT = _mean_square(clean_BCTHW - x_BCTHW) / (1 - t_BT).clamp(min=least).square()
        return over_real(error_BT, t_BT, frame_is_real_BT)


def over_real(error_BT: Tensor, t_BT: Tensor, frame_is_real_BT: Tensor) -> Tensor:
    """The mean over a clip's frames that are real and not given; 0 for a clip that has none."""
    learnt_BT = frame_is_real_BT & (t_BT < 1)
    error_BT = torch.where(learnt_BT, error_BT, 0.0)  # not a product: a frame of padding may hold anything
    return error_BT.sum(1) / learnt_BT.sum(1).clamp(min=1)


def _mean_square(error_BCTHW: Tensor) -> Tensor:
    return reduce(error_BCTHW.square(), "b c t h w -> b t", "mean")
