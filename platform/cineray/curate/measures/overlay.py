"""Laid-over text and marks: larger pictures of a few frames go in; how likely something is laid over them leaves.

A logo, a subtitle bar or a clock's frame has edges that stay where they are while the picture beneath changes. Of each
pixel: do its edges point the same way, with the same strength, in all pictures? Where many such pixels lie together in
a part of the picture that else has few, something is laid over.

    ░░▓▓░░█     tiles along the edges of the picture, and corners most of all, are where marks are laid;
    ░░░▓▓░░     a tile is marked when at least `least_density` of its pixels keep their edges

In a video whose camera stands still, all edges stay: nothing can be said, and `overlay_share` is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cineray.curate.footage import Footage
from cineray.curate.measures.borders import Box, content_box
from cineray.curate.stage import Columns

Flags = npt.NDArray[np.bool_]
TILES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """`overlay_share` (of the tiles that are marked) and `overlay_corners` (how many of the four corners are)."""

    name: ClassVar[str] = "overlay"
    version: ClassVar[int] = 1
    gives: ClassVar[Mapping[str, type]] = {"overlay_share": float, "overlay_corners": int}
    least_edge: float = 8.0
    """Grey levels per pixel: strength of an edge, as the mean over the pictures."""
    least_agreement: float = 0.8
    """1 when the edge is the same in all pictures, about 1 / sqrt(pictures) when they have nothing in common."""
    least_density: float = 0.06
    most_elsewhere: float = 0.02
    """Density of the middle tile above which the camera stands still, and nothing can be said."""
    least_pictures: int = 4

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        if len(footage.detail_NHW) < self.least_pictures:
            return {"overlay_share": None, "overlay_corners": None}
        inner_NHW = inside(footage.detail_NHW, content_box(footage.detail_NHW))
        density_YX = _density(staying_edges(inner_NHW, self.least_edge, self.least_agreement))
        if float(np.median(density_YX)) > self.most_elsewhere:
            return {"overlay_share": None, "overlay_corners": None}
        marked_YX = density_YX >= self.least_density
        quarter = TILES // 4
        corners = [
            marked_YX[rows, columns].any()
            for rows in (slice(0, quarter), slice(-quarter, None))
            for columns in (slice(0, quarter), slice(-quarter, None))
        ]
        return {"overlay_share": float(marked_YX.mean()), "overlay_corners": int(np.sum(corners))}


def inside(detail_NHW: npt.NDArray[np.uint8], box: Box, margin: int = 3) -> npt.NDArray[np.uint8]:
    """The picture inside its borders: the border's own edge stays too, and is no mark."""
    height, width = detail_NHW.shape[1:]
    top, bottom = round(box.top * height), round(box.bottom * height)
    left, right = round(box.left * width), round(box.right * width)
    return detail_NHW[
        :,
        top + margin * (box.top > 0) : bottom - margin * (box.bottom < 1),
        left + margin * (box.left > 0) : right - margin * (box.right < 1),
    ]


def staying_edges(detail_NHW: npt.NDArray[np.uint8], least_edge: float, least_agreement: float) -> Flags:
    """Pixels whose edges stay: the mean of the edges over the mean of their strengths, where there is any edge."""
    picture = detail_NHW.astype(np.float32)
    down, across = (np.gradient(picture, axis=axis) for axis in (1, 2))
    of_mean = np.hypot(down.mean(axis=0), across.mean(axis=0))
    mean_of = np.hypot(down, across).mean(axis=0)
    return np.asarray((of_mean >= least_edge) & (of_mean >= least_agreement * mean_of))


def _density(flag_HW: Flags) -> npt.NDArray[np.float64]:
    """The part of each tile's pixels that is flagged."""
    rows = np.array_split(flag_HW.astype(np.float64), TILES, axis=0)
    return np.array([[tile.mean() for tile in np.array_split(row, TILES, axis=1)] for row in rows])
