"""Real motion: small pictures of every frame go in; how much of the picture moves, and how fast, leaves.

The picture is cut into blocks of 8 x 8, and each is looked for, up to `reach` pixels around, in the picture of
`lag_seconds` later. What is compared is the pattern, with each place's own brightness and contrast taken out: so a lamp
that flickers, a fade, a flash or grain is no motion, because nothing is found elsewhere better than where it was.

    ░▓░░       ░░▓░     found one to the right, much better than in place: it moved
    ░▓░░       ▒█▒▒     brighter, same pattern in place: it did not
    ....       ....     no pattern: nobody knows; left out

Speeds are in widths of the picture per second, so that they mean the same at every size and frame rate. At 64 pixels
across, what crosses less than 1/200 of the picture per second is not seen, and more than half of it per second is lost
(then nothing matches, and `motion_unmatched` is high). Where no block that was found moved, there is no motion: from
half way to the look before until half way to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from cineray.curate.footage import Footage
from cineray.curate.spans import runs
from cineray.curate.stage import Columns, Span

Reals = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

BLOCK = 8
_UNKNOWN: Columns = {
    **dict.fromkeys(("motion_fraction", "motion_speed", "motion_camera_speed", "motion_unmatched")),
    "motion_none_spans": [],
}
_CHUNK = 64
"""Pairs of pictures looked at together: memory does not grow with the video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """`motion_fraction`, `_speed`, `_camera_speed` and `_unmatched`, None where nothing has a pattern; and
    `motion_none_spans`."""

    name: ClassVar[str] = "motion"
    version: ClassVar[int] = 2
    gives: ClassVar[Mapping[str, type]] = {
        "motion_fraction": float,
        "motion_speed": float,
        "motion_camera_speed": float,
        "motion_unmatched": float,
        "motion_none_spans": list,
    }
    lag_seconds: float = 0.125
    reach: int = 4
    """Pixels, of 64 across."""
    least_texture: float = 4.0
    """Grey levels (standard deviation in the block) below which a block has no pattern."""
    least_match: float = 0.6
    """Correlation below which a block was not found at all."""
    least_gain: float = 0.02
    """By how much better it must be found elsewhere than in place."""
    least_pixels: float = 0.25
    most_pairs: int = 150
    """Looked at, evenly over the video: more hardly change the means, and this is the dearest measure."""
    least_per_second: float = 2.0
    """Pairs, in a video so long that `most_pairs` are fewer: each of its scenes is looked at."""

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        lasts = float((footage.end_pts - int(footage.pts_T[0])) * footage.video.time_base)
        most = max(self.most_pairs, int(lasts * self.least_per_second))
        first, second = lagged(footage.pts_T, int(self.lag_seconds / footage.video.time_base), most)
        if not len(first):
            return dict(_UNKNOWN)
        seen = [
            matched(footage.gray_THW[first[at : at + _CHUNK]], footage.gray_THW[second[at : at + _CHUNK]], self)
            for at in range(0, len(first), _CHUNK)
        ]
        shift_PYXD, known_PYX, textured_PYX = (np.concatenate(part) for part in zip(*seen, strict=True))
        ticks_P = footage.pts_T[second] - footage.pts_T[first]
        seconds_P = ticks_P.astype(np.float64) * float(footage.video.time_base)
        summed = _summed(
            shift_PYXD / footage.gray_THW.shape[2] / seconds_P[:, None, None, None], known_PYX, textured_PYX
        )
        none_P = np.asarray(known_PYX.any(axis=(1, 2)) & ~shift_PYXD.any(axis=(1, 2, 3)))
        summed["motion_none_spans"] = none_spans(none_P, footage.pts_T[first], footage.pts_T[second], footage.end_pts)
        return summed


