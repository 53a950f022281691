"""What a model is given of a batch: a `Batch` goes in, tensors come out, cut into micro-batches, ready for a device.

Frames travel as the bytes that they are and become numbers on the device. Every clip carries its global slot, which is
the address of its noise, and a weight: 0 for a clip that only fills a micro-batch up, so that all micro-batches of a
step have one size (one compiled graph), and each process has as many of them as the others (no collective waits).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from cineray.errors import UsageError
from cineray.records import Batch
from cineray.train.config import accumulation
from cineray.train.latents import to_tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Some clips of one step. B clips, T frames, H x W pixels, C channels."""

    slots_B: Tensor
    """int64: their places in the global batch."""
    weight_B: Tensor
    """float32: 1, or 0 for a clip that is there a second time and must not count."""
    seconds_BT: Tensor
    """float32: each frame's time since the clip's first."""
    frame_is_real_BT: Tensor
    """bool."""
    frames_BTHWC: Tensor | None = None
    """uint8 pixels; None where there are latents instead."""
    latents_BCTHW: Tensor | None = None
    """What an autoencoder made of them before; their times and masks are those of the frames."""
    class_B: Tensor | None = None
    """int64."""
    captions: tuple[str | None, ...] = ()
    """One per clip, or none at all."""
    count: int
    """How many clips count: the first so many. The host must know it without asking a GPU."""

    def __len__(self) -> int:
        return len(self.slots_B)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Inputs:
        """The same on another device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pinned(self) -> Inputs:
        """A copy in memory that a GPU can read by itself."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    def cut(self, start: int, stop: int, size: int) -> Inputs:
        """Clips start to stop, filled up to `size` with the first clip at weight 0."""
        if (start, stop, size) == (0, len(self), len(self)):
            return self
        kept = torch.arange(start, stop)
        index = torch.cat([kept, torch.zeros(size - len(kept), dtype=torch.int64)])
        part = self._mapped(lambda tensor: tensor[index] if size > stop - start else tensor[start:stop])
        weight_B = part.weight_B.clone()
        weight_B[stop - start :] = 0
        captions = tuple(self.captions[at] for at in index.tolist()) if self.captions else ()
        return replace(part, weight_B=weight_B, captions=captions, count=stop - start)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors: dict[str, Any] = {name: change(value) for name, value in told.items() if isinstance(value, Tensor)}
        return replace(self, **tensors)


def inputs_of(batch: Batch, *, class_ids: Mapping[str, int] | None = None, captions: bool = False) -> Inputs:
    """A batch as tensors in main memory; pixels share the batch's own. It has pixels of all its clips, or latents."""
    if batch.latents is not None and not batch.latents.is_here_B.all():
        raise UsageError(
            f"step {batch.step} has latents of some of its clips only; let it pass through RunLatents.batches, which "
            "encodes the others"
        )
    with warnings.catch_warnings():
        # Ray's shared memory is read-only; nothing here writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        frames_BTHWC = torch.from_numpy(batch.frames_BTHWC)
        frame_is_real_BT = torch.from_numpy(batch.frame_is_real_BT)
        seconds_BT = torch.from_numpy(batch.seconds_BT).float()
    count = len(batch.specs)
    return Inputs(
        count=count,
        slots_B=torch.arange(batch.first_slot, batch.first_slot + count),
        weight_B=torch.ones(count),
        seconds_BT=seconds_BT,
        frame_is_real_BT=frame_is_real_BT,
        frames_BTHWC=frames_BTHWC if batch.latents is None else None,
        latents_BCTHW=to_tensor(batch.latents.values_BCTHW) if batch.latents is not None else None,
        class_B=_classes(batch, class_ids) if class_ids is not None else None,
        captions=tuple(spec.caption for spec in batch.specs) if captions else (),
    )


def _classes(batch: Batch, class_ids: Mapping[str, int]) -> Tensor:
    """Each clip's class; a clip without a label is of none, a label that nobody knows is a mistake."""
    unknown = sorted({spec.label for spec in batch.specs if spec.label is not None} - class_ids.keys())
    if unknown:
        raise UsageError(
            f"step {batch.step}: clips have the label {unknown[0]!r}, which is none of the job's {len(class_ids)} "
            "classes; add it to `classes`, or leave such clips out by recipe.datasets.N.filter"
        )
    none = len(class_ids)
    return torch.tensor([none if spec.label is None else class_ids[spec.label] for spec in batch.specs])


def micro_batches(inputs: Inputs, *, largest_share: int, micro_batch: int | None) -> list[Inputs]:
    """A process's share in parts: as many, and as large, on every process of the step."""
    parts = accumulation(largest_share, micro_batch)
    size = -(-largest_share // parts)
    if parts == 1 and micro_batch is None:
        size = len(inputs)
    starts = [len(inputs) * part // parts for part in range(parts + 1)]
    return [inputs.cut(start, stop, size) for start, stop in pairwise(starts)]
