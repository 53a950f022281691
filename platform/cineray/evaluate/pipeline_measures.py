"""What a pipeline does to motion and pixels, in numbers: clips as two ways show them go in; figures per clip come out.

    of one clip        spacing, unevenness of the instants asked for, jitter of the frames shown instead, frames that
                       repeat, jumps, flicker, sharpness
    of two ways        how far apart pixels are at the same instants, as noise and as a shift of colour

No model and no metric of quality is here: all of this can be known before a step is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cineray.evaluate.pipeline_clips import Shown

Reals = npt.NDArray[np.float64]

_STILL_LEVELS = 0.25
"""Less change than this, on average over a picture's pixels, is none: what rounding does."""

MEASURES: Mapping[str, str] = {
    "spacing_seconds": "seconds from one frame to the next",
    "unevenness": "how uneven the instants asked for are, over their distance",
    "jitter": "how far frames come too early or late, over their distance: motion stutters",
    "repeated": "share of frames that are the one before again",
    "motion_levels": "how much a pixel changes from frame to frame, in levels of 255",
    "discontinuity": "the largest change from frame to frame over the usual one: jumps",
    "flicker": "second difference over first: what goes back and forth",
    "sharpness": "steepness of edges, in levels per pixel",
}


def measure_clip(shown: Shown) -> dict[str, float]:
    """The figures of one clip, by the names of `MEASURES`; nan where a clip is too short to say."""
    return {**_times(shown), **_pictures(shown.frames_THWC)}


def _times(shown: Shown) -> dict[str, float]:
    asked = np.diff(shown.asked_T)
    if not len(asked):
        return dict.fromkeys(("spacing_seconds", "unevenness", "jitter", "repeated"), float("nan"))
    spacing = float(asked.mean())
    apart = np.diff(shown.shown_T) - asked
    return {
        "spacing_seconds": spacing,
        "unevenness": _over(float(asked.std()), spacing),
        "jitter": _over(float(apart.std()), spacing),
        "repeated": float((np.diff(shown.numbers_T) == 0).mean()),
    }


def _over(seconds: float, spacing: float) -> float:
    """A share, without what seconds in binary are off by."""
    return round(seconds / spacing, 9) if spacing > 0 else float("nan")


def _pictures(frames_THWC: npt.NDArray[np.uint8]) -> dict[str, float]:
    x_THWC = frames_THWC.astype(np.float32)
    change_T = np.abs(np.diff(x_THWC, axis=0)).mean(axis=(1, 2, 3))
    moving_T = change_T[change_T > _STILL_LEVELS]
    bend = np.abs(np.diff(x_THWC, n=2, axis=0)).mean() if len(x_THWC) > 2 else np.nan
    return {
        "motion_levels": float(change_T.mean()) if len(change_T) else float("nan"),
        "discontinuity": float(change_T.max() / np.median(moving_T)) if len(moving_T) else float("nan"),
        "flicker": float(bend / change_T.mean()) if len(moving_T) else float("nan"),
        "sharpness": _sharpness(x_THWC),
    }


def _sharpness(x_THWC: npt.NDArray[np.float32]) -> float:
    down, right = np.abs(np.diff(x_THWC, axis=1)), np.abs(np.diff(x_THWC, axis=2))
    return float((down.mean() + right.mean()) / 2) if min(x_THWC.shape[1:3]) > 1 else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelDifference:
    """Two ways of one clip, frame by frame, at the same instants."""

    levels: float
    """Mean absolute difference, in levels of 255."""
    shift_rgb: tuple[float, float, float]
    """The second less the first, mean by channel: colour that is off everywhere."""
    same_frames: float
    """Share of frames that agree in every pixel."""
    resized: bool
    """They have different sizes, and were brought to the smaller one first."""


def pixel_difference(one: Shown, other: Shown) -> PixelDifference:
    """Both show the same instants: the first so many frames of each are held against each other."""
    frames = min(len(one.frames_THWC), len(other.frames_THWC))
    a_THWC, b_THWC = one.frames_THWC[:frames], other.frames_THWC[:frames]
    resized = a_THWC.shape != b_THWC.shape
    if resized:
        a_THWC, b_THWC = same_size(a_THWC, b_THWC)
    apart_THWC = b_THWC.astype(np.float32) - a_THWC.astype(np.float32)
    red, green, blue = (float(mean) for mean in apart_THWC.mean(axis=(0, 1, 2)))
    return PixelDifference(
        levels=float(np.abs(apart_THWC).mean()),
        shift_rgb=(red, green, blue),
        same_frames=float((apart_THWC == 0).all(axis=(1, 2, 3)).mean()),
        resized=resized,
    )


def same_size(
    a_THWC: npt.NDArray[np.uint8], b_THWC: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Both at the smaller height and the smaller width."""
    height = min(a_THWC.shape[1], b_THWC.shape[1])
    width = min(a_THWC.shape[2], b_THWC.shape[2])
    return resized_to(a_THWC, height, width), resized_to(b_THWC, height, width)


def resized_to(frames_THWC: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Pictures of another size; each pixel of a smaller one is the mean of what it covers."""
    if frames_THWC.shape[1:3] == (height, width):
        return frames_THWC
    from PIL import Image

    filter_ = Image.Resampling.BOX
    return np.stack([np.asarray(Image.fromarray(one_HWC).resize((width, height), filter_)) for one_HWC in frames_THWC])


def bends(shown: Shown) -> float:
    """Width over height of what one source pixel becomes: 1 where circles stay circles."""
    crop = shown.spec.crop
    across = (crop.out_width - crop.pad_left - crop.pad_right) / crop.width
    down = (crop.out_height - crop.pad_top - crop.pad_bottom) / crop.height
    return across / down
