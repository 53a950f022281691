"""From scenes to clips: a video's frame table and its scenes go in; the spans that may become clips leave.

    scenes    [--------)[---------------)[-)
    clips     [--------)[-------)[------)[-)      longest_seconds divides the second into parts of whole frames

Spans are pts of frames, half-open. All frames of a scene lie in one of its clips: nothing is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from cineray.curate.config import CutsConfig
from cineray.curate.stage import Span
from cineray.records import FrameTable, Scalar


@dataclass(frozen=True, slots=True)
class Draft:
    """A span that may become a clip."""

    video: int
    """Which of the videos, by its place among them."""
    start_pts: int
    end_pts: int
    frames: int
    begins: Scalar
    """How it begins: as its scene (`start`, `cut`, `fade`, ...), or `divided`."""


def drafts_of(
    video: int, table: FrameTable, time_base: Fraction, scenes: Sequence[Span], cuts: CutsConfig
) -> Iterator[Draft]:
    """The spans of one video, in order; without scenes the whole video is one."""
    if not len(table):
        return  # a remote file of which only the header was read
    for start, end, begins in scenes or [Span(table.start_pts, table.end_pts, "start")]:
        first, past = (int(n) for n in np.searchsorted(table.pts, [start, end]))
        if first == past:
            continue  # a scene without a frame: the list of scenes is of another file
        parts = _parts(table, time_base, first, past, cuts)
        for number, (at, stop) in enumerate(pairwise(parts)):
            stop_pts = end if stop == past else int(table.pts[stop])
            yield Draft(video, int(table.pts[at]), stop_pts, stop - at, "divided" if number else begins)


def _parts(table: FrameTable, time_base: Fraction, first: int, past: int, cuts: CutsConfig) -> list[int]:
    """Frame numbers at which the parts of a scene begin, and where the last one ends."""
    end_pts = int(table.pts[past]) if past < len(table) else table.end_pts
    seconds = (end_pts - int(table.pts[first])) * time_base
    if cuts.longest_seconds is None or seconds <= cuts.longest_seconds:
        return [first, past]
    count = math.ceil(seconds / Fraction(cuts.longest_seconds))
    while True:
        edges = sorted({first + (past - first) * part // count for part in range(count + 1)})
        ends = [*(int(table.pts[edge]) for edge in edges[:-1]), end_pts]
        longest = max(b - a for a, b in pairwise(ends)) * time_base
        # Equal numbers of frames are unequal times where the rate varies: a few parts more, until all are short enough.
        if longest <= cuts.longest_seconds or len(edges) > past - first:
            return edges
        count += 1
