"""How a video's samples become RGB. What the index says of its colour goes in; FFmpeg's words for the conversion out.

The output is always 8-bit RGB in full range, in the video's own primaries and transfer: neither is converted. The
matrix and the range are the stream's own. A stream that does not say: BT.601, whatever its size, and limited range,
as FFmpeg and the loaders built on it do. HDR (PQ, HLG) is not tone-mapped: its code values are taken as they are, and
the lake's `color_transfer` column says which videos that concerns.
"""

from __future__ import annotations

from dataclasses import dataclass

from cineray.decode.reasons import DecodeFault
from cineray.records import IndexedVideo

# The index's name -> FFmpeg's number (ITU-T H.273). Only spaces whose conversion is one matrix.
MATRICES = {"gbr": 0, "bt709": 1, "fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "bt2020nc": 9}
PRIMARIES = {
    "bt709": 1, "bt470m": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "film": 8, "bt2020": 9, "smpte428": 10,
    "smpte431": 11, "smpte432": 12, "ebu3213": 22,
}  # fmt: skip
TRANSFERS = {
    "bt709": 1, "bt470m": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "linear": 8, "log100": 9, "log316": 10,
    "iec61966-2-4": 11, "bt1361e": 12, "iec61966-2-1": 13, "bt2020-10": 14, "bt2020-12": 15, "smpte2084": 16,
    "smpte428": 17, "arib-std-b67": 18,
}  # fmt: skip
UNSPECIFIED = 2
UNKNOWN_MATRIX = "bt470bg"  # the 625-line name of BT.601
LIMITED, FULL = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """FFmpeg's numbers for the matrix and the range of a video."""

    matrix: int
    range: int


def colour_of(video: IndexedVideo) -> Colour:
    """The conversion for this video; raises `DecodeFault` for spaces that are more than a matrix."""
    name = UNKNOWN_MATRIX if video.color_space == "unknown" else video.color_space
    if is_rgb(video.pixel_format):
        return Colour(matrix=MATRICES["gbr"], range=FULL)
    if name not in MATRICES:
        raise DecodeFault(
            "unsupported",
            f"the colour space {name} is not converted; wanted one of {', '.join(MATRICES)}. Convert the video first: "
            "ffmpeg -i in -vf zscale=matrix=709 out.mp4",
        )
    full = video.color_range == "full" or video.pixel_format.startswith("yuvj")
    return Colour(matrix=MATRICES[name], range=FULL if full else LIMITED)


def is_rgb(pixel_format: str) -> bool:
    """Formats without a matrix: red, green and blue as they are."""
    return pixel_format.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8"))
