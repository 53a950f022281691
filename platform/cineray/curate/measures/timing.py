"""Timing faults: the frame table goes in; gaps, rushes and drift leave. No picture is looked at.

    pts   0 2 4 6 . . 12 14     a gap: the wait for a frame is longer than `gap` times the usual one
    pts   0 2 4 5 6 8           a rush: shorter than `rush` of the usual one
    drift                       how far frames stray from an even beat, the gaps left out, and how far the sound's
                                length is from the pictures'

The usual wait is the median. A video of variable rate has gaps by right; `timing_gaps` tells how many, and a rule may
look at `variable_rate` beside it. What is shown twice is measured where pictures are: `still_repeated_fraction`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cineray.curate.footage import Footage
from cineray.curate.stage import Columns, Span
from cineray.records import IndexedVideo


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """`timing_gaps`, `timing_longest_gap_seconds`, `timing_rushes`, `timing_drift_seconds`, `timing_sound_seconds`."""

    name: ClassVar[str] = "timing"
    version: ClassVar[int] = 1
    gives: ClassVar[Mapping[str, type]] = {
        "timing_gaps": int,
        "timing_rushes": int,
        "timing_longest_gap_seconds": float,
        "timing_drift_seconds": float,
        "timing_sound_seconds": float,
        "timing_gap_spans": list,
    }
    gap: float = 1.6
    rush: float = 0.6

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        pts_T, base = footage.video.frames.pts, footage.video.time_base
        wait_P = np.diff(pts_T)
        if not len(wait_P):
            return {
                "timing_gaps": 0,
                "timing_rushes": 0,
                "timing_longest_gap_seconds": 0.0,
                "timing_drift_seconds": 0.0,
                "timing_sound_seconds": sound_minus_pictures(footage.video),
                "timing_gap_spans": [],
            }
        usual = float(np.median(wait_P))
        # One tick is the grid's own rounding, not a fault: 30 frames a second in milliseconds are 33, 33, 34.
        long_P = (wait_P > self.gap * usual) & (wait_P > usual + 1)
        short_P = (wait_P < self.rush * usual) & (wait_P < usual - 1)
        spans = [Span(int(pts_T[at]), int(pts_T[at + 1]), "gap") for at in np.flatnonzero(long_P)]
        return {
            "timing_gaps": int(long_P.sum()),
            "timing_rushes": int(short_P.sum()),
            "timing_longest_gap_seconds": float(max((wait_P[long_P] - usual).tolist(), default=0) * base),
            "timing_drift_seconds": off_the_beat(wait_P, long_P, usual) * float(base),
            "timing_sound_seconds": sound_minus_pictures(footage.video),
            "timing_gap_spans": spans,
        }


def off_the_beat(wait_P: npt.NDArray[np.int64], long_P: npt.NDArray[np.bool_], usual: float) -> float:
    """Ticks between the straight line from first to last frame and the frame that strays furthest; gaps are closed."""
    at_T = np.concatenate([[0.0], np.cumsum(np.where(long_P, usual, wait_P))])
    line_T = np.linspace(0.0, at_T[-1], len(at_T))
    return float(np.abs(at_T - line_T).max())


def sound_minus_pictures(video: IndexedVideo) -> float | None:
    """By how much the first sound outlasts the pictures, in seconds; None without sound, or where nobody says."""
    for stream in video.audio:
        if stream.duration_pts is not None:
            return float(stream.duration_pts * stream.time_base - video.duration_seconds)
    return None
