"""A stretch of one video that a clip may be taken from: a run of frames, and the time that they are on screen.

A clip row's span `[start_pts, end_pts)` and the video's FrameTable go in; the frames that begin within the span come
out. So whatever instant of the stretch is asked for, the frame shown then lies within it, and a cut is never crossed.

    frames       4     5     6     7        pts 400 500 600 700, each on screen for 100
    span           [-----------)            [450, 650)
    stretch            [5    6 )            frames [5, 7), time [500, 650)
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from cineray.records import FrameTable, IndexedVideo


class Stretch(NamedTuple):
    """Frames `[first, stop)` of a table, on screen during `[start_pts, end_pts)`."""

    table: FrameTable
    time_base: Fraction
    first: int
    stop: int
    start_pts: int
    end_pts: int

    @property
    def num_frames(self) -> int:
        """How many frames begin within it."""
        return self.stop - self.first

    @property
    def ticks(self) -> int:
        """How long it is on screen, in the time base."""
        return self.end_pts - self.start_pts

    def part(self, start_pts: int, end_pts: int) -> Stretch:
        """What of it begins within `[start_pts, end_pts)`."""
        pts = self.table.pts
        first = max(self.first, int(np.searchsorted(pts, start_pts, side="left")))
        stop = max(first, min(self.stop, int(np.searchsorted(pts, end_pts, side="left"))))
        begins = int(pts[first]) if first < stop else end_pts
        return Stretch(self.table, self.time_base, first, stop, begins, max(begins, min(self.end_pts, end_pts)))

    def from_frame(self, number: int) -> Stretch:
        """What of it begins with frame `number` or later."""
        return Stretch(self.table, self.time_base, number, self.stop, int(self.table.pts[number]), self.end_pts)

    def times_of(self, numbers: list[int]) -> list[int]:
        """When these frames begin."""
        times: list[int] = self.table.pts[numbers].tolist()
        return times

    def frames_at(self, instants: list[int]) -> list[int]:
        """The frames on screen at these instants of the stretch."""
        shown: list[int] = self.table.shown_at(np.array(instants, dtype=np.int64)).tolist()
        return shown


def stretch_of(video: IndexedVideo, start_pts: int, end_pts: int) -> Stretch:
    """The stretch of a clip row's span; empty when no frame begins within it."""
    table = video.frames
    if not len(table):
        return Stretch(table, video.time_base, 0, 0, start_pts, start_pts)
    begins, ends = table.start_pts, table.end_pts
    whole = Stretch(table, video.time_base, 0, len(table), begins, ends)
    return whole if start_pts <= begins and ends <= end_pts else whole.part(start_pts, end_pts)
