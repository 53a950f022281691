"""What a step's batch contains, as one name. The shares of all ranks in; 64 hex digits out, the same for every number
of ranks and every way of decoding that gives the same bytes.

    slot digest   sha256 of the slot's frames, mask, times, start, caption and label, each with its name and shape
    batch digest  sha256 of the format's name, the number of slots, and the slot digests in the order of the slots

Each slot is hashed on its own, so it does not matter which rank held it; the step's number is not part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from cineray.batch.shares import frames_row
from cineray.errors import UsageError
from cineray.records import Batch

FORMAT = b"cineray-batch-1"


def batch_digest(batches: Iterable[Batch]) -> str:
    """The name of the global batch, from the shares of all its ranks in any order."""
    shares = list(batches)
    sizes = {(share.step, share.global_size) for share in shares}
    if len(sizes) != 1:
        raise UsageError(f"shares of one step are wanted; these are of (step, global size) {sorted(sizes)}")
    step, size = sizes.pop()
    slots = {share.first_slot + b: slot_digest(share, b) for share in shares for b in range(len(share.specs))}
    held = sum(len(share.specs) for share in shares)
    if held != size or sorted(slots) != list(range(size)):
        raise UsageError(
            f"step {step} has slots 0 to {size - 1}, and these {len(shares)} shares hold {held}: {_spans(slots)}; "
            "hand over the shares of all ranks, each once"
        )
    whole = hashlib.sha256(FORMAT + size.to_bytes(8, "little"))
    for slot in range(size):
        whole.update(slots[slot])
    return whole.hexdigest()


def slot_digest(batch: Batch, b: int) -> bytes:
    """The digest of the batch's b-th clip."""
    digest = hashlib.sha256()
    if batch.latents is not None and batch.latents.is_here_B[b]:
        # Pixels that nobody decoded have no hash: such a batch is another than the same with pixels.
        _add(digest, "latents_CTHW", batch.latents.values_BCTHW[b])
    else:
        _add(digest, "frames_THWC", batch.frames_BTHWC[frames_row(batch, b)])
    _add(digest, "frame_is_real_T", batch.frame_is_real_BT[b])
    _add(digest, "seconds_T", batch.seconds_BT[b])
    _add(digest, "start_seconds", batch.start_seconds_B[b : b + 1])
    for name, text in (("caption", batch.specs[b].caption), ("label", batch.specs[b].label)):
        data = b"" if text is None else b"=" + text.encode("utf-8", "surrogateescape")
        digest.update(f"{name}:{len(data)}:".encode() + data)
    return digest.digest()


def _add(digest: hashlib._Hash, name: str, array: npt.NDArray[np.generic]) -> None:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest.update(f"{name}:{little.dtype.str}:{little.shape}:".encode())
    digest.update(little.data)


def _spans(slots: Iterable[int]) -> str:
    held = sorted(slots)
    return f"{held[0]} to {held[-1]}, {len(held)} of them" if held else "none"
