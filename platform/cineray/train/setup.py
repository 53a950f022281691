"""From a job to a model that is ready to learn: built, on its device, in as much memory as there is, compiled, spread.

The order matters: what is kept for the backward pass is decided on the bare model, blocks are compiled with that
decision inside, and only then weights are shared out around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cineray.train.blank import blank_batch
from cineray.train.compiling import CompiledCode, allow_graphs, arrange
from cineray.train.config import LearningJob
from cineray.train.inputs import micro_batches
from cineray.train.learner import Learner
from cineray.train.memory import LADDER, Memory, choose, model_bytes
from cineray.train.parallel import World
from cineray.train.task import TrainTask

_STATES_PER_WEIGHT = 3
"""fp32, beside weights and gradients: the average and two of AdamW; Muon has one less."""


def make_learner(job: LearningJob, task: TrainTask, world: World, *, compiled_folder: str = "") -> Learner:
    """Every process of the world calls this; all hold the same weights afterwards."""
    if job.deterministic:
        # Only a warning where a kernel has no such form: the run's record says what ran.
        torch.use_deterministic_algorithms(True, warn_only=True)
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
        torch.set_float32_matmul_precision("high")
    model = task.build().to(world.device)
    blocks = list(task.blocks(model))
    code: CompiledCode | None = None
    if job.compile:
        allow_graphs(len(job.recipe.shapes))
        code = CompiledCode(compiled_folder, rank=world.rank) if compiled_folder else None
    memory = memory_for(job, task, model, blocks, world)
    arrange(blocks, memory=memory, compiled=job.compile)
    told: dict[str, Any] = {"activation_memory": memory, "code": code}
    return Learner(job, model, blocks=blocks, hidden=task.muon_parameters(model), world=world, **told)


def memory_for(
    job: LearningJob, task: TrainTask, model: nn.Module, blocks: Sequence[nn.Module], world: World
) -> Memory:
    """As the job says, or what fits; the same on every process."""
    if job.activation_memory != "auto":
        return job.activation_memory
    largest = max(job.recipe.shapes, key=lambda bucket: torch.Size(bucket.shape).numel() * job.recipe.size_of(bucket))
    share = world.largest_share(job.recipe.size_of(largest))
    inputs = task.inputs(blank_batch(largest, share))
    part = micro_batches(inputs, largest_share=share, micro_batch=job.micro_batch)[0].to(world.device)

    def loss() -> Tensor:
        with torch.autocast(world.device.type, torch.bfloat16, enabled=job.precision == "bf16"):
            return task.clip_losses(model, part, 0).sum()

    # On a CPU every single result is noted, of which compiled code has none.
    compiled = job.compile and world.device.type == "cuda"
    found = choose(
        loss,
        lambda memory: arrange(blocks, memory=memory, compiled=compiled),
        needed_besides=_STATES_PER_WEIGHT * model_bytes(model),
    )
    model.zero_grad(set_to_none=True)
    return LADDER[world.most(LADDER.index(found))]
