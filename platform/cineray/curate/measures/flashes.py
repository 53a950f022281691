"""Flashes: small pictures of every frame go in; how often the light jumps and comes back leaves.

    brightness  ____|‾|____     a flash: away by `least_step` and back within `longest_seconds`, the picture the same
    brightness  ____|‾‾‾‾‾‾     a cut or a lamp: it does not come back

Photosensitive people are harmed from three flashes a second; so `flashes_per_second` is of the worst second, and a
strobe, more than `most_per_second` within a second, has its times: one bad second is no fault of the hour around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cineray.curate.footage import Footage
from cineray.curate.pictures import means_of
from cineray.curate.stage import Columns, Span

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flashes:
    """`flashes_count`, `flashes_per_second` (in the worst second), `flashes_spans` and `flashes_strobe_spans`."""

    name: ClassVar[str] = "flashes"
    version: ClassVar[int] = 2
    gives: ClassVar[Mapping[str, type]] = {
        "flashes_count": int,
        "flashes_per_second": int,
        "flashes_spans": list,
        "flashes_strobe_spans": list,
    }
    least_step: float = 20.0
    """Grey levels of 255 by which the mean of the picture must change."""
    longest_seconds: float = 0.34
    most_changed: float = 14.0
    """Mean difference of the pictures before and after, in grey levels, above which it was two cuts and no flash."""
    most_per_second: int = 3

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        longest_ticks = int(self.longest_seconds / footage.video.time_base)
        found = flash_frames(footage.gray_THW, footage.pts_T, longest_ticks, self.least_step, self.most_changed)
        starts = np.array([int(footage.pts_T[first]) for first, _ in found], dtype=np.int64)
        second_ticks = int(1 / footage.video.time_base)
        spans = [Span(int(footage.pts_T[a]), int(footage.pts_T[b]), "flash") for a, b in found]
        within = np.searchsorted(starts, starts + second_ticks) - np.arange(len(starts))
        return {
            "flashes_count": len(found),
            "flashes_per_second": int(within.max(initial=0)),
            "flashes_spans": spans,
            "flashes_strobe_spans": strobes(spans, second_ticks, self.most_per_second),
        }


def strobes(flashes: Sequence[Span], second_ticks: int, most_per_second: int) -> list[Span]:
    """From the first to the last flash of those that come too many within a second."""
    found: list[Span] = []
    for first, last in zip(flashes, flashes[most_per_second:], strict=False):
        if last.start_pts - first.start_pts >= second_ticks:
            continue
        if found and first.start_pts <= found[-1].end_pts:
            found[-1] = Span(found[-1].start_pts, last.end_pts, "strobe")
        else:
            found.append(Span(first.start_pts, last.end_pts, "strobe"))
    return found


def flash_frames(
    gray_THW: npt.NDArray[np.uint8],
    pts_T: npt.NDArray[np.int64],
    longest_ticks: int,
    least_step: float,
    most_changed: float,
) -> list[tuple[int, int]]:
    """Half-open frame numbers of every flash: the frames that are lit (or dark) between two that look alike."""
    mean_T = means_of(gray_THW)
    found: list[tuple[int, int]] = []
    at = 1
    while at < len(mean_T):
        step = mean_T[at] - mean_T[at - 1]
        past = _back_at(mean_T, pts_T, at, step, longest_ticks) if abs(step) >= least_step else None
        if past is None or _difference(gray_THW, at - 1, past) > most_changed:
            at += 1
            continue
        found.append((at, past))
        at = past + 1
    return found


def _back_at(mean_T: Reals, pts_T: npt.NDArray[np.int64], at: int, step: float, longest_ticks: int) -> int | None:
    """The first frame, soon after, whose brightness is again nearer to that before the step than half of it."""
    before = mean_T[at - 1]
    for past in range(at + 1, len(mean_T)):
        if pts_T[past] - pts_T[at] > longest_ticks:
            return None
        if abs(mean_T[past] - before) < abs(step) / 2:
            return past
    return None


def _difference(gray_THW: npt.NDArray[np.uint8], a: int, b: int) -> float:
    """Mean difference of two pictures, their brightness taken out."""
    one, other = gray_THW[a].astype(np.float64), gray_THW[b].astype(np.float64)
    return float(np.abs((one - one.mean()) - (other - other.mean())).mean())
