"""Who comes next when several share one line by weight: position in, (who, their how-manieth) out, both ways in O(1).

A cycle of whole-number quotas is laid out as evenly as it goes and repeated for ever, so any stretch of positions holds
each share to within about one. Weights that people write (0.7, 0.2, 0.1) are kept exactly, odd ones to one in 16384.

    weights 3 1     A B A A | A B A A | ...      position 6 is A's number 4 (from 0)
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_FINEST = 1 << 14


class Cycle:
    """A repeating line of members by weight."""

    __slots__ = ("_before", "_line", "_quota", "quotas")

    def __init__(self, weights: Sequence[Fraction | int]) -> None:
        self.quotas = quotas_of(weights)
        self._quota = np.array(self.quotas, dtype=np.int64)
        members = np.repeat(np.arange(len(self.quotas)), self._quota)
        number = np.concatenate([np.arange(quota) for quota in self.quotas])
        # The k-th of q turns wants to stand at (k + 1/2) / q of the cycle: compared as integers, ties by member.
        shift = np.lcm.reduce(np.unique(self._quota).astype(object))
        wanted = (2 * number.astype(object) + 1) * (shift // self._quota[members].astype(object))
        order = sorted(range(len(members)), key=lambda at: (wanted[at], members[at]))
        self._line = members[order]
        self._before = number[order]

    def __len__(self) -> int:
        return len(self._line)

    def at(self, positions: Ints) -> tuple[Ints, Ints]:
        """Whose turn it is at each position, and how many turns they had before."""
        rounds, within = np.divmod(positions, len(self._line))
        members = self._line[within]
        return members, rounds * self._quota[members] + self._before[within]

    def most(self, member: int, length: int) -> int:
        """How many turns a member has, at most, in any `length` positions in a row."""
        rounds, rest = divmod(length, len(self._line))
        turns = np.cumsum(np.concatenate([[False], self._line == member, self._line == member]))
        return rounds * self.quotas[member] + int(
            np.max(turns[rest : rest + len(self._line)] - turns[: len(self._line)])
        )


def quotas_of(weights: Sequence[Fraction | int]) -> tuple[int, ...]:
    """Whole numbers in the weights' proportion, as small as exactness allows, else rounded to 16384 in all."""
    total = sum(weights, Fraction(0))
    shares = [Fraction(weight) / total for weight in weights]
    common = int(np.lcm.reduce([share.denominator for share in shares], dtype=object))
    if common <= _FINEST:
        return tuple(int(share * common) for share in shares)
    quotas = [max(1, int(share * _FINEST)) for share in shares]
    # What rounding down left over goes to those who lost most of it; ties to the first.
    lost = sorted(range(len(shares)), key=lambda member: (quotas[member] - shares[member] * _FINEST, member))
    for member in lost[: max(0, _FINEST - sum(quotas))]:
        quotas[member] += 1
    return tuple(quotas)
