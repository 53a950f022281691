"""Blur: larger pictures of a few frames go in; how blurred they are, 0 (sharp) to 1, leaves.

A picture is blurred once more, on purpose: a sharp one loses much of its fine differences by that, a blurred one had
few to lose (Crété and others, 2007). So the figure says how sharp the edges are, whatever their number and contrast. It
is of the pictures as footage has them, at most 256 pixels on the short side: a large video that is soft only at full
size is sharp here, and as sharp as training will see it.
"""

from __future__ import annotations

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
    """`blur` of the middle picture (median), `blur_best` of the sharpest one; None where all pictures are flat."""

    name: ClassVar[str] = "blur"
    version: ClassVar[int] = 1
    window: int = 9
    least_difference: float = 0.5
    """Mean difference of neighbouring pixels, in grey levels, below which a picture is flat: nothing to be sharp."""

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        found = [
            blur_of(picture.astype(np.float32), self.window, self.least_difference) for picture in footage.detail_NHW
        ]
        known = [value for value in found if value is not None]
        return {
            "blur": float(np.median(known)) if known else None,
            "blur_best": min(known) if known else None,
        }


def blur_of(picture_HW: Reals, window: int, least_difference: float) -> float | None:
    """Which part of the fine differences is left after blurring again, in the direction that keeps more."""
    left = []
    for axis in (0, 1):
        before = np.abs(np.diff(picture_HW, axis=axis))
        if before.mean() < least_difference:
            continue
        again = np.abs(np.diff(uniform_filter1d(picture_HW, window, axis=axis, mode="nearest"), axis=axis))
        lost = np.maximum(before - again, 0)
        left.append(float(1 - lost.sum() / before.sum()))
    return max(left) if left else None
