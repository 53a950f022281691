"""Which noise level each clip is trained at: (seed, step, slot) goes in, t between 0 (noise) and 1 (data) comes out."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

from cineray.diffusion.config import TimestepConfig
from cineray.diffusion.noise import Purpose, normal, uniform

Level = TypeVar("Level", float, Tensor)


def draw(config: TimestepConfig, shape: tuple[int, int, int], *, seed: int, step: int, slots_B: Tensor) -> Tensor:
    """t_B, float32, for clips of `shape` (frames, rows, columns)."""
    purpose = Purpose.TIMESTEP
    # A block of four words: the first two make the normal number, the others are free for the rest.
    which_B, even_B = uniform((4,), seed=seed, step=step, slots_B=slots_B, purpose=purpose)[:, 2:].unbind(1)
    normal_B = normal((1,), seed=seed, step=step, slots_B=slots_B, purpose=purpose)[:, 0].double()
    leaning_B = torch.sigmoid(config.mean + config.sd * normal_B)
    t_B = torch.where(which_B < config.uniform_share, even_B, leaning_B)
    return shifted(t_B, shift_for(config, shape)).float()


def shift_for(config: TimestepConfig, shape: tuple[int, int, int]) -> float:
    """How far clips of this shape are shifted: the more values show the same thing, the less noise hides it."""
    if config.shift_from is None:
        return config.shift
    return config.shift * math.sqrt(math.prod(shape) / math.prod(config.shift_from))


def shifted(t: Level, shift: float) -> Level:
    """t moved towards noise: the odds of noise against data are multiplied by `shift`."""
    return t / (t + shift * (1 - t))
