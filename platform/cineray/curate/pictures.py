"""Figures of every picture of a video: small pictures go in; mean and spread of each leave.

A part of the video at a time: an hour is 200 MB of small pictures, and NumPy would make eight times that of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Reals = npt.NDArray[np.float32]

PART = 256
"""How many pictures are looked at together."""


def parts(gray_THW: Bytes, overlap: int = 0) -> Iterator[Reals]:
    """The video in parts of PART pictures, and `overlap` more of the next part, as numbers to compute with."""
    for first in range(0, len(gray_THW) - overlap, PART):
        yield gray_THW[first : first + PART + overlap].astype(np.float32)


def means_of(gray_THW: Bytes) -> npt.NDArray[np.float64]:
    """How bright each picture is."""
    return np.concatenate([part.mean(axis=(1, 2), dtype=np.float64) for part in parts(gray_THW)])


def spreads_of(gray_THW: Bytes) -> npt.NDArray[np.float64]:
    """The standard deviation within each picture."""
    return np.concatenate([part.std(axis=(1, 2), dtype=np.float64) for part in parts(gray_THW)])
