"""Where a crop of the upright picture lies in the picture as coded, and how its pixels are turned. Integers only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cineray.records import Crop, IndexedVideo

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedCrop:
    """A rectangle of the picture as coded, and the size that it is resized to before it is turned."""

    left: int
    top: int
    width: int
    height: int
    out_width: int
    out_height: int


def upright_size(video: IndexedVideo) -> tuple[int, int]:
    """(width, height) after rotation."""
    turned = video.rotation_degrees in (90, 270)
    return (video.height, video.width) if turned else (video.width, video.height)


def inside(crop: Crop, video: IndexedVideo) -> bool:
    """Does the crop lie in the upright picture?"""
    width, height = upright_size(video)
    borders = (crop.pad_top, crop.pad_bottom, crop.pad_left, crop.pad_right)
    sizes = min(crop.width, crop.height, *inner_size(crop)) > 0 and min(borders) >= 0
    return sizes and 0 <= crop.left <= width - crop.width and 0 <= crop.top <= height - crop.height


def inner_size(crop: Crop) -> tuple[int, int]:
    """(height, width) of the picture between its borders."""
    return crop.out_height - crop.pad_top - crop.pad_bottom, crop.out_width - crop.pad_left - crop.pad_right


def between_borders(crop: Crop, into_HWC: Pixels) -> Pixels:
    """The part of an output that the picture fills, mirrored with it; the borders around it are made black."""
    height, width = inner_size(crop)
    if (height, width) == (crop.out_height, crop.out_width):
        return into_HWC
    left = crop.pad_right if crop.flip else crop.pad_left
    into_HWC[: crop.pad_top], into_HWC[crop.pad_top + height :] = 0, 0
    into_HWC[:, :left], into_HWC[:, left + width :] = 0, 0
    return into_HWC[crop.pad_top : crop.pad_top + height, left : left + width]


def coded_crop(crop: Crop, video: IndexedVideo) -> CodedCrop:
    """The crop before rotation.

    90 degrees clockwise: the coded picture's left edge becomes the top, its bottom edge becomes the left.
    """
    right_gap = upright_size(video)[0] - crop.left - crop.width
    bottom_gap = upright_size(video)[1] - crop.top - crop.height
    left, top = {
        0: (crop.left, crop.top),
        90: (crop.top, right_gap),
        180: (right_gap, bottom_gap),
        270: (bottom_gap, crop.left),
    }[video.rotation_degrees]
    turned = video.rotation_degrees in (90, 270)
    inner_height, inner_width = inner_size(crop)
    return CodedCrop(
        left=left,
        top=top,
        width=crop.height if turned else crop.width,
        height=crop.width if turned else crop.height,
        out_width=inner_height if turned else inner_width,
        out_height=inner_width if turned else inner_height,
    )


def turned(pixels_HWC: Pixels, degrees: int, *, flip: bool) -> Pixels:
    """A view of the pixels, turned clockwise and then mirrored."""
    upright = np.rot90(pixels_HWC, k=-(degrees // 90)) if degrees else pixels_HWC
    return upright[:, ::-1] if flip else upright
