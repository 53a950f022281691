"""Brightness and contrast: small pictures of every frame go in; how bright, how contrasted and how clipped leaves.

Grey levels are 0 to 255, full range. Contrast is the spread within a picture, not over time: a video that fades is not
contrasted by that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cineray.curate.footage import Footage
from cineray.curate.pictures import means_of, parts, spreads_of
from cineray.curate.spans import shown_ticks
from cineray.curate.stage import Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Brightness:
    """`brightness_mean`, `brightness_contrast` (spread within a picture), `brightness_clipped` (share of pixels)."""

    name: ClassVar[str] = "brightness"
    version: ClassVar[int] = 1
    low: int = 4
    high: int = 251
    """Levels at or beyond which a pixel is clipped: whatever was darker or brighter there is lost."""

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video; each frame counts for as long as it is seen."""
        gray_THW = footage.gray_THW
        weight_T = shown_ticks(footage.pts_T, footage.end_pts).astype(np.float64)
        clipped = [((part <= self.low) | (part >= self.high)).mean(axis=(1, 2)) for part in parts(gray_THW)]
        return {
            "brightness_mean": float(np.average(means_of(gray_THW), weights=weight_T)),
            "brightness_contrast": float(np.average(spreads_of(gray_THW), weights=weight_T)),
            "brightness_clipped": float(np.average(np.concatenate(clipped), weights=weight_T)),
        }
