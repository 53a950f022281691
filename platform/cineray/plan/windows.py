"""Which bucket a window is of, and the how-manieth of it: a window's number in, (bucket, ordinal) out. No state.

`Natural`: each bucket has as many windows as its units fill, so that all buckets end an epoch together, exactly. Within
an epoch the windows of all buckets are one shuffled line; those that reach into the next epoch (where a batch does not
divide a bucket's units) come last.

    3 windows of A, 2 of B, and one of A that is begun      A B A A B | A'
    by the end of epoch e a bucket of n units has had ceil((e + 1) * n / batch) windows: the next begins where it ended

`Weighted`: shares that somebody chose, in a fixed cycle; then each bucket passes its units at a speed of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from cineray.plan.mixture import Cycle
from cineray.plan.permutation import Permutation, key_bytes


@dataclass(frozen=True, slots=True)
class Natural:
    """Buckets of `units`, in windows of `sizes`, each unit once an epoch."""

    units: tuple[int, ...]
    sizes: tuple[int, ...]
    key: bytes

    def at(self, window: int) -> tuple[int, int]:
        """The bucket and ordinal of a window."""
        epoch = self.epoch_of(window)
        before = [-(-epoch * units // size) for units, size in self._pairs]
        whole = [(epoch + 1) * units // size - done for (units, size), done in zip(self._pairs, before, strict=True)]
        # A bucket may have none: a window that was begun epochs ago still reaches over this one.
        begun = [bucket for bucket, (units, size) in enumerate(self._pairs) if self._begins(epoch, units, size)]
        place = window - sum(before)
        whole = [max(0, count) for count in whole]
        if place < sum(whole):
            place = self._shuffled("whole", epoch, sum(whole))[place] if len(self.units) > 1 else place
            for bucket, count in enumerate(whole):
                if place < count:
                    return bucket, before[bucket] + place
                place -= count
        bucket = begun[self._shuffled("begun", epoch, len(begun))[place - sum(whole)]]
        return bucket, before[bucket] + whole[bucket]

    def _begins(self, epoch: int, units: int, size: int) -> bool:
        """Whether a window of the bucket begins in this epoch and ends in a later one."""
        end = (epoch + 1) * units
        return end % size != 0 and end // size * size >= epoch * units

    def epoch_of(self, window: int) -> int:
        """The epoch in which a window begins."""
        rate = sum((Fraction(units, size) for units, size in self._pairs), Fraction(0))
        epoch = window * rate.denominator // rate.numerator
        while self.first_window(epoch) > window:
            epoch -= 1
        return epoch

    def first_window(self, epoch: int) -> int:
        """How many windows begin before an epoch."""
        return sum(-(-epoch * units // size) for units, size in self._pairs)

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.units, self.sizes, strict=True))

    def _shuffled(self, what: str, epoch: int, count: int) -> Permutation:
        return Permutation(count, key_bytes(self.key.hex(), what, epoch))


class Weighted:
    """Buckets by chosen shares; an epoch is as many windows as show as many clips as there are units."""

    __slots__ = ("_buckets", "_cycle", "_per_epoch")

    def __init__(self, shares: Sequence[Fraction], sizes: Sequence[int], units: int) -> None:
        self._buckets = [bucket for bucket, share in enumerate(shares) if share]
        self._cycle = Cycle([share for share in shares if share])
        quotas = self._cycle.quotas
        clips = sum(quota * sizes[bucket] for quota, bucket in zip(quotas, self._buckets, strict=True))
        self._per_epoch = max(1, -(-units * sum(quotas) // clips))

    def at(self, window: int) -> tuple[int, int]:
        """The bucket and ordinal of a window."""
        members, ordinals = self._cycle.at(np.array([window]))
        return self._buckets[int(members[0])], int(ordinals[0])

    def epoch_of(self, window: int) -> int:
        """How often as many clips were shown as there are."""
        return window // self._per_epoch

    def first_window(self, epoch: int) -> int:
        """How many windows come before an epoch."""
        return epoch * self._per_epoch
