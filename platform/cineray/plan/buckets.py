"""Which shape of batch suits a clip: how many samples it holds and how large it is go in, a bucket's number comes out.

Each clip row lies in one bucket, so that an epoch shows it once. First comes time: the most frames that the clip can
fill. Then the picture: the nearest aspect ratio, and of these the largest that needs no enlarging (else the smallest).
A clip too short for any bucket is left out, or with `pad` and `loop` goes where the fewest frames are missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cineray.plan.recipe import BucketSpec

Ints = npt.NDArray[np.int64]

NONE = -1


def choose_buckets(buckets: Sequence[BucketSpec], samples: Ints, width: Ints, height: Ints, *, short: str) -> Ints:
    """The bucket of each clip, or -1 where none suits."""
    shortest = min(bucket.frames for bucket in buckets)
    lowest = 1 if short != "skip" else shortest
    chosen = np.full(len(samples), NONE, dtype=np.int64)
    best_frames = np.zeros(len(samples), dtype=np.int64)
    best_bend = np.full(len(samples), np.inf)
    best_area = np.full(len(samples), -np.inf)
    for number, bucket in enumerate(buckets):
        fits = samples >= (lowest if bucket.frames == shortest else bucket.frames)
        bend, area = _bend(bucket, width, height), _area(bucket, width, height)
        nearer = (bend < best_bend) | ((bend == best_bend) & (area > best_area))
        better = fits & ((bucket.frames > best_frames) | ((bucket.frames == best_frames) & nearer))
        chosen[better] = number
        best_frames[better] = bucket.frames
        best_bend[better], best_area[better] = bend[better], area[better]
    return chosen


def _bend(bucket: BucketSpec, width: Ints, height: Ints) -> npt.NDArray[np.float64]:
    """How many times wider or narrower the bucket is than the clip; divisions only, so alike on every platform."""
    ratio = (width * bucket.height) / np.maximum(height * bucket.width, 1)
    ratio = np.maximum(ratio, 1e-9)
    return np.maximum(ratio, 1 / ratio)


def _area(bucket: BucketSpec, width: Ints, height: Ints) -> npt.NDArray[np.float64]:
    """Larger is better up to the clip's own size; beyond it, smaller."""
    area = bucket.height * bucket.width
    return np.where(area <= width * height, float(area), -float(area))
