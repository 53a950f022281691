"""Which clips a step learnt from, as one short name: each rank's share in, two numbers to add up, 16 hex digits out.

    slot digest    64 bits of blake2b over the slot, the clip's id, frames, crop, caption and label
    step's digest  their sum over all slots, so it does not matter which rank held which

It is made of a batch's addresses, not of its pixels, and costs microseconds per clip: each row of the ledger has it.
Two runs with the same digests were told the same clips; `batch.batch_digest` compares pixels too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cineray.records import Batch, ClipSpec

_HALF = 1 << 32


def clips_halves(batch: Batch) -> tuple[float, float]:
    """The upper and lower halves of the slots' digests, summed: exact in float64 up to two million clips."""
    words = [_slot_digest(batch.first_slot + b, spec) for b, spec in enumerate(batch.specs)]
    return float(sum(word >> 32 for word in words)), float(sum(word % _HALF for word in words))


def clips_digest(halves: Iterable[float]) -> str:
    """The name of a step's clips, from the halves summed over all ranks."""
    return "".join(f"{int(half) % _HALF:08x}" for half in halves)


def _slot_digest(slot: int, spec: ClipSpec) -> int:
    crop = spec.crop
    place = (crop.top, crop.left, crop.height, crop.width, crop.out_height, crop.out_width, crop.flip)
    border = (crop.pad_top, crop.pad_bottom, crop.pad_left, crop.pad_right)
    told = (slot, spec.clip_id, spec.frame_numbers, spec.frame_is_real, place, border, spec.caption, spec.label)
    return int.from_bytes(hashlib.blake2b(repr(told).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
