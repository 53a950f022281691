"""What is learnt: the seam between the loop, which moves weights, and the objective, which says what a clip costs.

A task makes the model, turns a batch into inputs, and says each clip's loss. It does not know the world: a clip's loss
must follow from the weights, the clip, (seed, step, slot) and nothing else. Then any number of processes, micro-batches
and restarts learn the same. `DiffusionTask` is the one for diffusion models; an autoencoder has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from cineray.records import Batch
from cineray.train.inputs import Inputs
from cineray.train.parallel import World

Shape = tuple[int, int, int]
"""Frames, rows and columns of pixels of a clip."""


class TrainTask(Protocol):
    """One objective."""

    def build(self) -> nn.Module:
        """The model on the CPU; its weights follow from the job's seed."""

    def begin(self, model: nn.Module, batch: Batch, world: World) -> None:
        """Once in the life of a run, before its first step: look at this process's share of the first batch."""

    def inputs(self, batch: Batch) -> Inputs:
        """What the model is given of a batch, in main memory."""

    def clip_losses(self, model: nn.Module, inputs: Inputs, step: int) -> Tensor:
        """(B,), float32. `model` is what must be called: the built one, or a wrapper around it."""

    def validate(self, model: nn.Module, step: int) -> dict[str, float]:
        """Figures of the model on clips that it does not learn from; every process calls it, all get the same."""

    def blocks(self, model: nn.Module) -> Sequence[nn.Module]:
        """What is compiled, sharded and checkpointed one by one."""

    def muon_parameters(self, model: nn.Module) -> Sequence[nn.Parameter]:
        """The hidden matrices."""

    def forward_flops(self, model: nn.Module, shape: Shape) -> int:
        """Of one clip: a third of what a training step takes, for that is what three times of it stand for."""

    def tokens(self, shape: Shape) -> int:
        """Of one clip, as the model counts them."""
