"""How alike two videos are: two signatures go in; two correlations, at the place in time where they are best, leave.

    one     a b c d e f g h         the longer period of the two is taken; then the second is laid along the first at
    other       c d e f             every offset, by half periods, mirrored or not, where enough of them overlaps

    look    the mean correlation of the pictures: high for all that is filmed at one place
    change  the correlation of what changes from period to period: high only where the same happens

Two clips of one scene look alike and change otherwise; a copy does both. Where nothing changes in either, pictures
alone must tell, and must agree more closely.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cineray.curate.signatures import MIRROR_D, Signature

Reals = npt.NDArray[np.float32]
Sums = npt.NDArray[np.float64]


class Likeness(NamedTuple):
    """At the best offset; `change` is None where neither changes."""

    look: float
    change: float | None
    mirrored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """From when on two videos show the same; decision 0025 has what copies and strangers measure."""

    look: float = 0.7
    change: float = 0.55
    still_look: float = 0.97
    """Where nothing changes."""
    still_change: float = 0.02
    """Change, over the whole picture's strength, up to which nothing changes: what codecs and grain do."""
    overlap: float = 0.5
    """Of the shorter one."""
    least_periods: int = 4
    """At least so many must overlap. A video of fewer is compared with its like only: in a long one of the same place a
    blink of it would be found somewhere."""

    def holds(self, one: Likeness) -> bool:
        """Whether these two are copies."""
        if one.change is None:
            return one.look >= self.still_look
        return one.look >= self.look and one.change >= self.change


ALIKE = Alike()
NOTHING = Likeness(-1.0, -1.0, False)


def likeness(
    one: Signature, other: Signature, alike: Alike = ALIKE, *, mirrored: tuple[bool, ...] = (False, True)
) -> Likeness:
    """The best comparison: as it is and mirrored (or only one of them), over all offsets, then over those between."""
    octave = max(one.octave, other.octave)
    first, second = joined(one, octave), joined(other, octave)
    best, shorter = NOTHING, min(len(first), len(second))
    if not shorter or (shorter < alike.least_periods and abs(len(first) - len(second)) > 1):
        return best
    for turned in mirrored:
        laid = second * MIRROR_D.astype(np.float32) if turned else second
        # Half a period on: the mean of neighbours. Needed only where whole offsets do not fit.
        for between in (False, True) if len(laid) > 2 else (False,):
            part = (laid[1:] + laid[:-1]) / np.float32(2) if between else laid
            best = max(best, _along(first, part, alike, mirrored=turned), key=lambda told: _rank(told, alike))
            if alike.holds(best):
                return best
    return best


def joined(signature: Signature, octave: int) -> Reals:
    """The signature in longer periods: the means of two, four, eight of its own; a rest that fills none is left out."""
    look_KD = signature.look_KD.astype(np.float32) * np.float32(signature.scale)
    each = 2 ** (octave - signature.octave)
    count = len(look_KD) // each
    return np.asarray(look_KD[: count * each].reshape(count, each, look_KD.shape[1]).mean(axis=1))


def _rank(told: Likeness, alike: Alike) -> tuple[bool, float]:
    return alike.holds(told), told.look + (told.change if told.change is not None else told.look)


def _along(first_KD: Reals, second_KD: Reals, alike: Alike, *, mirrored: bool) -> Likeness:
    """The best of all offsets that leave enough overlap. Diagonals of one product hold all of them."""
    count, other_count = len(first_KD), len(second_KD)
    offset = _offsets(count, other_count)
    periods_O = np.bincount(offset)
    look_O = np.bincount(offset, _cosines(first_KD, second_KD).ravel()) / periods_O
    least = max(alike.overlap * min(count, other_count), min(alike.least_periods, count, other_count))
    enough_O = periods_O >= least
    best = int(np.where(enough_O, look_O, -2).argmax())
    if min(count, other_count) < 2 or look_O[best] < alike.look:
        # Nothing to see of change, or nothing that it could help.
        change = None if min(count, other_count) < 2 else -1.0
        return Likeness(float(look_O[best]), change, mirrored) if enough_O[best] else NOTHING
    change_O, moved_O = _changes(first_KD, second_KD, alike.still_change)
    # Offsets of the changes are those of the periods, but for the two outermost, which have no change.
    inner_O, look_O = enough_O[1:-1], look_O[1:-1]
    holds_O = np.where(moved_O, (look_O >= alike.look) & (change_O >= alike.change), look_O >= alike.still_look)
    rank_O = np.where(inner_O, look_O + np.where(moved_O, change_O, look_O) + 4 * holds_O, -8)
    best = int(rank_O.argmax())
    if not inner_O[best]:
        return NOTHING
    return Likeness(float(look_O[best]), float(change_O[best]) if moved_O[best] else None, mirrored)


def _changes(first_KD: Reals, second_KD: Reals, still: float) -> tuple[Sums, npt.NDArray[np.bool_]]:
    """At each offset: the correlation of all changes together, and whether there is any to speak of."""
    change, other_change = np.diff(first_KD, axis=0), np.diff(second_KD, axis=0)
    offset = _offsets(len(change), len(other_change))
    strength, other_strength = (np.square(part).sum(axis=1, dtype=np.float64) for part in (change, other_change))
    power_O = np.bincount(offset, np.repeat(strength, len(other_change)))
    other_power_O = np.bincount(offset, np.tile(other_strength, len(change)))
    agree_O = np.bincount(offset, (change @ other_change.T).ravel())
    whole, other_whole = (float(np.square(part).sum(axis=1).mean()) for part in (first_KD, second_KD))
    count_O = np.bincount(offset)
    moved_O = (power_O > still**2 * whole * count_O) | (other_power_O > still**2 * other_whole * count_O)
    return agree_O / np.sqrt(power_O * other_power_O + 1e-9), np.asarray(moved_O)


@lru_cache(maxsize=4096)
def _offsets(rows: int, columns: int) -> npt.NDArray[np.int64]:
    """Of each place of a table: which diagonal it lies on, counted from the lower left corner."""
    return (np.arange(rows)[:, None] - np.arange(columns)[None]).ravel() + columns - 1


def _cosines(first_KD: Reals, second_KD: Reals) -> Reals:
    norms = np.outer(np.linalg.norm(first_KD, axis=1), np.linalg.norm(second_KD, axis=1))
    return np.asarray(first_KD @ second_KD.T / np.maximum(norms, 1e-6))
