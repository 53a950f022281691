"""From a job to a model that is ready to learn: built, on its device, in as much memory as there is, compiled, spread.

The order matters: what is kept for the backward pass is decided on the bare model, blocks are compiled with that
decision inside, and only then weights are shared out around them. A model whose weights are shared out stays in main
memory until then, and goes to its devices block by block: none of them ever holds all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from cineray.models import TextEncoder
from cineray.train.blank import blank_batch
from cineray.train.compiling import CompiledCode, allow_graphs, arrange
from cineray.train.config import LearningJob
from cineray.train.inputs import micro_batches
from cineray.train.learner import Learner
from cineray.train.memory import LADDER, Memory, choose, weight_bytes
from cineray.train.parallel import Kind, World, kind_of, shards_of
from cineray.train.stand_ins import stand_ins
from cineray.train.task import TrainTask

_STATES = 3
"""fp32, per trained weight, beside itself and its gradient: the average and two of AdamW; Muon has one less."""


def make_learner(job: LearningJob, task: TrainTask, world: World, *, compiled_folder: str = "") -> Learner:
    """Every process of the world calls this; all hold the same weights afterwards."""
    if job.deterministic:
        # Only a warning where a kernel has no such form: the run's record says what ran.
        torch.use_deterministic_algorithms(True, warn_only=True)
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
        torch.set_float32_matmul_precision("high")
    model = _placed(task.build(), job, world)
    blocks = list(task.blocks(model))
    code: CompiledCode | None = None
    if job.compile:
        allow_graphs(len(job.recipe.shapes))
        code = CompiledCode(compiled_folder, rank=world.rank) if compiled_folder else None
    memory = memory_for(job, task, model, blocks, world)
    arrange(blocks, memory=memory, compiled=job.compile)
    told: dict[str, Any] = {"activation_memory": memory, "code": code}
    return Learner(job, model, blocks=blocks, hidden=task.muon_parameters(model), world=world, **told)


def _placed(model: nn.Module, job: LearningJob, world: World) -> nn.Module:
    """On the device, or left where it is for its weights to be shared out."""
    if not _is_shared(kind_of(job.parallel, world, model)):
        return model.to(world.device)
    for part in model.modules():
        # Its weights are no part of the model's, so nobody else moves them.
        if isinstance(part, TextEncoder) and not part.trainable:
            part.to(world.device)
    return model


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
    kind, is_bf16 = kind_of(job.parallel, world, model), job.precision == "bf16"
    weights: AbstractContextManager[None] = nullcontext()
    if _is_shared(kind):
        weights = stand_ins(model, blocks, world.device, torch.bfloat16 if is_bf16 else None)

    def loss() -> Tensor:
        with torch.autocast(world.device.type, torch.bfloat16, enabled=is_bf16 and not _is_shared(kind)):
            return task.clip_losses(model, part, 0).sum()

    # On a CPU every single result is noted, of which compiled code has none.
    compiled = job.compile and world.device.type == "cuda"
    with weights:
        found = choose(
            loss,
            lambda memory: arrange(blocks, memory=memory, compiled=compiled),
            device=world.device,
            needed_besides=needed_besides(job, model, blocks, kind, shards_of(job.parallel, world, kind)),
        )
        model.zero_grad(set_to_none=True)
    return LADDER[world.most(LADDER.index(found))]


def needed_besides(job: LearningJob, model: nn.Module, blocks: Sequence[nn.Module], kind: Kind, shards: int) -> int:
    """Bytes of a device that a step takes beside what trying it shows."""
    trained = weight_bytes(model, trained=True)
    if not _is_shared(kind):
        return _STATES * trained
    own = (weight_bytes(model) + (1 + _STATES) * trained) // shards
    block = max((weight_bytes(one) for one in blocks), default=0)
    # Blocks that are gathered stay so till their backward pass, unless they are given back; the next one comes early.
    gathered = block if job.parallel.reshard_after_forward else weight_bytes(model)
    if job.precision == "bf16":
        gathered, block = gathered // 2, block // 2
    return own + gathered + block


def _is_shared(kind: Kind) -> bool:
    return kind in ("fsdp2", "hsdp")
