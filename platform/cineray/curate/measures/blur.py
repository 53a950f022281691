"""Blur: larger pictures of a few frames go in; how blurred they are, 0 (sharp) to 1, leaves.

A picture is blurred once more, on purpose: a sharp one loses much of its fine differences by that, a blurred one had
few to lose (Crété and others, 2007). So the figure says how sharp the edges are, whatever their number and contrast. It
is of the pictures as footage has them, at most 256 pixels on the short side: a large video that is soft only at full
size is sharp here, and as sharp as training will see it.

    9 9 9 10 10 10 11 11      a very blurred edge in whole grey levels: its steps of one are rounding, and as steep as a
                              sharp edge's. So one level of each difference does not count
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from cineray.curate.footage import Footage
from cineray.curate.stage import Columns

Reals = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blur:
    """`blur` of the middle picture (median), `blur_best` of the sharpest one; None where all pictures are flat.
    A picture that has contrast and no edge at all is as blurred as can be."""

    name: ClassVar[str] = "blur"
    version: ClassVar[int] = 2
    gives: ClassVar[Mapping[str, type]] = {"blur": float, "blur_best": float}
    window: int = 9
    rounding: float = 1.0
    """Grey levels by which neighbours may differ and still show the same."""
    least_difference: float = 0.02
    """Mean difference of neighbouring pixels beyond that, in grey levels, below which there is no edge."""
    least_contrast: float = 6.0
    """Spread within a picture, in grey levels, below which one without edges is flat: nothing to be sharp."""

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        found = [blur_of(picture.astype(np.float32), self) for picture in footage.detail_NHW]
        known = [value for value in found if value is not None]
        return {
            "blur": float(np.median(known)) if known else None,
            "blur_best": min(known) if known else None,
        }


def blur_of(picture_HW: Reals, how: Blur) -> float | None:
    """Which part of the fine differences is left after blurring again, in the direction that keeps more."""
    left = []
    for axis in (0, 1):
        before = np.maximum(np.abs(np.diff(picture_HW, axis=axis)) - how.rounding, 0)
        if before.mean() < how.least_difference:
            continue
        again = np.abs(np.diff(uniform_filter1d(picture_HW, how.window, axis=axis, mode="nearest"), axis=axis))
        lost = np.maximum(before - again, 0)
        left.append(float(1 - lost.sum() / before.sum()))
    if left:
        return max(left)
    return 1.0 if float(picture_HW.std()) >= how.least_contrast else None
