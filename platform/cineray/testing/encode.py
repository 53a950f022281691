"""From pictures and timestamps to a video file: RGB pictures and one integer timestamp each go in, a file comes out.

Its frames lie exactly at those timestamps, in ticks of 1/600 s. The same pictures give the same bytes on the same
machine. `encode` takes FFmpeg's words for any codec and container, and starts the system's FFmpeg for each file;
`encode_h264` makes MP4s in this process, ten times as fast for small ones, with the FFmpeg that PyAV brings.
"""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from cineray.errors import CinerayError

__all__ = ["TICKS_PER_SECOND", "Pixels", "encode", "encode_h264"]

Pixels = npt.NDArray[np.uint8]

TICKS_PER_SECOND = 600
"""The time base of every made video: 600 holds 24, 25, 30 and 60 frames a second without rounding."""


def encode(
    path: Path, pictures: Iterable[Pixels], pts: Sequence[int], codec: Sequence[str], *, size_px: tuple[int, int]
) -> None:
    """Pipe RGB pictures of (width, height) into FFmpeg, each to be shown at its own timestamp."""
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size_px[0]}x{size_px[1]}"]
    # Raw pictures have no times: FFmpeg numbers them, and its filter looks each number's time up.
    command += ["-framerate", str(TICKS_PER_SECOND), "-i", "pipe:0"]
    command += ["-vf", f"settb=1/{TICKS_PER_SECOND},setpts={_lookup(pts).replace(',', _ESCAPED_COMMA)}"]
    command += ["-enc_time_base", f"1:{TICKS_PER_SECOND}", *_keep_times(), *codec]
    command += ["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1"]
    command += ["-video_track_timescale", str(TICKS_PER_SECOND)] if path.suffix in {".mp4", ".mov"} else []
    process = subprocess.Popen([*command, str(path)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    _, words = process.communicate(b"".join(picture.tobytes() for picture in pictures))
    if process.returncode != 0:
        last = words.decode(errors="replace").strip()[-300:]
        raise CinerayError(f"ffmpeg could not make {path} (exit {process.returncode}): {last}")


def encode_h264(
    path: Path, pictures: Iterable[Pixels], pts: Sequence[int], *, size_px: int, gop: int, b_frames: int
) -> None:
    """Square RGB pictures as an MP4 with its header in front: H.264 at crf 20, a key frame at least every `gop`."""
    time_base = Fraction(1, TICKS_PER_SECOND)
    container = {"movflags": "+faststart", "video_track_timescale": str(TICKS_PER_SECOND), "fflags": "+bitexact"}
    codec = {
        "preset": "veryfast",
        "crf": "20",
        "g": str(gop),
        "bf": str(b_frames),
        "threads": "1",
        "flags": "+bitexact",
        # What x264 decides by looking ahead is not repeatable on pictures this small: of 30 encodings of the same ones
        # 11 differed, and none with its plain code (asm=0) or without these decisions.
        "x264-params": "b-adapt=0:mbtree=0:scenecut=0:weightp=0",
    }
    with av.open(str(path), "w", format="mp4", options=container) as target:
        stream = target.add_stream("libx264", options=codec)
        stream.width = stream.height = size_px
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        for picture_HWC, at in zip(pictures, pts, strict=True):
            frame = VideoFrame.from_ndarray(picture_HWC, format="rgb24").reformat(format="yuv420p", threads=1)
            frame.pts, frame.time_base = at, time_base
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


_ESCAPED_COMMA = "\\,"  # a bare comma would end the filter


def _lookup(pts: Sequence[int], first: int = 0) -> str:
    """An FFmpeg expression that gives `pts[N - first]`: a constant step is a product, all else is halved and redone.

        0 25 50 75 125 150    ->    if(lt(N,3),0+25*(N-0),75+...)

    FFmpeg's parser takes no more than about a hundred terms in one sum, but any number in a tree.
    """
    steps = set(np.diff(np.array(pts)).tolist())
    if len(steps) <= 1:
        return f"{pts[0]}+{steps.pop() if steps else 0}*(N-{first})"
    half = len(pts) // 2
    return f"if(lt(N,{first + half}),{_lookup(pts[:half], first)},{_lookup(pts[half:], first + half)})"


@functools.cache
def _keep_times() -> tuple[str, str]:
    """The option that keeps each picture at its own time; before FFmpeg 5.1 (Ubuntu 22.04) it had another name."""
    words = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"ffmpeg version n?(\d+)\.(\d+)", words)
    if found and (int(found[1]), int(found[2])) < (5, 1):
        return "-vsync", "passthrough"
    return "-fps_mode", "passthrough"
