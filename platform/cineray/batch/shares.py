"""From the whole batch of a step to the ranks' shares and back, by slot. Shares are views; joining them copies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cineray.errors import UsageError
from cineray.records import Batch, StoredLatents


def take_slots(batch: Batch, start: int, stop: int) -> Batch:
    """The clips of the global slots `start .. stop`, as views. What decoding cost is told by the first slot's share."""
    low, high = start - batch.first_slot, stop - batch.first_slot
    if not 0 <= low < high <= len(batch.specs):
        held = f"{batch.first_slot} to {batch.first_slot + len(batch.specs)}"
        raise UsageError(f"step {batch.step}: slots {start} to {stop} are asked of a batch that holds {held}")
    return Batch(
        step=batch.step,
        first_slot=start,
        global_size=batch.global_size,
        frames_BTHWC=batch.frames_BTHWC[frames_row(batch, low) : frames_row(batch, high)],
        frame_is_real_BT=batch.frame_is_real_BT[low:high],
        seconds_BT=batch.seconds_BT[low:high],
        start_seconds_B=batch.start_seconds_B[low:high],
        specs=batch.specs[low:high],
        substitutions=tuple(s for s in batch.substitutions if start <= s.slot < stop),
        frames_decoded=batch.frames_decoded if low == 0 else 0,
        latents=None
        if batch.latents is None
        else StoredLatents(
            values_BCTHW=batch.latents.values_BCTHW[low:high], is_here_B=batch.latents.is_here_B[low:high]
        ),
    )


def frames_row(batch: Batch, number: int) -> int:
    """Where the pixels of the batch's clips from `number` on begin: clips whose latents are here have none."""
    return number if batch.latents is None else number - int(batch.latents.is_here_B[:number].sum())


def split(batch: Batch, world: int) -> list[Batch]:
    """The shares of `world` ranks: rank r takes the global slots B*r//w .. B*(r+1)//w, as the plan does.

    Only a whole batch can be split, and only among as many ranks as it has clips.
    """
    size = batch.global_size
    if len(batch.specs) != size or not 1 <= world <= size:
        raise UsageError(
            f"step {batch.step}: {len(batch.specs)} of {size} clips cannot be split among {world} ranks; wanted the "
            "whole batch, and at least one clip for each rank"
        )
    return [take_slots(batch, size * rank // world, size * (rank + 1) // world) for rank in range(world)]


def concat(batches: Sequence[Batch]) -> Batch:
    """Neighbouring shares of one step, in any order, as one batch."""
    shares = sorted(batches, key=lambda share: share.first_slot)
    if not shares:
        raise UsageError("concat: no batches were given; wanted at least one")
    for before, after in pairwise(shares):
        if (before.step, before.global_size) != (after.step, after.global_size):
            raise UsageError(f"concat: shares of step {before.step} and step {after.step} are not one batch")
        if before.first_slot + len(before.specs) != after.first_slot:
            raise UsageError(
                f"concat: slot {before.first_slot + len(before.specs)} of step {before.step} is missing or doubled"
            )
    return Batch(
        step=shares[0].step,
        first_slot=shares[0].first_slot,
        global_size=shares[0].global_size,
        frames_BTHWC=np.concatenate([share.frames_BTHWC for share in shares]),
        frame_is_real_BT=np.concatenate([share.frame_is_real_BT for share in shares]),
        seconds_BT=np.concatenate([share.seconds_BT for share in shares]),
        start_seconds_B=np.concatenate([share.start_seconds_B for share in shares]),
        specs=tuple(spec for share in shares for spec in share.specs),
        substitutions=tuple(s for share in shares for s in share.substitutions),
        frames_decoded=sum(share.frames_decoded for share in shares),
        latents=_join_latents(shares),
    )


def _join_latents(shares: Sequence[Batch]) -> StoredLatents | None:
    """A share of which the store had nothing has no array of latents: its clips get zeros."""
    known = next((share.latents.values_BCTHW for share in shares if share.latents is not None), None)
    if known is None:
        return None
    values = [
        np.zeros((len(share.specs), *known.shape[1:]), known.dtype)
        if share.latents is None
        else share.latents.values_BCTHW
        for share in shares
    ]
    here = [np.zeros(len(s.specs), np.bool_) if s.latents is None else s.latents.is_here_B for s in shares]
    return StoredLatents(values_BCTHW=np.concatenate(values), is_here_B=np.concatenate(here))
