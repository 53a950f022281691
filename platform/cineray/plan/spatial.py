"""Which part of a picture a clip shows: a video's geometry, the recipe's `frame` and draws in, a `Crop` out.

Boxes are in pixels of the upright picture: turned as the file says, so a quarter turn swaps width and height, and the
shape of a pixel (sample aspect ratio) turns with it. Boxes that do not take all of a side begin and end at even pixels,
so that a decoder can cut them out of subsampled colour without shifting it.

    keep                          pad                           stretch
    +--+-------+--+               +---------+  border           +-------------+
    |  | shown |  |  cut          | picture |                   |   picture   |  bent
    +--+-------+--+               +---------+  border           +-------------+
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from cineray.plan.draws import Draws
from cineray.plan.recipe import FrameSpec
from cineray.records import Crop, IndexedVideo


class Picture(NamedTuple):
    """An upright picture: its size in pixels, and how wide a pixel is for its height."""

    width: int
    height: int
    pixel_num: int
    pixel_den: int


class Borders(NamedTuple):
    """Black rows and columns around a padded picture."""

    top: int
    bottom: int
    left: int
    right: int


def upright(video: IndexedVideo) -> Picture:
    """A video's picture after rotation; pixels of unknown shape are square."""
    pixel = video.sample_aspect_ratio
    num, den = (pixel.numerator, pixel.denominator) if pixel.numerator > 0 else (1, 1)
    if video.rotation_degrees % 180:
        return Picture(video.height, video.width, den, num)
    return Picture(video.width, video.height, num, den)


def display_size(video: IndexedVideo) -> tuple[int, int]:
    """Width and height on a screen of square pixels, upright; the height is that of the file."""
    picture = upright(video)
    return max(1, round(Fraction(picture.width * picture.pixel_num, picture.pixel_den))), picture.height


def crop_of(video: IndexedVideo, frame: FrameSpec, out_height: int, out_width: int, draws: Draws) -> Crop:
    """The crop of one clip."""
    picture = upright(video)
    height, width, borders = picture.height, picture.width, _NO_BORDERS
    if frame.pad:
        borders = _borders(picture, out_height, out_width)
    elif frame.aspect == "keep":
        height, width = _box(picture, out_height, out_width)
    at_random = draws if frame.crop == "random" else None
    return Crop(
        top=_offset(picture.height - height, at_random, "crop top"),
        left=_offset(picture.width - width, at_random, "crop left"),
        height=height,
        width=width,
        out_height=out_height,
        out_width=out_width,
        flip=frame.flip > 0 and draws.chance(frame.flip, "flip"),
        pad_top=borders.top,
        pad_bottom=borders.bottom,
        pad_left=borders.left,
        pad_right=borders.right,
    )


_NO_BORDERS = Borders(0, 0, 0, 0)


def _offset(free: int, draws: Draws | None, purpose: str) -> int:
    """An even offset among the free pixels of a side: in the middle, or anywhere."""
    if free < 2:
        return 0
    return 2 * draws.below(free // 2 + 1, purpose) if draws is not None else free // 4 * 2


@lru_cache(maxsize=4096)
def _box(picture: Picture, out_height: int, out_width: int) -> tuple[int, int]:
    """Height and width of the largest box that looks like the output: both in pixels that may not be square."""
    wide, high = out_width * picture.pixel_den, out_height * picture.pixel_num
    if picture.width * high > picture.height * wide:
        return picture.height, _even(Fraction(picture.height * wide, high), picture.width)
    return _even(Fraction(picture.width * high, wide), picture.height), picture.width


def _even(length: Fraction, limit: int) -> int:
    """The nearest even length that is at least 2; all of the side where that is within a pixel."""
    even = max(2, 2 * round(length / 2))
    return limit if even >= limit or limit - length < 1 else even


@lru_cache(maxsize=4096)
def _borders(picture: Picture, out_height: int, out_width: int) -> Borders:
    """What centres the whole picture in the output."""
    wide, high = picture.width * picture.pixel_num, picture.height * picture.pixel_den
    if wide * out_height >= high * out_width:
        free = out_height - min(out_height, max(1, round(Fraction(out_width * high, wide))))
        return Borders(free // 2, free - free // 2, 0, 0)
    free = out_width - min(out_width, max(1, round(Fraction(out_height * wide, high))))
    return Borders(0, 0, free // 2, free - free // 2)
