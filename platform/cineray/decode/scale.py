"""From a decoded picture to the pixels of a clip: cut, resize, convert, in one pass of FFmpeg's scaler. A frame in its
own pixel format goes in; 8-bit RGB of the wanted size comes out.

    frame -> cut (no copy) -> resize, antialiased bilinear, and colour matrix, to planes -> interleave -> RGB

Bit-exact: the scaler's exact-rounding paths give the same bytes with and without a processor's vector instructions.
Samples of more than 8 bits keep their depth until the last step, which rounds without dither. A cut whose edge falls
between the chroma samples of a subsampled video first gets chroma at full size; all others cost no copy.
"""

from __future__ import annotations

import av
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from cineray.decode.colour import Colour
from cineray.decode.filters import chain_of
from cineray.decode.geometry import CodedCrop, Pixels
from cineray.decode.reasons import DecodeFault

FLAGS = "bilinear+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
_KEPT_GRAPHS = 16


class Scaler:
    """Scales pictures of one video; keeps the set-up of the cuts used last."""

    def __init__(self, colour: Colour) -> None:
        self._colour = colour
        self._graphs: dict[tuple[str, int, int, CodedCrop], Graph] = {}

    def pixels(self, frame: VideoFrame, crop: CodedCrop) -> Pixels:
        """The cut of the picture at its new size, as HWC; valid until the caller drops it."""
        key = (frame.format.name, frame.width, frame.height, crop)
        graph = self._graphs.get(key)
        if graph is None:
            while len(self._graphs) >= _KEPT_GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            graph = self._graphs[key] = build_graph(frame, crop, self._colour)
        # The index's word counts, not the frame's: one video, one conversion.
        frame.colorspace, frame.color_range = self._colour.matrix, self._colour.range
        try:
            graph.vpush(frame)
            return _as_array(graph.vpull())
        except av.FFmpegError as error:
            raise DecodeFault("decode_failed", f"a {frame.format.name} picture cannot be scaled: {error}") from error


def build_graph(frame: VideoFrame, crop: CodedCrop, colour: Colour) -> Graph:
    """FFmpeg's filters for one kind of picture and one cut of it."""
    steps = [*_cut(frame, crop), ("scale", f"{crop.out_width}:{crop.out_height}:flags={FLAGS}:out_range=full")]
    steps += [("format", "pix_fmts=gbrp"), ("scale", f"flags={FLAGS}"), ("format", "pix_fmts=rgb24")]
    return chain_of(frame, colour, steps)


def _cut(frame: VideoFrame, crop: CodedCrop) -> list[tuple[str, str]]:
    """Nothing, a cut, or chroma at full size for the neighbourhood and then the cut."""
    if (crop.left, crop.top, crop.width, crop.height) == (0, 0, frame.width, frame.height):
        return []
    across, down = _chroma_steps(frame.format)
    left, right = _outwards(crop.left, crop.left + crop.width, across, frame.width)
    top, bottom = _outwards(crop.top, crop.top + crop.height, down, frame.height)
    around = ("crop", _window(right - left, bottom - top, left, top))
    if (right - left, bottom - top) == (crop.width, crop.height):
        return [around]
    return [
        around,
        ("scale", f"flags={FLAGS}"),
        ("format", f"pix_fmts={_full_chroma(frame.format)}"),
        ("crop", _window(crop.width, crop.height, crop.left - left, crop.top - top)),
    ]


def _outwards(start: int, stop: int, step: int, end: int) -> tuple[int, int]:
    """The smallest span on the grid of the chroma samples that holds the given one, and where that is off the grid, one
    sample more on each side to interpolate from. The picture's own end is always on the grid.
    """
    low, high = start // step * step, min(-(-stop // step) * step, end)
    if (low, high) == (start, stop):
        return low, high
    return max(low - step, 0), min(high + step, end)


def _window(width: int, height: int, left: int, top: int) -> str:
    return f"{width}:{height}:{left}:{top}:exact=1"


def _chroma_steps(kind: VideoFormat) -> tuple[int, int]:
    """How many columns and rows share one chroma sample: (2, 2) for 4:2:0."""
    if len(kind.components) < 3:
        return 1, 1
    return 64 // kind.chroma_width(64), 64 // kind.chroma_height(64)


def _full_chroma(kind: VideoFormat) -> str:
    """The planar 4:4:4 format of at least this depth."""
    bits = max(component.bits for component in kind.components)
    return "yuv444p" if bits <= 8 else f"yuv444p{next(b for b in (10, 12, 14, 16) if b >= bits)}le"


def _as_array(frame: VideoFrame) -> Pixels:
    """A view of packed RGB without the padding at the ends of lines; it keeps the frame alive."""
    plane = frame.planes[0]
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return lines[: frame.height, : frame.width * 3].reshape(frame.height, frame.width, 3)
