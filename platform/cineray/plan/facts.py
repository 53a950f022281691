"""What is known of clip rows before any is drawn: one row (`CatalogClip`), or all of them in columns (`ClipFacts`).

The columns are few integers a row, so that a catalog can have them from its tables' columns alone: of a row that is a
whole video, the number of frames, the length and the geometry. Modes that look inside (`keyframes`, `scene`) need the
frame tables once; `facts_of` makes the columns from those.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cineray.plan.samplers import Sampler
from cineray.plan.spatial import display_size
from cineray.plan.stretch import stretch_of
from cineray.records import IndexedVideo

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogClip:
    """A clip row: a span of one video, and what is said of it."""

    clip_id: str
    video_id: str
    start_pts: int
    end_pts: int
    """Half-open: `[start_pts, end_pts)` in the video's time base."""
    label: str | None = None
    captions: tuple[str, ...] = ()
    cuts_pts: tuple[int, ...] = ()
    """When new scenes begin; only sampling mode `scene` looks."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipFacts:
    """Columns of equal length, one entry per clip row, in the rows' order."""

    room_frames: Ints
    """Frames of the longest room (`Sampler.rooms`): all that begin within the span, unless the mode looks inside."""
    room_ticks: Ints
    """How long that room is, in the time base."""
    span_ticks: Ints
    """How long the span is."""
    time_base_num: Ints
    time_base_den: Ints
    display_width: Ints
    """Upright (after rotation), in square pixels: `spatial.display_size`."""
    display_height: Ints
    label: npt.NDArray[np.object_] | None = None
    """Text or None; only `balance: label` looks."""
    captioned: npt.NDArray[np.bool_] | None = None
    """Whether it has a caption; only `balance: caption` looks."""

    def __len__(self) -> int:
        return len(self.room_frames)


def facts_of(sampler: Sampler, rows: Iterable[tuple[CatalogClip, IndexedVideo]]) -> ClipFacts:
    """The columns of these rows, from their frame tables."""
    numbers: list[tuple[int, ...]] = []
    labels: list[str | None] = []
    captioned: list[bool] = []
    for clip, video in rows:
        span = stretch_of(video, clip.start_pts, clip.end_pts)
        room = max(sampler.rooms(span, clip.cuts_pts), key=sampler.holds)
        base = video.time_base
        size = display_size(video)
        numbers.append((room.num_frames, room.ticks, span.ticks, base.numerator, base.denominator, *size))
        labels.append(clip.label)
        captioned.append(bool(clip.captions))
    columns: list[Any] = list(np.array(numbers, dtype=np.int64).reshape(-1, 7).T)
    return ClipFacts(
        room_frames=columns[0],
        room_ticks=columns[1],
        span_ticks=columns[2],
        time_base_num=columns[3],
        time_base_den=columns[4],
        display_width=columns[5],
        display_height=columns[6],
        label=np.array(labels, dtype=object),
        captioned=np.array(captioned, dtype=bool),
    )
