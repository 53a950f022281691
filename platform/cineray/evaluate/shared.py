"""What several metrics look at is worked out once: a function of frames goes in, one that remembers comes out.

Kept under the array itself and only as long as somebody holds the array; frames are never changed in place.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
Found = TypeVar("Found")


def once_per_frames(look: Callable[[Frames], Found]) -> Callable[[Frames], Found]:
    """`look`, computed once for each living array of frames."""
    kept: dict[int, tuple[weakref.ref[Frames], Found]] = {}

    @wraps(look)
    def looked(frames_NTHWC: Frames) -> Found:
        key = id(frames_NTHWC)
        if key not in kept or kept[key][0]() is not frames_NTHWC:
            found = look(frames_NTHWC)
            kept[key] = (weakref.ref(frames_NTHWC, lambda _: kept.pop(key, None)), found)
        return kept[key][1]

    return looked
