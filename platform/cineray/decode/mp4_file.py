"""A clip as a video file, for people who want to look. RGB pictures and their times in; an MP4 for any player out.

Lossy (H.264 at a high quality): for eyes, not for training or comparing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from cineray.errors import UsageError

TICKS_PER_SECOND = 90_000
_BT709, _LIMITED = 1, 1


def write_mp4(path: str | os.PathLike[str], frames_THWC: npt.NDArray[np.uint8], seconds_T: Sequence[float]) -> None:
    """Write the pictures, each at its own time. Times that stand still (padded frames) move on by a tick."""
    pictures, height, width, channels = frames_THWC.shape
    if channels != 3 or pictures != len(seconds_T) or pictures == 0:
        raise UsageError(
            f"write_mp4: frames {frames_THWC.shape} and {len(seconds_T)} times; wanted (T, H, W, 3) and T times"
        )
    with av.open(os.fspath(path), "w", format="mp4", options={"movflags": "+faststart"}) as target:
        stream = target.add_stream("libx264", options={"crf": "12", "preset": "veryfast"})
        stream.width, stream.height = width, height
        # Half as many chroma samples as players like best need an even picture.
        stream.pix_fmt = "yuv420p" if width % 2 == 0 and height % 2 == 0 else "yuv444p"
        context = stream.codec_context
        context.time_base = Fraction(1, TICKS_PER_SECOND)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        for picture_HWC, ticks in zip(frames_THWC, _ticks(seconds_T), strict=True):
            rgb = VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC), format="rgb24")
            frame = rgb.reformat(
                format=stream.pix_fmt, dst_colorspace=Colorspace.ITU709, dst_color_range=_LIMITED, threads=1
            )
            frame.pts, frame.time_base = ticks, Fraction(1, TICKS_PER_SECOND)
            for packet in stream.encode(frame):
                target.mux(packet)
        for packet in stream.encode(None):
            target.mux(packet)


def _ticks(seconds_T: Sequence[float]) -> list[int]:
    """Strictly increasing times: an encoder takes no two pictures for one instant."""
    ticks: list[int] = []
    for seconds in seconds_T:
        at = round(float(seconds) * TICKS_PER_SECOND)
        ticks.append(max(at, ticks[-1] + 1) if ticks else at)
    return ticks
