"""How pictures change from frame to frame: small pictures of every frame go in; where another scene begins leaves.

    cut       A A A|B B B        the picture is another one, at once, and stays so
    fade      A a . . b B        through an even picture (black, white, plain): the boundary is in the middle of it
    dissolve  A A ab aB B B      one picture grows out of the other: each frame between is a mixture of the two
    flash     A A ¤ A A          no boundary: the picture before and the one after are the same
    pan       A A' A'' A'''      no boundary: much changes, at every frame alike

A cut is a change that stands out of the changes around it; so fast motion, which changes much for long, is none. All is
in frame numbers; windows are given in frames by whoever knows how long frames last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter1d, median_filter

from cineray.curate.pictures import parts, spreads_of
from cineray.curate.spans import runs

Reals = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Pictures = Bytes | Reals
Flags = npt.NDArray[np.bool_]

_LEVELS = 32
_EVEN_SPREAD = 6.0
"""Spread within a picture, in grey levels, below which it is even."""
_FAINTER = 0.8
"""Half of one picture through half of another has edges 0.7 times as strong as theirs, where they do not agree."""
_STEPS = 8
"""How many pictures within a window are tried for being a mixture of its two ends."""


class Boundary(NamedTuple):
    """The first frame of a scene, and how it came in: `cut`, `fade` or `dissolve`."""

    frame: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """How many frames last how long, for one video."""

    around: int
    """Around a cut: what is shorter than this and goes back to what was before is a flash."""
    plain: int
    """An even part at least so long is a scene of its own: a black leader, a title's ground."""
    dissolve: int
    """The longest dissolve."""


def boundaries(picture_THW: Bytes, windows: Windows, *, least_change: float, stands_out: float) -> list[Boundary]:
    """Fades first, then cuts away from even pictures, then dissolves where neither is."""
    even_T = np.asarray(spreads_of(picture_THW) < _EVEN_SPREAD)
    found = fades(picture_THW, even_T, windows, least_change)
    near_even_T = maximum_filter1d(even_T, 2 * windows.around + 1, mode="constant", cval=0)
    found += [cut for cut in cuts(picture_THW, windows, least_change, stands_out) if not near_even_T[cut.frame]]
    taken = [one.frame for one in found]
    for one in dissolves(picture_THW, windows):
        if all(abs(one.frame - other) > windows.around for other in taken):
            found.append(one)
    return sorted(found)


# ---- how unlike two pictures are -------------------------------------------------------------------------------------


def pattern_change(one_PHW: Pictures, other_PHW: Pictures) -> Reals:
    """Of pairs of pictures: 0 for the same pattern whatever its light, 1 for two that do not agree anywhere."""
    one, other = (_centred(part) for part in (one_PHW, other_PHW))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    agree = (one * other).sum(axis=1) / np.maximum(norms, 1e-6)
    both_even = norms < one.shape[1]  # neither has a pattern: only their level could tell them apart
    return np.asarray(np.where(both_even, 0, 1 - np.clip(agree, 0, 1)), dtype=np.float32)


def light_change(one_PHW: Pictures, other_PHW: Pictures) -> Reals:
    """How differently grey levels are spread, 0 to 1, wherever in the picture they are: motion hardly changes it."""
    distance = np.abs(_levels(one_PHW) - _levels(other_PHW)).mean(axis=1)
    return np.asarray(np.minimum(4 * distance, 1), dtype=np.float32)


def unlike(one_PHW: Pictures, other_PHW: Pictures) -> Reals:
    """The mean of both. The first alone takes motion for a change, the second light; a change of scene changes both."""
    return np.asarray((pattern_change(one_PHW, other_PHW) + light_change(one_PHW, other_PHW)) / 2)


def _centred(picture_PHW: Pictures) -> Reals:
    flat = picture_PHW.reshape(len(picture_PHW), -1).astype(np.float32)
    return np.asarray(flat - flat.mean(axis=1, keepdims=True))


def _levels(picture_PHW: Pictures) -> Reals:
    """Grey levels at even ranks: the distance of two such lists knows near levels from far ones."""
    flat = np.sort(picture_PHW.reshape(len(picture_PHW), -1), axis=1)
    at = np.linspace(0, flat.shape[1] - 1, _LEVELS).astype(np.int64)
    return np.asarray(flat[:, at].astype(np.float32) / 255)


# ---- cuts ------------------------------------------------------------------------------------------------------------


