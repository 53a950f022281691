"""What learns: a model, its average and its optimisers, made from a seed; and all of it as a state that can be saved.

The state has the names of the bare model whatever spreads it, and sharded tensors where weights are shared out: torch's
distributed checkpoint saves each process's part and gives it to any other number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from cineray.train.compiling import CompiledCode
from cineray.train.config import LearningJob
from cineray.train.ema import Ema
from cineray.train.optimisers import build_optimisers, set_rates
from cineray.train.parallel import World, spread
from cineray.train.schedule import rate_at


class Learner:
    """A model that is trained by this process, alone or with others."""

    def __init__(
        self,
        job: LearningJob,
        model: nn.Module,
        *,
        blocks: Sequence[nn.Module],
        hidden: Sequence[nn.Parameter],
        world: World,
        activation_memory: str = "none",
        code: CompiledCode | None = None,
    ) -> None:
        self.job, self.world, self.model = job, world, model
        self.rated_steps = job.steps
        """The steps that the rates are made for: of a run that ends by time, fixed on its way."""
        self.activation_memory = activation_memory
        """What is kept for the backward pass: for the record."""
        self.code = code
        """Where compiled code is kept; None where nothing is compiled."""
        by_muon = {name for name, weight in model.named_parameters() if any(weight is one for one in hidden)}
        self.parallel = spread(model, blocks, job.parallel, world, bf16=job.precision == "bf16")
        """What is called. `model` is the same bare model, its weights perhaps shared out."""
        # Sharding puts other parameters in place of those that the model named: they are found again by name.
        again = [weight for name, weight in model.named_parameters() if name in by_muon]
        self.optimisers: list[Optimizer] = build_optimisers(job.optimiser, model, again)
        self.ema = Ema(model, job.ema)

    def set_rates(self, step: int) -> float:
        """The rates of a step; returns AdamW's."""
        share = rate_at(self.job.optimiser, step, self.rated_steps)
        set_rates(self.job.optimiser, self.optimisers, share)
        return share * self.job.optimiser.lr

    def state(self) -> dict[str, Any]:
        """`model`, `ema` and `optimisers`, by the bare model's names."""
        weights = get_model_state_dict(self.model)
        return {
            "model": weights,
            "ema": self.ema.state(weights, self._names()),
            "optimisers": get_optimizer_state_dict(self.model, self.optimisers),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state of the same shape: what `state()` gave, read into by a checkpoint.

        How the optimisers are set is the job's to say, now as at the first start.
        """
        settings = [[_settings(group) for group in one.param_groups] for one in self.optimisers]
        set_model_state_dict(self.model, state["model"])
        set_optimizer_state_dict(self.model, self.optimisers, state["optimisers"])
        for optimiser, told in zip(self.optimisers, settings, strict=True):
            for group, values in zip(optimiser.param_groups, told, strict=True):
                group.update(values)
        self.ema.load(state["ema"], self._names())

    def _names(self) -> dict[Tensor, str]:
        return {weight: name for name, weight in self.model.named_parameters()}


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def seeded(seed: int) -> None:
    """Weights are drawn from torch's global generator: the same seed, the same weights on every process."""
    torch.manual_seed(seed)
