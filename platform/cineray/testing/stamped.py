"""Stamped videos: every picture carries its own number, so "did I get frame 9?" is an integer comparison.

In: a path, and how many frames. Out: a small file of real video, and the number of a decoded picture by `read_stamp`.
The number is drawn as sixteen bars, white for one and black for zero, so that it survives a lossy codec, any colour
conversion and any resizing that leaves a few pixels per bar.

    frame 9 = 0b1001       #..#............    leftmost bar = lowest bit
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cineray.errors import UsageError
from cineray.testing.encode import TICKS_PER_SECOND, Pixels, encode

__all__ = ["read_stamp", "stamp_video"]

STAMP_BITS = 16


def stamp_video(
    path: str | Path,
    *,
    frames: int = 24,
    rate: int = 24,
    pts: Sequence[int] | None = None,
    codec: Sequence[str] | None = None,
    size_px: tuple[int, int] = (64, 48),
) -> tuple[int, ...]:
    """Write a stamped video and return its timestamps, in ticks of 1/600 s.

    `pts` gives each frame its own time (then `frames` and `rate` do not count). `codec` is FFmpeg's words, by default
    lossless: FFV1 for `.mkv`, else H.264 at quantiser 0 with two B-frames and a key frame every eight.
    """
    target = Path(path)
    times = tuple(pts) if pts is not None else tuple(n * TICKS_PER_SECOND // rate for n in range(frames))
    if len(times) > 1 << STAMP_BITS:
        raise UsageError(f"{len(times)} frames do not fit a stamp; at most {1 << STAMP_BITS}")
    words = list(codec) if codec is not None else _lossless(target.suffix)
    target.parent.mkdir(parents=True, exist_ok=True)
    encode(target, (_stamp(number, size_px) for number in range(len(times))), times, words, size_px=size_px)
    return times


def read_stamp(picture_HWC: Pixels) -> int:
    """The number that a decoded picture carries: the middle of each bar, against half brightness."""
    height, width = picture_HWC.shape[:2]
    middles = ((np.arange(STAMP_BITS) + 0.5) * width / STAMP_BITS).astype(int)
    brightness = picture_HWC[height // 2].reshape(width, -1).mean(axis=1)[middles]
    return int(np.sum((brightness > 127).astype(int) << np.arange(STAMP_BITS)))


def _stamp(number: int, size_px: tuple[int, int]) -> Pixels:
    """The picture of a number."""
    width, height = size_px
    bits = number >> (np.arange(width) * STAMP_BITS // width) & 1
    return np.broadcast_to((bits * 255).astype(np.uint8)[None, :, None], (height, width, 3))


def _lossless(suffix: str) -> list[str]:
    if suffix == ".mkv":
        return ["-c:v", "ffv1", "-g", "1"]
    return ["-c:v", "libx264", "-preset", "veryfast", "-qp", "0", "-pix_fmt", "yuv420p", "-g", "8", "-bf", "2"]
