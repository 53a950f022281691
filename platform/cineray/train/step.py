"""One optimiser step: a process's share of a batch goes in, in parts; the weights move; a few sums come out.

The loss of a step is the sum of its clips' losses over the size of the global batch, whoever computes which clip: each
part adds its share of the gradients, which are summed over the processes after the last one. Nothing is read back to
the host here, so a GPU is never waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from cineray.train.inputs import Inputs
from cineray.train.learner import Learner
from cineray.train.optimisers import clip_gradients
from cineray.train.parallel import summing_later
from cineray.train.task import TrainTask


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a step leaves behind, on the device."""

    losses_B: Tensor
    """Of this process's clips, in the order of their slots; those that only filled up are left out."""
    grad_norm: Tensor
    """Over all processes, before clipping."""
    lr: float
    """AdamW's."""


def learn(learner: Learner, task: TrainTask, parts: Sequence[Inputs], *, step: int, global_size: int) -> Stepped:
    """One step on these parts of `global_size` clips."""
    found = []
    for number, part in enumerate(parts):
        with summing_later(learner.parallel, later=number + 1 < len(parts)):
            with computing(learner):
                losses_B = task.clip_losses(learner.parallel, part, step)
            # Gradients are averaged over the processes, and are to be summed.
            loss = torch.dot(losses_B, part.weight_B) * (learner.world.size / global_size)
            loss.backward()  # type: ignore[no-untyped-call]
        found.append(losses_B.detach()[: part.count])
    lr = learner.set_rates(step)
    grad_norm = clip_gradients(learner.model.parameters(), learner.job.optimiser.clip_norm)
    for optimiser in learner.optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    learner.ema.add(step)
    return Stepped(torch.cat(found), grad_norm, lr)


def computing(learner: Learner) -> AbstractContextManager[object]:
    """The precision that forward passes run in. Sharded weights are gathered as bf16 already."""
    wanted = learner.job.precision == "bf16" and not isinstance(learner.parallel, FSDPModule)
    return torch.autocast(learner.world.device.type, torch.bfloat16) if wanted else nullcontext()