def cuts(picture_THW: Bytes, windows: Windows, least_change: float, stands_out: float) -> list[Boundary]:
    """Changes that stand out of those around them, and after which the picture stays another one.

    Half the change is enough where it stands out three times as much: a cut in a part of an otherwise still picture.
    """
    change_P = changes(picture_THW)
    usual_P = median_filter(change_P, 2 * windows.around + 1, mode="nearest")
    peak_P = change_P >= maximum_filter1d(change_P, 3, mode="nearest")
    clear_P = (change_P >= least_change) & (change_P >= stands_out * usual_P)
    sharp_P = (change_P >= least_change / 2) & (change_P >= 3 * stands_out * usual_P)
    found = []
    for frame in (np.flatnonzero(peak_P & (clear_P | sharp_P)) + 1).tolist():
        only_light = pattern_change(picture_THW[[frame - 1]], picture_THW[[frame]])[0] < least_change / 4
        if not only_light and not came_back(picture_THW, frame, float(change_P[frame - 1]) / 2, windows.around):
            found.append(Boundary(frame, "cut"))
    return found


def changes(picture_THW: Bytes) -> Reals:
    """How unlike each frame is to the one before it; a part of the video at a time."""
    found = [unlike(part[:-1], part[1:]) for part in parts(picture_THW, overlap=1)]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.float32)


def came_back(picture_THW: Bytes, frame: int, most: float, around: int) -> bool:
    """A flash, or a picture put in: soon after the change one is as it was shortly before it."""
    before, later = picture_THW[max(frame - around, 0) : frame], picture_THW[frame : frame + around]
    a, b = np.divmod(np.arange(len(before) * len(later)), len(later))
    return bool((unlike(before[a], later[b]) < most).any())


# ---- fades -----------------------------------------------------------------------------------------------------------


def fades(picture_THW: Bytes, even_T: Flags, windows: Windows, least_change: float) -> list[Boundary]:
    """Even pictures between two that are not: one boundary in their middle; two, around them, where they last.

    A blink of black in one scene is none, and what fades in from the begin or out to the end divides nothing.
    """
    found: list[Boundary] = []
    last = len(picture_THW)
    for first, past in runs(even_T):
        lasts = past - first >= windows.plain
        if lasts:
            found += [Boundary(frame, "fade") for frame in (first, past) if 0 < frame < last]
        elif first > 0 and past < last:
            # The pictures next to it may be almost dark, and their pattern still tells.
            same = pattern_change(picture_THW[[first - 1]], picture_THW[[past]])[0] < 2 * least_change
            if not same or past - first > windows.around:
                found.append(Boundary((first + past) // 2, "fade"))
    return found


# ---- dissolves -------------------------------------------------------------------------------------------------------


def dissolves(picture_THW: Bytes, windows: Windows, *, most_rest: float = 0.6) -> list[Boundary]:
    """Where two pictures have other patterns, and all between are mixtures, more and more of the second.

    Each picture between is laid on the line from one end to the other; what is left beside the line, `most_rest` of the
    line's length at most, is no mixture. What moves from one place to another leaves much, and its edges stay as strong
    as they were, where two pictures through each other have fainter ones.
    """
    found: list[tuple[float, int]] = []
    for length in {windows.dissolve, windows.dissolve // 2, windows.dissolve // 4}:
        if length < 4 or length >= len(picture_THW):
            continue
        for first in range(0, len(picture_THW) - length, max(length // 8, 1)):
            mixed = _mixed(picture_THW[first : first + length + 1], most_rest)
            if mixed is not None:
                found.append((mixed[0], first + mixed[1]))
    kept: list[int] = []
    for _, frame in sorted(found):
        if all(abs(frame - other) > windows.dissolve for other in kept):
            kept.append(frame)
    return [Boundary(frame, "dissolve") for frame in kept]


def _mixed(window_LHW: Bytes, most_rest: float) -> tuple[float, int] | None:
    """What is left beside the line, and the first frame that is more of the last picture than of the first."""
    if pattern_change(window_LHW[:1], window_LHW[-1:])[0] < 0.5:
        return None
    at = np.unique(np.linspace(0, len(window_LHW) - 1, _STEPS + 1).astype(np.int64))
    flat = window_LHW[at].reshape(len(at), -1).astype(np.float32)
    line = flat[-1] - flat[0]
    length_square = float(line @ line)
    share = (flat - flat[0]) @ line / length_square
    rest = np.linalg.norm(flat - flat[0] - share[:, None] * line, axis=1) / np.sqrt(length_square)
    steps = np.diff(share)
    if rest.max() > most_rest or steps.min() < -0.05 or steps.max() > 0.6:
        return None  # too far off the line; going back; or all at once, which is a cut
    whole = window_LHW.reshape(len(window_LHW), -1).astype(np.float32)
    middle = int(np.argmax((whole - whole[0]) @ line / length_square >= 0.5))
    if _edges(window_LHW[middle]) > _FAINTER * (_edges(window_LHW[0]) + _edges(window_LHW[-1])) / 2:
        return None
    return float(rest.max()), middle


def _edges(picture_HW: Bytes) -> float:
    """How strong the edges of a picture are, all in all."""
    picture = picture_HW.astype(np.float32)
    down, across = np.diff(picture, axis=0), np.diff(picture, axis=1)
    return float(np.sqrt((down**2).mean() + (across**2).mean()))
