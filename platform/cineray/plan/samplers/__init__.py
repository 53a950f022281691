"""Sampling modes, one file each: a span in, a clip's frames out. `registry.py` lists them; `base.py` is the seam."""

from cineray.plan.samplers.base import Sampler
from cineray.plan.samplers.registry import SAMPLERS, sampler_of

__all__ = ["SAMPLERS", "Sampler", "sampler_of"]
