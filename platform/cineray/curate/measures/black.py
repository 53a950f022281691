"""Black parts: small pictures of every frame go in; which part of the time is black, and when, leaves.

A frame is black when all but its brightest fiftieth is: a hot pixel or a small logo on black is still black, and a dark
room is not, because something in it is brighter than black.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cineray.curate.footage import Footage
from cineray.curate.spans import share_of_time, spans_of
from cineray.curate.stage import Columns, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Black:
    """`black_fraction` of the time, and `black_spans` of at least `least_seconds`."""

    name: ClassVar[str] = "black"
    version: ClassVar[int] = 1
    gives: ClassVar[Mapping[str, type]] = {"black_fraction": float, "black_spans": list}
    level: float = 24.0
    """Grey level of 255 up to which a picture is black; noise and codecs lift true black to some 10."""
    share: float = 0.98
    """Which part of the picture must be that dark."""
    least_seconds: float = 0.1

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        end_pts = footage.end_pts
        flat_TP = footage.gray_THW.reshape(len(footage.gray_THW), -1)
        black_T = np.asarray((flat_TP <= self.level).mean(axis=1) >= self.share)
        least_ticks = self.least_seconds / float(footage.video.time_base)
        spans = spans_of(black_T, footage.pts_T, end_pts, least_ticks)
        return {
            "black_fraction": share_of_time(black_T, footage.pts_T, end_pts),
            "black_spans": [Span(*span, "black") for span in spans],
        }
