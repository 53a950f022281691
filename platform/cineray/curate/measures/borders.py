"""Letterbox and pillarbox: larger pictures of a few frames go in; how much of each side is border leaves.

    ▇▇▇▇▇▇▇▇▇▇     a row belongs to the border when it is dark and even, in every picture that is not dark as a whole:
    ░ picture ░    from the edge inwards until the first row that is not
    ▇▇▇▇▇▇▇▇▇▇

Black borders only, as players and converters make them. A night sky is not even to within `noise` over a whole row, or
not in every picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cineray.curate.footage import Footage
from cineray.curate.stage import Columns

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The part of the picture inside its borders, as shares of height and width: `top` 0.1 is a tenth down."""

    top: float = 0.0
    bottom: float = 1.0
    left: float = 0.0
    right: float = 1.0

    @property
    def area(self) -> float:
        """Which part of the whole picture it is."""
        return (self.bottom - self.top) * (self.right - self.left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Borders:
    """`borders_top`, `_bottom`, `_left`, `_right`, as shares of the side, and `borders_fraction` of the area."""

    name: ClassVar[str] = "borders"
    version: ClassVar[int] = 1
    gives: ClassVar[Mapping[str, type]] = {
        "borders_top": float,
        "borders_bottom": float,
        "borders_left": float,
        "borders_right": float,
        "borders_fraction": float,
    }
    level: float = 28.0
    """Grey level up to which a border is black."""
    noise: float = 8.0
    """How far a pixel of a border may lie from the border's own level: codecs ring near the edge."""

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        box = content_box(footage.detail_NHW, level=self.level, noise=self.noise)
        return {
            "borders_top": box.top,
            "borders_bottom": 1 - box.bottom,
            "borders_left": box.left,
            "borders_right": 1 - box.right,
            "borders_fraction": 1 - box.area,
        }


def content_box(detail_NHW: npt.NDArray[np.uint8], *, level: float = 28.0, noise: float = 8.0) -> Box:
    """Where the picture is. The whole, where every picture is dark: what is not lit cannot be told from a border."""
    lit = detail_NHW[np.quantile(detail_NHW.reshape(len(detail_NHW), -1), 0.9, axis=1) > level + noise]
    if not len(lit):
        return Box()
    rows_H, columns_W = _even_and_dark(lit, level, noise), _even_and_dark(lit.swapaxes(1, 2), level, noise)
    top, bottom = _edges(rows_H)
    left, right = _edges(columns_W)
    if bottom <= top or right <= left:
        return Box()
    return Box(top=top, bottom=bottom, left=left, right=right)


def _even_and_dark(detail_NLP: npt.NDArray[np.uint8], level: float, noise: float) -> Flags:
    """Of each line: in every picture its pixels lie around one dark level. A few may not: the edge's own ringing."""
    low_NL, middle_NL, high_NL = np.quantile(detail_NLP, [0.02, 0.5, 0.98], axis=2)
    even_NL = (high_NL - middle_NL <= noise) & (middle_NL - low_NL <= noise) & (middle_NL <= level)
    return np.asarray(even_NL.all(axis=0))


def _edges(border_L: Flags) -> tuple[float, float]:
    """Shares of the side at which the borders end; two lines of a blurred edge are given to the border by no one."""
    inside = np.flatnonzero(~border_L)
    if not len(inside):
        return 0.0, 1.0
    return float(inside[0] / len(border_L)), float((inside[-1] + 1) / len(border_L))
