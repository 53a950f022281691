"""Shape: what the index says of a video's geometry goes in; the shape that a viewer sees leaves.

Rotation and the shape of the pixels are counted in: an old DV tape of 720 x 576 is 4:3 on a screen, and a phone held
upright gives 9:16 though its frames are coded lying.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from cineray.curate.footage import Footage
from cineray.curate.stage import Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspect:
    """`aspect_ratio` (width over height as shown), `aspect_shape` and `aspect_short_side` in coded pixels."""

    name: ClassVar[str] = "aspect"
    version: ClassVar[int] = 1
    gives: ClassVar[Mapping[str, type]] = {"aspect_ratio": float, "aspect_shape": str, "aspect_short_side": int}
    square_within: float = 0.05
    """How far from 1 a ratio may be to be called square."""

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        video = footage.video
        ratio = Fraction(video.width, video.height) * (video.sample_aspect_ratio or 1)
        if video.rotation_degrees % 180:
            ratio = 1 / ratio
        square = abs(float(ratio) - 1) <= self.square_within
        return {
            "aspect_ratio": float(ratio),
            "aspect_shape": "square" if square else "landscape" if ratio > 1 else "portrait",
            "aspect_short_side": min(video.width, video.height),
        }
