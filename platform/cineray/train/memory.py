"""How much of a forward pass is kept for the backward one: blocks go in, and run as they are, or again when needed.

    none        everything is kept: fastest
    selective   the outputs of attention and of every second matrix product are kept, the rest is computed again
    full        only what enters a block is kept, all of it is computed again: a third more work

`choose` takes the first that fits, by trying: a step's worth of clips of the largest shape goes forward and back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import psutil
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

Memory = Literal["none", "selective", "full"]
LADDER: tuple[Memory, ...] = ("none", "selective", "full")

ROOM = 0.9
"""The share of the device's memory that is planned with; the rest is for fragments and the libraries' own."""

_ATTENTION = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
)
_PRODUCTS = frozenset({torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default})


def _kept_operations() -> frozenset[Any]:
    """Attention is dear to compute and small to keep."""
    kept = {getattr(torch.ops.aten, name).default for name in _ATTENTION if hasattr(torch.ops.aten, name)}
    varlen = getattr(getattr(torch.ops, "torch_attn", None), "_varlen_attn", None)
    flex = getattr(torch.ops.higher_order, "flex_attention", None)
    return frozenset(kept | {operation for operation in (getattr(varlen, "default", None), flex) if operation})


def _every_second_product() -> tuple[Any, Any]:
    """The contexts of one block's run: forward, and computing again."""
    kept, products = _kept_operations(), {"forward": 0, "again": 0}

    def policy(context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
        if operation in _PRODUCTS:
            which = "again" if context.is_recompute else "forward"
            products[which] += 1
            keep = products[which] % 2 == 0
        else:
            keep = operation in kept
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE

    contexts: tuple[Any, Any] = create_selective_checkpoint_contexts(policy)  # type: ignore[no-untyped-call]
    return contexts


def with_memory(forward: Callable[..., Tensor], memory: Memory) -> Callable[..., Tensor]:
    """A block's forward pass that keeps no more than it may."""
    if memory == "none":
        return forward
    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    if memory == "selective":
        again = partial(again, context_fn=_every_second_product)

    def run(*args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = again(forward, *args, **kwargs)
        return out

    return run


def choose(
    loss: Callable[[], Tensor], set_memory: Callable[[Memory], None], *, device: torch.device, needed_besides: int
) -> Memory:
    """The first of the ladder with which a step fits beside `needed_besides` bytes; the last one if none does.

    `loss` is one forward pass. On a GPU it goes back too, and the peak is read; out of memory is an answer as well.
    """
    for memory in LADDER[:-1]:
        set_memory(memory)
        peak = _peak_bytes(loss, device)
        if peak is not None and peak + needed_besides <= ROOM * _device_bytes(device):
            return memory
    set_memory(LADDER[-1])
    return LADDER[-1]


def _peak_bytes(loss: Callable[[], Tensor], device: torch.device) -> int | None:
    """The most that is held while it runs; None where it does not fit."""
    if device.type != "cuda":
        return kept_bytes(loss)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        loss().backward()  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    except torch.OutOfMemoryError:
        return None
    finally:
        torch.cuda.empty_cache()


def kept_bytes(loss: Callable[[], Tensor]) -> int:
    """What of a forward pass is still held when it is over: on a CPU, whose allocator tells no peak."""
    with _Made() as made:
        held = loss()
        total: int = made.alive_bytes()
    del held
    return total


class _Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the memory of every result that is computed while it is entered, without holding on to it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen: dict[int, tuple[Any, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                held: Any = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._seen[storage._cdata] = (held, storage.nbytes())
        return out

    def alive_bytes(self) -> int:
        """Of all that somebody still holds."""
        return sum(size for reference, size in self._seen.values() if not reference.expired())


def _device_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    return int(psutil.virtual_memory().available)


def weight_bytes(model: nn.Module, *, trained: bool = False) -> int:
    """Of all weights, or of those that are trained."""
    weights = [weight for weight in model.parameters() if weight.requires_grad or not trained]
    return sum(weight.numel() * weight.element_size() for weight in weights)
