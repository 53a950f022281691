"""Which packets must go through a decoder to show some frames. A frame table and frame numbers in, runs out; pure
arithmetic, no video is opened.

    packets      K . . . . . . . . . K . . . . . . . . .       K: a key frame
    wanted             w   w                   w w
    runs         [---------]         [---------]               from the nearest key frame that serves to the last wanted

A key frame serves a frame that is neither stored nor shown before it. A frame that is stored after a key frame and
shown before it (an open group of pictures) may refer to what lies before, so it is served by the key frame before that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cineray.records import FrameTable

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Consecutive packets, by their numbers in decode order, `first .. last` (both decoded)."""

    key_frame: int
    """The frame number of the key frame that it begins with; -1: it begins at the stream's first packet."""
    first: int
    last: int
    wanted: tuple[int, ...]
    """The frames that it is for, in display order."""


def runs_for(table: FrameTable, frames: Iterable[int], *, keys_back: int = 0, no_keys: Iterable[int] = ()) -> list[Run]:
    """The fewest runs that show these frames, in decode order.

    `keys_back`: begin that many key frames earlier. `no_keys`: frames that are called key frames and are none.
    """
    numbers = np.unique(np.fromiter(frames, np.int64))
    if len(numbers) == 0:
        return []
    if numbers[0] < 0 or numbers[-1] >= len(table):
        raise ValueError(f"frames {numbers[0]} to {numbers[-1]} are asked of a video that has {len(table)}")
    keys = np.setdiff1d(np.flatnonzero(table.key), np.fromiter(no_keys, np.int64))
    starts = _serving_keys(table, numbers, keys, keys_back)
    first = np.where(starts >= 0, table.decode_order[starts].astype(np.int64), 0)
    last = table.decode_order[numbers].astype(np.int64)
    order = np.lexsort((last, first))
    return _merged(numbers[order], starts[order], first[order], last[order])


def _serving_keys(table: FrameTable, numbers: Int64, keys: Int64, keys_back: int) -> Int64:
    """For each frame, the last key frame that is neither stored nor shown after it; -1 where there is none."""
    keys = keys[np.argsort(table.decode_order[keys], kind="stable")]
    if len(keys) == 0:
        return np.full(len(numbers), -1, np.int64)
    stored = np.searchsorted(table.decode_order[keys], table.decode_order[numbers], side="right") - 1
    at = np.array([_shown_no_later(keys, int(i), int(n)) for i, n in zip(stored, numbers, strict=True)], np.int64)
    at -= keys_back
    return np.where(at >= 0, keys[np.maximum(at, 0)], -1)


def _shown_no_later(keys: Int64, at: int, number: int) -> int:
    """Step back from key `at` until it is shown no later than the frame; frame numbers are in display order."""
    while at >= 0 and keys[at] > number:
        at -= 1
    return at


def _merged(numbers: Int64, starts: Int64, first: Int64, last: Int64) -> list[Run]:
    """Join runs that begin inside each other: those packets are decoded only once."""
    reach = np.maximum.accumulate(last)
    begins = np.flatnonzero(np.concatenate([[True], first[1:] > reach[:-1]]))
    groups = np.split(np.arange(len(numbers)), begins[1:])
    return [
        Run(
            key_frame=int(starts[group[0]]),
            first=int(first[group[0]]),
            last=int(reach[group[-1]]),
            wanted=tuple(np.sort(numbers[group]).tolist()),
        )
        for group in groups
    ]
