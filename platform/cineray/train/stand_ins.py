"""A model tried out before its weights are shared out: it stays in main memory, stand-ins compute on the device.

What a step keeps for its backward pass does not depend on what weights are, only on their shapes. So blocks of one make
take turns with one set of zeros, and a model that fits on no single device is tried on one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def stand_ins(
    model: nn.Module, blocks: Sequence[nn.Module], device: torch.device, dtype: torch.dtype | None = None
) -> Iterator[None]:
    """While inside, the model computes on the device, with weights of this type (None: of their own)."""
    made: dict[Any, Tensor] = {}
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for holder, name, value, key in _tensors(model, blocks):
            if key not in made:
                made[key] = _stand_in(value, device, dtype)
            replaced.append((holder, name, value))
            holder[name] = made[key]
        yield
    finally:
        for holder, name, value in replaced:
            holder[name] = value


def _stand_in(value: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    if not isinstance(value, nn.Parameter):
        return value.to(device)
    zeros = torch.zeros(value.shape, dtype=dtype or value.dtype, device=device)
    return nn.Parameter(zeros, requires_grad=value.requires_grad)


def _tensors(model: nn.Module, blocks: Sequence[nn.Module]) -> Iterator[tuple[dict[str, Any], str, Tensor, Any]]:
    """Where each weight and buffer is held, its name there, itself, and what tells those apart that cannot share."""
    within: dict[int, Any] = {}
    for block in blocks:
        weights = tuple((name, tuple(weight.shape)) for name, weight in block.named_parameters())
        within |= {id(part): (type(block), weights, path) for path, part in block.named_modules()}
    for part in model.modules():
        for holder in (part._parameters, part._buffers):
            for name, value in list(holder.items()):
                if value is not None:
                    shares = id(part) in within and isinstance(value, nn.Parameter)
                    yield holder, name, value, (within[id(part)], name) if shares else id(value)
