"""How high the learning rates are at each step: a pure function of the step and the job, so that nothing is saved."""

from __future__ import annotations

import math

from cineray.train.config import OptimiserConfig


def rate_at(config: OptimiserConfig, step: int, steps: int) -> float:
    """The share of the highest rate at `step` of `steps`.

        1 |    ________________         wsd: warm-up, stable, decay
          |   /                \\
        0 |__/                  \\__
             warm-up      decay_fraction
    """
    warmup = min(config.warmup_steps, steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return config.final_fraction + (1 - config.final_fraction) * _falling(config, step, steps, warmup)


def _falling(config: OptimiserConfig, step: int, steps: int, warmup: int) -> float:
    """From 1 after the warm-up to 0 just after the last step, which so still moves the weights a little."""
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
    decay = max(1, round(config.decay_fraction * steps))
    return min(1.0, (steps - step) / decay)
