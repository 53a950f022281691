"""Brightness and contrast: small pictures of every frame go in; how bright, how contrasted and how clipped leaves, and
when it is too dark or too flat to see anything.

Grey levels are 0 to 255, full range. Contrast is the spread within a picture, not over time: a video that fades is not
contrasted by that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cineray.curate.footage import Footage
from cineray.curate.pictures import means_of, parts, spreads_of
from cineray.curate.spans import Flags, shown_ticks, spans_of
from cineray.curate.stage import Columns, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Brightness:
    """`brightness_mean`, `_contrast` (spread within a picture), `_clipped` (share of pixels), `_dim_spans` and
    `_flat_spans` of at least `least_seconds`."""

    name: ClassVar[str] = "brightness"
    version: ClassVar[int] = 2
    gives: ClassVar[Mapping[str, type]] = {
        "brightness_mean": float,
        "brightness_contrast": float,
        "brightness_clipped": float,
        "brightness_dim_spans": list,
        "brightness_flat_spans": list,
    }
    low: int = 4
    high: int = 251
    """Levels at or beyond which a pixel is clipped: whatever was darker or brighter there is lost."""
    dim: float = 12.0
    """Mean of a picture, in grey levels, below which it is dim."""
    flat: float = 6.0
    """Spread within a picture, in grey levels, below which it is flat."""
    least_seconds: float = 0.1

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video; each frame counts for as long as it is seen."""
        gray_THW = footage.gray_THW
        mean_T, spread_T = means_of(gray_THW), spreads_of(gray_THW)
        weight_T = shown_ticks(footage.pts_T, footage.end_pts).astype(np.float64)
        clipped = [((part <= self.low) | (part >= self.high)).mean(axis=(1, 2)) for part in parts(gray_THW)]
        return {
            "brightness_mean": float(np.average(mean_T, weights=weight_T)),
            "brightness_contrast": float(np.average(spread_T, weights=weight_T)),
            "brightness_clipped": float(np.average(np.concatenate(clipped), weights=weight_T)),
            "brightness_dim_spans": self._spans(mean_T < self.dim, footage, "dim"),
            "brightness_flat_spans": self._spans(spread_T < self.flat, footage, "flat"),
        }

    def _spans(self, flag_T: Flags, footage: Footage, said: str) -> list[Span]:
        least_ticks = self.least_seconds / float(footage.video.time_base)
        return [Span(*span, said) for span in spans_of(flag_T, footage.pts_T, footage.end_pts, least_ticks)]
