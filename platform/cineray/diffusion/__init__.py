"""From noise to data and back: clips, noise and times go in; losses per clip, and new clips, come out.

    config.py          DiffusionConfig     what the network predicts, where the noise levels lie, who is dropped
    noise.py           normal, uniform     random numbers with an address: (seed, step, slot, purpose)
    timesteps.py       draw                the noise level of each clip
    chance.py          drawn               all that chance gives a clip of a step, for whoever trains or shows it
    rectified_flow.py  Flow                the straight path between noise and data, and the loss on it
    samplers.py        sample              along the path, by Euler or Heun, with guidance and a given first frame
    baselines.py       MeanDenoiser, ...   what can be had without learning: every score stands beside it

Time goes from noise at t = 0 to data at t = 1, and each frame has its own. Nothing here knows a rank, a world or a
micro-batch: the same (seed, step, slot) is the same noise wherever it is asked for. Names are loaded when first used;
`DiffusionConfig` needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.diffusion.baselines import LinearDenoiser, MeanDenoiser
    from cineray.diffusion.chance import Drawn, drawn
    from cineray.diffusion.config import DiffusionConfig, SamplerConfig, TimestepConfig
    from cineray.diffusion.noise import Purpose, normal, uniform
    from cineray.diffusion.rectified_flow import Flow
    from cineray.diffusion.samplers import guided, sample
    from cineray.diffusion.timesteps import draw, shifted

__all__ = [
    "DiffusionConfig",
    "Drawn",
    "Flow",
    "LinearDenoiser",
    "MeanDenoiser",
    "Purpose",
    "SamplerConfig",
    "TimestepConfig",
    "draw",
    "drawn",
    "guided",
    "normal",
    "sample",
    "shifted",
    "uniform",
]

_HOME = {
    "baselines": ("LinearDenoiser", "MeanDenoiser"),
    "config": ("DiffusionConfig", "SamplerConfig", "TimestepConfig"),
    "chance": ("Drawn", "drawn"),
    "noise": ("Purpose", "normal", "uniform"),
    "rectified_flow": ("Flow",),
    "samplers": ("guided", "sample"),
    "timesteps": ("draw", "shifted"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
