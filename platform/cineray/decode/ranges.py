"""Which bytes of a video a decoder will ask for. An index and frame numbers in; byte ranges out, no request made.

The packets of each run (`runs.py`) lie at positions that the index knows. Packets that lie close together are read in
one piece, sound and all in between; but never so much of that that more than half of what is read is of no use.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from cineray.decode.runs import runs_for
from cineray.records import FrameTable, IndexedVideo

GAP_BYTES = 64 << 10
"""What a request costs, in bytes: about what a store sends in the time that an answer takes to begin."""

Range = tuple[int, int]
_AROUND = {"matroska": (512, 512), "webm": (512, 512)}
"""Bytes before and after packets that a demuxer looks at as well: a cluster's head, the beginning of what follows."""
Int64 = npt.NDArray[np.int64]


def ranges_for(video: IndexedVideo, frames: Iterable[int], *, gap_bytes: int = GAP_BYTES) -> list[Range]:
    """Half-open ranges of the video's bytes, in order; empty where the container does not say where packets lie."""
    table = video.frames
    in_decode_order = np.argsort(table.decode_order, kind="stable")
    stored = table.decode_order[in_decode_order]
    needed: list[Int64] = []
    for run in runs_for(table, frames):
        low, high = np.searchsorted(stored, [run.first, run.last + 1])
        needed.append(in_decode_order[low:high])
    packets = np.unique(np.concatenate(needed)) if needed else np.empty(0, np.int64)
    if len(packets) == 0 or bool(np.any(table.position[packets] < 0)):
        return []
    starts, stops = _spans(table, packets)
    before, after = _AROUND.get(video.container, (0, 0))
    starts, stops = np.maximum(starts - before, 0), np.minimum(stops + after, video.size_bytes)
    return _joined(starts, stops, gap_bytes)


def _spans(table: FrameTable, packets: Int64) -> tuple[Int64, Int64]:
    order = np.argsort(table.position[packets], kind="stable")
    starts = table.position[packets][order]
    return starts, starts + table.size_bytes[packets][order]


def _joined(starts: Int64, stops: Int64, gap_bytes: int) -> list[Range]:
    """Join across the smallest gaps first, as long as the gaps together are no more than the packets plus one gap."""
    stops = np.maximum.accumulate(stops)
    gaps = starts[1:] - stops[:-1]
    smallest_first = np.argsort(gaps, kind="stable")
    spent = np.cumsum(np.maximum(gaps[smallest_first], 0))
    affordable = int((stops - starts).sum()) + gap_bytes
    join = np.zeros(len(gaps), np.bool_)
    join[smallest_first] = (gaps[smallest_first] <= gap_bytes) & (spent <= affordable)
    begins = np.concatenate([[True], ~join])
    ends = np.concatenate([~join, [True]])
    return list(zip(starts[begins].tolist(), stops[ends].tolist(), strict=True))
