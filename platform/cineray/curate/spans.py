"""From frames to time: a flag per frame and the frames' instants go in; spans of pts and shares of time leave.

    pts       0   2   4   6   8        end_pts = 10
    flag      .   x   x   .   x        spans: [2, 6) and [8, 10); share of time: 0.6

A frame is on screen until the next one begins, so a long frame of variable rate counts for as long as it is seen.
Spans are half-open; nothing here knows of frame rates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Ticks = npt.NDArray[np.int64]


def shown_ticks(pts_T: Ticks, end_pts: int) -> Ticks:
    """For how long each frame is on screen, in the video's time base."""
    return np.diff(np.append(pts_T, max(end_pts, int(pts_T[-1]) + 1)))


def share_of_time(flag_T: Flags, pts_T: Ticks, end_pts: int) -> float:
    """Which part of the time the flag is true, 0 to 1."""
    ticks_T = shown_ticks(pts_T, end_pts)
    return float(ticks_T[flag_T].sum() / ticks_T.sum())


def runs(flag_T: Flags) -> list[tuple[int, int]]:
    """Maximal runs of true, as half-open frame numbers."""
    edge = np.flatnonzero(np.diff(np.concatenate([[False], flag_T, [False]]).astype(np.int8)))
    return [(int(first), int(past)) for first, past in edge.reshape(-1, 2)]


def spans_of(flag_T: Flags, pts_T: Ticks, end_pts: int, least_ticks: float) -> list[tuple[int, int]]:
    """From when to when the flag is true, each at least so long."""
    found = [pts_of_run(run, pts_T, end_pts) for run in runs(flag_T)]
    return [(start, end) for start, end in found if end - start >= least_ticks]


def pts_of_run(run: tuple[int, int], pts_T: Ticks, end_pts: int) -> tuple[int, int]:
    """From when its first frame is seen until its last is no longer."""
    first, past = run
    return int(pts_T[first]), int(pts_T[past]) if past < len(pts_T) else max(end_pts, int(pts_T[-1]) + 1)