def none_spans(
    none_P: Flags, first_P: npt.NDArray[np.int64], second_P: npt.NDArray[np.int64], end_pts: int
) -> list[Span]:
    """Without motion from half way to the pair before until half way to the pair after."""
    middle_P = (first_P + second_P) // 2
    edges = [int(first_P[0]), *((middle_P[:-1] + middle_P[1:]) // 2).tolist(), end_pts]
    return [Span(edges[first], edges[past], "none") for first, past in runs(none_P)]


def lagged(
    pts_T: npt.NDArray[np.int64], lag_ticks: int, most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs of frames, the second the first that is at least one lag later; at most `most`, evenly over the video."""
    second_T = np.searchsorted(pts_T, pts_T + max(lag_ticks, 1), side="left")
    first = np.flatnonzero(second_T < len(pts_T))
    if len(first) > most:
        first = first[np.linspace(0, len(first) - 1, most).round().astype(np.int64)]
    return first, second_T[first]


def matched(
    before_PHW: npt.NDArray[np.uint8], after_PHW: npt.NDArray[np.uint8], how: Motion
) -> tuple[Reals, Flags, Flags]:
    """Where each block went (y, x, in pixels; 0 where it stayed), if it was found, and if it has a pattern."""
    one, one_spread = _pattern(before_PHW)
    other, other_spread = _pattern(after_PHW)
    reach, side = how.reach, 2 * how.reach + 1
    padded = np.pad(other, ((0, 0), (reach, reach), (reach, reach)))
    height, width = one.shape[1:]
    scores = np.stack(
        [_block_means(one * padded[:, y : y + height, x : x + width]) for y in range(side) for x in range(side)],
        axis=-1,
    )
    in_place = scores[..., side * side // 2]
    best = np.take_along_axis(scores, scores.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    textured = (_block_means(one_spread) >= how.least_texture) & (_block_means(other_spread) >= how.least_texture / 2)
    found = textured & (best >= how.least_match)
    shift = np.stack(_finer(scores.reshape(*scores.shape[:-1], side, side), scores.argmax(axis=-1), reach), axis=-1)
    moved = found & (best - in_place >= how.least_gain) & (np.linalg.norm(shift, axis=-1) >= how.least_pixels)
    return np.where(moved[..., None], shift, 0).astype(np.float32), found, textured


def _pattern(picture_PHW: npt.NDArray[np.uint8]) -> tuple[Reals, Reals]:
    """Each pixel less the mean around it, over the spread around it: what is left when light is taken away."""
    picture = picture_PHW.astype(np.float32)
    centred = picture - uniform_filter(picture, (0, BLOCK + 1, BLOCK + 1), mode="nearest")
    spread = np.sqrt(uniform_filter(centred**2, (0, BLOCK + 1, BLOCK + 1), mode="nearest"))
    return centred / np.maximum(spread, 1.0), spread


def _block_means(value_PHW: Reals) -> Reals:
    count, height, width = value_PHW.shape
    cut = value_PHW[:, : height // BLOCK * BLOCK, : width // BLOCK * BLOCK]
    return np.asarray(cut.reshape(count, height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean(axis=(2, 4)))


def _finer(score_PYXSS: Reals, best_PYX: npt.NDArray[np.intp], reach: int) -> tuple[Reals, Reals]:
    """The best shift to a fraction of a pixel: the top of a parabola through the best score and its neighbours."""
    side = 2 * reach + 1
    row, column = best_PYX // side, best_PYX % side
    wide = np.pad(score_PYXSS, ((0, 0),) * 3 + ((1, 1), (1, 1)), mode="edge")
    at = np.indices(best_PYX.shape)

    def score(dy: int, dx: int) -> Reals:
        taken: Reals = wide[at[0], at[1], at[2], row + 1 + dy, column + 1 + dx]
        return taken

    def top(low: Reals, middle: Reals, high: Reals) -> Reals:
        bend = 2 * middle - low - high
        return np.where(bend > 1e-6, np.clip((high - low) / (2 * np.maximum(bend, 1e-6)), -0.5, 0.5), 0)

    middle = score(0, 0)
    y = row - reach + top(score(-1, 0), middle, score(1, 0))
    x = column - reach + top(score(0, -1), middle, score(0, 1))
    return y.astype(np.float32), x.astype(np.float32)


def _summed(speed_PYXD: npt.NDArray[np.float64], known_PYX: Flags, textured_PYX: Flags) -> Columns:
    """Over all blocks found: the part that moves, its mean speed, and the motion that a whole picture shares."""
    if not textured_PYX.any():
        return dict(_UNKNOWN)
    unmatched = float(1 - known_PYX.sum() / textured_PYX.sum())
    if not known_PYX.any():
        return _UNKNOWN | {"motion_unmatched": unmatched}
    speed_PYX = np.linalg.norm(speed_PYXD, axis=-1)
    shared = [
        float(np.linalg.norm(np.median(speed[known], axis=0)))
        for speed, known in zip(speed_PYXD, known_PYX, strict=True)
        if known.any()
    ]
    return {
        "motion_fraction": float((speed_PYX[known_PYX] > 0).mean()),
        "motion_speed": float(speed_PYX[known_PYX].mean()),
        "motion_camera_speed": float(np.mean(shared)),
        "motion_unmatched": unmatched,
    }
