"""When each frame of a standardised video is shown, and when it was shown in the source: exactly, in integers.

    kept       source   512 1024 . 2048      every frame, at its own time, moved so that the first is shown at 0
               new        0  512 . 1536
    constant   source   512 1024 . 2048      at even instants, the frame that is on screen then; one may come twice
               new        0  512 1024 1536   and the way back says for each what it was:   512 1024 1024 2048

The way back is part of the lake (`SourceTimes`, layer `source_times`): which video, which time base, and the number and
timestamp that every new frame had in the source. What lies on the source's clock (clips, captions, masks) moves over by
`Moved`.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cineray.decode.reencode import Times
from cineray.errors import LakeError, UsageError
from cineray.records import IndexedVideo

Int64 = npt.NDArray[np.int64]
_MOST_TICKS_PER_SECOND = (1 << 31) - 1
"""MP4 keeps it in 32 bits, and players read those as signed."""


def times_of(video: IndexedVideo, rate: Fraction | None) -> Times:
    """The new times of a video: its own, or those of a constant rate in frames per second."""
    frames, start_seconds = video.frames, video.frames.start_pts * video.time_base
    if rate is None:
        base = Fraction(1, video.time_base.denominator)
        numbers, pts = np.arange(len(frames)), (frames.pts - frames.start_pts) * video.time_base.numerator
        end = (frames.end_pts - frames.start_pts) * video.time_base.numerator
    else:
        base = _common_base(video.time_base, rate)
        step = int(1 / rate / base)
        end = math.ceil((frames.end_pts - frames.start_pts) * video.time_base / base)
        pts = np.arange(0, end, step, dtype=np.int64)
        numbers = frames.shown_at(_floored(pts, base / video.time_base) + frames.start_pts)
    return Times(frame_numbers_T=numbers, pts_T=pts, end_pts=end, time_base=base, start_seconds=start_seconds)


def _common_base(own: Fraction, rate: Fraction) -> Fraction:
    """The largest unit of 1/n s of which both a tick of the source and a frame of the rate are multiples."""
    ticks = math.lcm(own.denominator, rate.numerator)
    if ticks > _MOST_TICKS_PER_SECOND:
        ticks = rate.numerator  # spans of the source are then rounded to this; frames stay exact
    if ticks > _MOST_TICKS_PER_SECOND:
        raise UsageError(f"encoding.rate is {rate} frames/s, which MP4 cannot hold; wanted one like 25 or 30000/1001")
    while ticks < 1000:
        ticks *= 10
    return Fraction(1, ticks)


def _floored(ticks: Int64, factor: Fraction) -> Int64:
    """`ticks * factor`, rounded down, in Python's integers where 64 bits might not hold the product."""
    if len(ticks) and int(ticks[-1]) * factor.numerator < 1 << 62:
        return ticks * factor.numerator // factor.denominator
    return np.array([at * factor.numerator // factor.denominator for at in ticks.tolist()], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceTimes:
    """Where every frame of a standardised video came from: T entries."""

    video_id: str
    """The source's."""
    time_base: Fraction
    """The source's."""
    frame_numbers_T: Int64
    """The source's number of each new frame, in order."""
    pts_T: Int64
    """The source's timestamp of each new frame."""
    encoding: str = ""
    """Names the settings that it was encoded with."""

    @classmethod
    def of(cls, video: IndexedVideo, times: Times, encoding: str) -> SourceTimes:
        """As it follows from what was written."""
        numbers = times.frame_numbers_T
        pts = video.frames.pts[numbers]
        return cls(
            video_id=video.video_id, time_base=video.time_base, frame_numbers_T=numbers, pts_T=pts, encoding=encoding
        )

    def to_json(self) -> str:
        """One layer value. Numbers are runs of [first, step, count], so that an even rate is one run."""
        told = {"video_id": self.video_id, "time_base": f"{self.time_base.numerator}/{self.time_base.denominator}"}
        runs = {"frames": _runs(self.frame_numbers_T), "pts": _runs(self.pts_T), "encoding": self.encoding}
        return json.dumps(told | runs, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> SourceTimes:
        """The inverse; refuses what is no such value."""
        try:
            told: Mapping[str, Any] = json.loads(text)
            numbers, pts = _unrolled(told["frames"]), _unrolled(told["pts"])
            if len(numbers) != len(pts):
                raise ValueError(f"{len(numbers)} frames and {len(pts)} times")
            base, encoding = Fraction(told["time_base"]), told.get("encoding", "")
            return cls(video_id=told["video_id"], time_base=base, frame_numbers_T=numbers, pts_T=pts, encoding=encoding)
        except (ValueError, TypeError, KeyError) as error:
            raise LakeError(f"a row of layers/source_times is damaged ({error!r}); standardise again") from error


def _runs(numbers: Int64) -> list[list[int]]:
    """[first, step, count] for each stretch of even steps, greedily from the front."""
    runs: list[list[int]] = []
    steps = np.diff(numbers)
    ends = np.append(np.flatnonzero(np.diff(steps) != 0) + 1, len(steps))  # of each stretch, its last number
    at = 0
    while at < len(numbers):
        end = int(ends[np.searchsorted(ends, at + 1)]) if at + 1 < len(numbers) else at
        runs.append([int(numbers[at]), int(steps[at]) if end > at else 0, end - at + 1])
        at = end + 1
    return runs


def _unrolled(runs: list[list[int]]) -> Int64:
    parts = [first + step * np.arange(count, dtype=np.int64) for first, step, count in runs]
    return np.concatenate([np.zeros(0, np.int64), *parts])


@lru_cache(maxsize=64)
def _times_from(packed: bytes) -> SourceTimes:
    return SourceTimes.from_json(zlib.decompress(packed).decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """How instants and frames of a source lie in its standardised video. Small: a lake's worth of them is held."""

    video_id: str
    """The new video's."""
    source_start_pts: int
    source_end_pts: int
    source_base: Fraction
    new_base: Fraction
    new_end_pts: int
    source_size: tuple[int, int]
    """Width and height of the upright source, in which boxes and masks are drawn."""
    new_size: tuple[int, int]
    packed_times: bytes
    """`SourceTimes` as JSON, compressed: an uneven rate has a run for every few frames."""

    @property
    def source_times(self) -> str:
        """`SourceTimes` as JSON."""
        return zlib.decompress(self.packed_times).decode()

    def instant(self, pts: int) -> int:
        """The same instant on the new clock: exact where the new time base holds it, else the nearest tick."""
        if pts >= self.source_end_pts:
            return self.new_end_pts
        at = round((pts - self.source_start_pts) * self.source_base / self.new_base)
        return min(max(0, at), self.new_end_pts)

    def span(self, start_pts: int, end_pts: int) -> tuple[int, int]:
        """The same stretch of time, and at least one tick of it."""
        start = min(self.instant(start_pts), self.new_end_pts - 1)
        return start, max(start + 1, self.instant(end_pts))

    def frame(self, number: int) -> int | None:
        """The first new frame that shows this frame of the source; None where none does."""
        numbers = _times_from(self.packed_times).frame_numbers_T
        at = int(np.searchsorted(numbers, number))
        return at if at < len(numbers) and int(numbers[at]) == number else None
