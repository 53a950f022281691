"""The average of the weights over the last steps: weights go in after each step, a whole model state comes out.

Only trained weights are averaged; frozen ones and buffers are taken as they are, so a state is complete. Each process
averages the share of the weights that it holds: no communication. How much of the average stays is a function of the
step, so nothing but the average is saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cineray.train.config import EmaConfig
from cineray.train.parallel import gather_anew, local


class Ema:
    """The average of one model's trained weights, fp32."""

    def __init__(self, model: nn.Module, config: EmaConfig) -> None:
        self._config, self._model = config, model
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._averages = [weight.detach().clone() for weight in self._weights]
        self._own = [local(weight.detach()) for weight in self._weights]
        self._own_averages = [local(average) for average in self._averages]

    def decay_at(self, step: int) -> float:
        """How much of the average stays when the weights after `step` are added."""
        ramp = (1 + step) / (10 + step) if self._config.ramp else 1.0
        return min(self._config.decay, ramp)

    @torch.no_grad()
    def add(self, step: int) -> None:
        """The weights after a step."""
        if self._own:
            torch._foreach_lerp_(self._own_averages, self._own, 1 - self.decay_at(step))

    def state(self, model_state: dict[str, Any], names: dict[Tensor, str]) -> dict[str, Any]:
        """A model state (by name) with the averages in place of the trained weights. `names`: of each weight."""
        averages = {names[weight]: average for weight, average in zip(self._weights, self._averages, strict=True)}
        return {name: averages.get(name, value) for name, value in model_state.items()}

    @torch.no_grad()
    def load(self, state: dict[str, Any], names: dict[Tensor, str]) -> None:
        """Take over the averages of a state."""
        for weight, average in zip(self._weights, self._averages, strict=True):
            local(average).copy_(local(state[names[weight]]))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While inside, the model has the averages as its weights; no further memory is taken."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self._own, self._own_averages, strict=True):
            kept = weight.clone()  # one weight at a time
            weight.copy_(average)
            average.copy_(kept)
        gather_anew(self._model)
