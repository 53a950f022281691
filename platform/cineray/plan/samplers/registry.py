"""All sampling modes, by the name that a recipe gives: write a module, add it here, inherit `SamplerContract`."""

from __future__ import annotations

from cineray.plan.recipe import SamplingSpec
from cineray.plan.samplers.all_windows import AllWindows
from cineray.plan.samplers.base import Sampler
from cineray.plan.samplers.fps import Fps
from cineray.plan.samplers.keyframes import Keyframes
from cineray.plan.samplers.random import Random
from cineray.plan.samplers.scene import Scene
from cineray.plan.samplers.stride import Stride
from cineray.plan.samplers.uniform import Uniform

SAMPLERS: dict[str, type[Sampler]] = {
    "uniform": Uniform,
    "random": Random,
    "stride": Stride,
    "fps": Fps,
    "keyframes": Keyframes,
    "scene": Scene,
    "all_windows": AllWindows,
}


def sampler_of(sampling: SamplingSpec) -> Sampler:
    """The sampler that a recipe asks for."""
    return SAMPLERS[sampling.mode](sampling)
