"""What chance gives each clip of a step: (seed, step, slot) goes in; its noise, its times, what it hides comes out.

Training and `cineray batch`, which shows what a step was trained on, both ask here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cineray.diffusion.config import DiffusionConfig
from cineray.diffusion.noise import Purpose, normal, uniform
from cineray.diffusion.timesteps import draw


@dataclass(frozen=True, slots=True)
class Drawn:
    """Of some slots."""

    e_BCTHW: Tensor
    t_BT: Tensor
    """1 for a first frame that is shown: it has no noise and no loss."""
    is_hidden_B: Tensor
    """Whether the network is told neither class nor caption."""
    pace_is_known_B: Tensor


def drawn(config: DiffusionConfig, shape: Sequence[int], *, seed: int, step: int, slots_B: Tensor) -> Drawn:
    """For clips of `shape` (channels, frames, rows, columns), as the network sees them."""
    _, frames, height, width = shape
    address: dict[str, Any] = {"seed": seed, "step": step, "slots_B": slots_B}
    e_BCTHW = normal(shape, purpose=Purpose.NOISE, **address)
    t_B = draw(config.timesteps, (frames, height, width), **address)
    t_BT = t_B[:, None].expand(-1, frames)
    if config.first_frame > 0 and frames > 1:
        shown_B1 = uniform((1,), purpose=Purpose.FIRST_FRAME, **address) < config.first_frame
        first_T = torch.arange(frames, device=t_BT.device) == 0
        t_BT = torch.where(shown_B1 & first_T, 1.0, t_BT)
    hide = uniform((2,), purpose=Purpose.DROP, **address)
    return Drawn(e_BCTHW, t_BT, hide[:, 0] < config.drop, hide[:, 1] >= config.drop_pace)
