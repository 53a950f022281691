"""From noise to clips: noise and a velocity go in, clips come out. Euler or Heun along the path, from t = 0 to t = 1.

A velocity is any function of (z_BCTHW, t_BT) that says where z is heading; `guided` makes one that is steered by a
class or caption. With a first frame, that frame stays as it is, at t = 1, while the others form around it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from cineray.diffusion.config import SamplerConfig
from cineray.diffusion.timesteps import shifted

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(z_BCTHW, t_BT) -> v_BCTHW"""


@torch.no_grad()
def sample(
    velocity: Velocity, noise_BCTHW: Tensor, config: SamplerConfig, *, first_frame_BCHW: Tensor | None = None
) -> Tensor:
    """Clips of the noise's shape, in the units of the data."""
    z = noise_BCTHW
    times = path(config, z.device)
    for now, soon in pairwise(times.unbind()):
        z, t_BT = _given(z, now, first_frame_BCHW)
        v = velocity(z, t_BT)
        ahead = z + (soon - now) * v
        if config.method == "heun" and soon < 1:  # v has no meaning at the end: the last step is Euler's
            ahead, t_ahead_BT = _given(ahead, soon, first_frame_BCHW)
            ahead = z + (soon - now) * (v + velocity(ahead, t_ahead_BT)) / 2
        z = ahead
    return _given(z, times[-1], first_frame_BCHW)[0]


def path(config: SamplerConfig, device: torch.device) -> Tensor:
    """The times that are visited, 0 first and 1 last."""
    return shifted(torch.linspace(0, 1, config.steps + 1, dtype=torch.float64), config.shift).float().to(device)


def guided(with_it: Velocity, without: Velocity, guidance: float) -> Velocity:
    """Classifier-free guidance: away from what is made without a condition, towards what is made with it."""
    if guidance == 1:
        return with_it
    if guidance == 0:
        return without

    def steered(z_BCTHW: Tensor, t_BT: Tensor) -> Tensor:
        return torch.lerp(without(z_BCTHW, t_BT), with_it(z_BCTHW, t_BT), guidance)

    return steered


def _given(z_BCTHW: Tensor, t: Tensor, first_frame_BCHW: Tensor | None) -> tuple[Tensor, Tensor]:
    """z and its times per frame, the first frame put in its place."""
    t_BT = t.expand(z_BCTHW.shape[0], z_BCTHW.shape[2])
    if first_frame_BCHW is None:
        return z_BCTHW, t_BT
    z_BCTHW, t_BT = z_BCTHW.clone(), t_BT.clone()
    z_BCTHW[:, :, 0] = first_frame_BCHW
    t_BT[:, 0] = 1.0
    return z_BCTHW, t_BT
