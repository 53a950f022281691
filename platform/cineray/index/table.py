"""Packets in; a `FrameTable` out: what is shown, in the order in which it is shown, and for how long.

    decode order    packet  0   1   2   3           I P B B
                    pts     0 1536 512 1024
    display order   frame   0   1   2   3           sorted by pts
                    packet  0   2   3   1

Where the container gives no duration, a frame lasts until the next begins, and the last as long as the median frame.
Of frames that claim the same instant the first decoded is kept and the others count as hidden: a viewer sees one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cineray.index.packets import NO_TIME, Packets
from cineray.index.reasons import Unfit
from cineray.records import FrameTable

_MOST_REORDERED = 32
Int64 = npt.NDArray[np.int64]


def times_are_missing(packets: Packets) -> bool:
    """True when a shown packet has no pts, so that only a decoder can tell when its frame is shown."""
    return bool(np.any(packets.pts[packets.shown] == NO_TIME))


def frame_table(packets: Packets, *, shown: Int64 | None = None, pts: Int64 | None = None) -> FrameTable:
    """The table of all shown packets; `shown` and `pts` override which packets those are, and when."""
    if shown is None:
        shown = np.flatnonzero(packets.shown)
    times = packets.pts[shown] if pts is None else pts
    if len(shown) == 0:
        raise Unfit("no_frames", f"none of the {len(packets)} packets of the video stream is shown; leave the file out")
    if np.any(times == NO_TIME):
        raise Unfit(
            "bad_timestamps",
            "some frames have no time at all; remux the file: ffmpeg -fflags +genpts -i in -c copy out.mkv",
        )
    first = np.lexsort((shown, times))
    _refuse_jumps(first)
    shown, times = shown[first], times[first]
    distinct = np.concatenate([[True], np.diff(times) > 0])
    shown, times = shown[distinct], times[distinct]
    return FrameTable(
        pts=times,
        duration=_durations(times, packets.duration[shown]),
        decode_order=shown.astype(np.int32),
        key=packets.key[shown],
        disposable=packets.disposable[shown],
        position=packets.position[shown],
        size_bytes=packets.size[shown].astype(np.int32),
        hidden_packets=len(packets) - len(shown),
    )


def _refuse_jumps(order: Int64) -> None:
    """Codecs reorder by 16 frames at most (32 fields). Times that jump back further are two recordings in one file."""
    moved = np.abs(order - np.arange(len(order)))
    if len(order) and int(moved.max()) > _MOST_REORDERED:
        packet = int(order[moved.argmax()])
        raise Unfit(
            "bad_timestamps",
            f"the times jump back near packet {packet}, as where two recordings were joined: a frame would move by "
            f"{int(moved.max())} places; cut the file there, or give it new times: ffmpeg -i in -c:v libx264 out.mp4",
        )


def _durations(pts: Int64, given: Int64) -> Int64:
    missing = given <= 0
    if not missing.any():
        return given
    gaps = np.diff(pts)
    typical = int(np.median(gaps)) if len(gaps) else 1
    until_next = np.append(gaps, max(typical, 1))
    return np.where(missing, until_next, given)


def rate_varies(pts: Int64) -> bool:
    """False when the times fit one constant rate: exactly, or to one tick's rounding where a frame lasts 4 ticks or
    more.

    Matroska's milliseconds show 30 frames/s as steps of 33 and 34: that is one rate, rounded. A dropped frame is not:
    it moves the frames around it by at least half a frame against the straight line from the first to the last.
    """
    n = len(pts)
    if n < 3:
        return False
    span = int(pts[-1] - pts[0])
    # In exact integers: n - 1 times the distance of each frame from where the constant rate would put it.
    off = np.abs((pts - pts[0]).astype(object) * (n - 1) - np.arange(n, dtype=np.int64).astype(object) * span)
    allowed = n - 1 if span >= 4 * (n - 1) else 0
    return bool(max(off) > allowed)
