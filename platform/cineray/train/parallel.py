"""The processes that learn together: where this one stands, and how a model is spread over them.

    none    one process has all
    ddp     each has all weights, gradients are summed
    fsdp2   each has a share of all weights, gradients and optimiser; a block's weights are gathered while it runs
    hsdp    fsdp2 within a group of processes (a node), copies of it across the groups

The loop does not know which it is. Gradients are averages over the processes in all of them (torch's way), so a loss
that is to be summed is multiplied by the world's size; then shares of different sizes weigh what they should.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from cineray.errors import UsageError
from cineray.train.config import ParallelConfig

Kind = Literal["none", "ddp", "fsdp2", "hsdp"]

_STATE_BYTES_PER_WEIGHT = 20
"""fp32: the weight, its gradient, its average and two of AdamW."""


@dataclass(frozen=True, slots=True)
class World:
    """This process among those that learn together."""

    rank: int = 0
    size: int = 1
    local_size: int = 1
    """Processes of this node."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def here(cls, device: torch.device | None = None, *, gpus: int | None = None) -> World:
        """As torch.distributed has it, or one process alone. `gpus`: how many this process was given, 0 or 1; None: one
        where there are any. Those that it merely sees are not asked: Ray hides them from nobody, given or not."""
        together = dist.is_available() and dist.is_initialized()
        rank, size = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
        local_rank = int(os.environ.get("LOCAL_RANK", rank if together else 0))
        if device is None:
            device = _device(gpus, local_rank)
        return cls(rank, size, int(os.environ.get("LOCAL_WORLD_SIZE", size)), device)

    def share(self, clips: int) -> range:
        """The slots of this process; the plan deals them the same way."""
        return range(clips * self.rank // self.size, clips * (self.rank + 1) // self.size)

    def largest_share(self, clips: int) -> int:
        """Of any process."""
        return -(-clips // self.size)

    def sum_(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place; of integers it is exact."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def most(self, value: int) -> int:
        """The largest over all processes."""
        if self.size == 1:
            return value
        largest = torch.tensor(value, device=self.device)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest)


def _device(gpus: int | None, local_rank: int) -> torch.device:
    """Ray Train shows each worker all GPUs of the run's workers on its node, torchrun all that there are: each takes
    the one of its place on the node."""
    if gpus == 0:
        return torch.device("cpu")
    seen = torch.cuda.device_count()
    if gpus and not seen:
        raise UsageError(
            "parallel.gpus_per_worker is 1 and torch sees no GPU on this machine; set parallel.gpus_per_worker=0, or "
            "see what `cineray doctor` says of torch and the driver"
        )
    return torch.device("cuda", local_rank % seen) if seen else torch.device("cpu")


def kind_for(config: ParallelConfig, world: World, weights: int) -> Kind:
    """What `auto` means for a model of so many weights."""
    if world.size == 1:
        return "none"
    if config.kind == "none":
        raise UsageError(f"parallel.kind is none, but {world.size} processes were started; choose ddp, fsdp2 or hsdp")
    if config.kind != "auto":
        return config.kind
    if world.device.type != "cuda":
        return "ddp"
    memory = torch.cuda.get_device_properties(world.device).total_memory
    return "ddp" if 2 * _STATE_BYTES_PER_WEIGHT * weights < memory else "fsdp2"


def kind_of(config: ParallelConfig, world: World, model: nn.Module) -> Kind:
    """The same for a model."""
    return kind_for(config, world, sum(weight.numel() for weight in model.parameters()))


def shards_of(config: ParallelConfig, world: World, kind: Kind) -> int:
    """Processes that share one copy of the weights."""
    if kind == "hsdp":
        return config.shard_size or world.local_size
    return world.size if kind == "fsdp2" else 1


def spread(
    model: nn.Module, blocks: Sequence[nn.Module], config: ParallelConfig, world: World, *, bf16: bool
) -> nn.Module:
    """The model to call: itself, its weights now shared out, or a wrapper around it. Every rank holds the same weights
    before, whatever the kind, so the kind does not change what is learnt."""
    kind = kind_of(config, world, model)
    if kind == "none":
        return model
    if kind == "ddp":
        return DistributedDataParallel(
            model,
            device_ids=[world.device.index] if world.device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )
    _shard(model, blocks, config, world, kind, bf16=bf16)
    return model


def _shard(
    model: nn.Module, blocks: Sequence[nn.Module], config: ParallelConfig, world: World, kind: Kind, *, bf16: bool
) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # Inputs are left alone: the model casts them itself, and noise levels in bf16 would be rounded to 8 bits.
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    told: dict[str, Any] = {"mesh": mesh_for(config, world, kind), "mp_policy": policy}
    # What is left after the blocks (first and last layers, conditioning) is needed at once again in the backward pass.
    for part in (*blocks, model):
        whole = [weight for weight in part.parameters() if not hasattr(weight, "to_local")]
        fully_shard(part, reshard_after_forward=part is not model and config.reshard_after_forward, **told)
        for weight in whole:
            # Whoever still names it (a list of Muon's) must not keep all of it on a device that has its share now.
            weight.data = weight.new_empty(0)


def mesh_for(config: ParallelConfig, world: World, kind: Kind) -> Any:
    """The processes in a line (fsdp2), or in a rectangle (hsdp): copies down, shares across."""
    from torch.distributed.device_mesh import init_device_mesh

    if kind == "fsdp2":
        return init_device_mesh(world.device.type, (world.size,), mesh_dim_names=("shard",))
    shares = shards_of(config, world, kind)
    if world.size % shares:
        raise UsageError(
            f"parallel.shard_size is {shares} and {world.size} processes learn together; it must divide them evenly"
        )
    return init_device_mesh(world.device.type, (world.size // shares, shares), mesh_dim_names=("copy", "shard"))


@contextmanager
def summing_later(parallel: nn.Module, *, later: bool) -> Iterator[None]:
    """With `later`, the backward pass inside keeps gradients to itself: further micro-batches will add to them."""
    if isinstance(parallel, FSDPModule):
        module = cast("FSDPModule", parallel)
        module.set_requires_gradient_sync(not later)
        module.set_is_last_backward(not later)
        yield
        return
    with parallel.no_sync() if later and isinstance(parallel, DistributedDataParallel) else nullcontext():
        yield


def gather_anew(model: nn.Module) -> None:
    """Weights were changed from outside: copies that were gathered from all processes are let go, if there are any."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            cast("FSDPModule", module).reshard()


def local(value: Tensor) -> Tensor:
    """The part of a weight that this process holds: all of it, unless it is shared out."""
    return cast("Tensor", value.to_local()) if hasattr(value, "to_local") else value
