"""What stages look at: one video, decoded once, kept small. What a decoder saw goes in; a `Footage` leaves.

T frames (all of them, in display order), N of these larger, H x W pixels. Pictures are grey, full range (0 black, 255
white), upright, and area-averaged, so that a thin line weighs what it covers. Times are the index's own integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from cineray.index.footage import Seen
from cineray.records import IndexedVideo, Scalar


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Footage:
    """One video looked at once: every frame small, a few larger, and its sound. What stages need, and nothing else."""

    video: IndexedVideo
    """Geometry, time base, frame table, audio streams."""
    captions: tuple[str, ...] = ()
    label: str | None = None
    columns: Mapping[str, Scalar] = field(default_factory=dict)
    """What else its source said of it."""
    gray_THW: npt.NDArray[np.uint8]
    """Every frame, stretched to 36 x 64 whatever its shape."""
    pts_T: npt.NDArray[np.int64]
    """When each of those begins, in the video's time base."""
    detail_NHW: npt.NDArray[np.uint8]
    """Up to 16 frames, evenly in time, in their own shape: square pixels, short side at most 256, never enlarged."""
    detail_pts_N: npt.NDArray[np.int64]
    audio: npt.NDArray[np.float32] | None = None
    """The first audio stream, mono at 16 kHz, -1 to 1; None where there is none."""
    audio_start_seconds: Fraction = Fraction(0)
    """When the sound begins, since the first frame; below 0 where it comes first."""

    @property
    def end_pts(self) -> int:
        """When the last frame is no longer shown."""
        return self.video.frames.end_pts


AUDIO_RATE = 16_000


def footage_of(
    video: IndexedVideo,
    seen: Seen,
    *,
    captions: tuple[str, ...] = (),
    label: str | None = None,
    columns: Mapping[str, Scalar] | None = None,
) -> Footage:
    """What the index says of a video, and what a decoder saw of it, in one value."""
    return Footage(
        video=video,
        captions=captions,
        label=label,
        columns=columns or {},
        gray_THW=seen.gray_THW,
        pts_T=seen.pts_T,
        detail_NHW=seen.detail_NHW,
        detail_pts_N=seen.detail_pts_N,
        audio=seen.audio,
        audio_start_seconds=seen.audio_start_seconds,
    )
