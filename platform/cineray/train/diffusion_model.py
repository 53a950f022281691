"""A video model with what belongs to it: its caption encoder, and the mean and spread of the data that it learnt from.

Noisy clips, their times and conditions go in, the network's output comes out. All of it is one module, so one state
holds whatever sampling needs, and one call trains it, whatever is wrapped around. `flow()` says what the output means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from cineray.diffusion.rectified_flow import Flow
from cineray.models import Conditioning, TextEncoder, VideoModel


class DiffusionModel(nn.Module):
    """`net` and what it needs."""

    data_mean_C: Tensor
    data_sd_C: Tensor

    def __init__(
        self,
        net: VideoModel,
        text: TextEncoder | None,
        *,
        channels: int,
        predict: Literal["x", "v"],
        least_noise: float,
    ) -> None:
        super().__init__()
        self.net, self.text = net, text
        self.predict, self.least_noise = predict, least_noise
        self.register_buffer("data_mean_C", torch.zeros(channels))
        self.register_buffer("data_sd_C", torch.ones(channels))

    def flow(self) -> Flow:
        """What the network's output means."""
        return Flow(self.predict, self.data_mean_C, self.data_sd_C, self.least_noise)

    def forward(
        self,
        z_BCTHW: Tensor,
        t_BT: Tensor,
        cond: Conditioning,
        captions: Sequence[str | None] = (),
        hidden_B: Tensor | None = None,
    ) -> Tensor:
        """The network's output; captions are encoded on the way, those of `hidden_B` are hidden."""
        if self.text is not None and captions:
            text_BLD, text_is_real_BL = self.text.encode(list(captions))
            if hidden_B is not None:
                text_is_real_BL = text_is_real_BL & ~hidden_B[:, None]
            cond = replace(cond, text_BLD=text_BLD, text_is_real_BL=text_is_real_BL)
        out: Tensor = self.net(z_BCTHW, t_BT, cond)
        return out


def core_of(model: nn.Module) -> DiffusionModel:
    """The diffusion model in whatever is wrapped around it."""
    inner = getattr(model, "module", model)
    assert isinstance(inner, DiffusionModel)
    return inner
