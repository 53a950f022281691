"""Still and frozen parts: small pictures of every frame go in; how much of the time shows nothing new leaves.

    frozen    the very same picture for `least_seconds` and more: a stuck player, a slide, a held last frame
    repeated  a frame that shows what the one before showed, as where 24 frames a second were made 30

A picture is compared with the one that its run began with, not only with its neighbour, so that a slow pan is not
frozen. It is the same when no part of it, `cell` pixels square, differs by more than codecs make it differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter1d

from cineray.curate.footage import Footage
from cineray.curate.spans import pts_of_run
from cineray.curate.stage import Columns, Span

Reals = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Still:
    """`still_frozen_fraction` of the time, `still_frozen_spans`, and `still_repeated_fraction` of the frames."""

    name: ClassVar[str] = "still"
    version: ClassVar[int] = 1
    gives: ClassVar[Mapping[str, type]] = {
        "still_frozen_fraction": float,
        "still_frozen_spans": list,
        "still_repeated_fraction": float,
    }
    most_difference: float = 1.5
    """Grey levels of 255, of the mean of one part."""
    least_seconds: float = 0.5

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        part_TYX = parts_of(footage.gray_THW)
        frozen, in_frozen_T = [], np.zeros(len(part_TYX), dtype=np.bool_)
        for first, past in same_runs(part_TYX, self.most_difference):
            start, end = pts_of_run((first, past), footage.pts_T, footage.end_pts)
            if past - first > 1 and (end - start) * footage.video.time_base >= self.least_seconds:
                frozen.append(Span(start, end, "frozen"))
                in_frozen_T[first:past] = True
        held = sum(span.end_pts - span.start_pts for span in frozen)
        return {
            "still_frozen_fraction": held / (footage.end_pts - int(footage.pts_T[0])),
            "still_frozen_spans": frozen,
            "still_repeated_fraction": float((repeats(part_TYX, self.most_difference) & ~in_frozen_T).mean()),
        }


def parts_of(gray_THW: npt.NDArray[np.uint8], cell: int = 4) -> Reals:
    """The mean of every `cell` x `cell` pixels: noise of single pixels gone, a small thing that moves still seen."""
    count, height, width = gray_THW.shape
    cut = gray_THW[:, : height // cell * cell, : width // cell * cell]
    tiles = cut.reshape(count, height // cell, cell, width // cell, cell)
    return np.asarray(tiles.mean(axis=(2, 4), dtype=np.float32))


def same_runs(part_TYX: Reals, most_difference: float) -> list[tuple[int, int]]:
    """Half-open frame numbers that tile the video: within each, all show what its first shows."""
    found, first = [], 0
    for at in range(1, len(part_TYX) + 1):
        if at == len(part_TYX) or float(np.abs(part_TYX[at] - part_TYX[first]).max()) > most_difference:
            found.append((first, at))
            first = at
    return found


def repeats(part_TYX: Reals, most_difference: float) -> Flags:
    """Frames that show the one before again, amid motion: within two frames of it there is a real change.

    So what hardly moves repeats nothing. A repeat differs by a third of what two pictures of the same may: encoders
    copy it.
    """
    change_P = np.abs(np.diff(part_TYX, axis=0)).max(axis=(1, 2))
    if not len(change_P):
        return np.zeros(len(part_TYX), dtype=np.bool_)
    moves_near_P = maximum_filter1d(change_P, 5, mode="nearest") > most_difference
    return np.append(False, (change_P <= most_difference / 3) & moves_near_P)
