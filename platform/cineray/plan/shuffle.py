"""One endless line of units, shuffled anew each epoch: positions in, (epoch, unit) out, nothing kept.

Epoch and place follow from `divmod(position, count)`, the unit from that epoch's keyed permutation. Each epoch shows
each unit exactly once. Two showings of one unit, in one epoch and the next, lie at least `apart` positions from each
other wherever there are so many units: a batch of no more than `apart` clips that reaches over the end of an epoch
shows none twice. For that, those of the first units of an epoch that were just shown go behind their neighbours:

    end of epoch 4     ... c f a      apart = 4
    epoch 5, drawn     g a c b d e h ...
    epoch 5, shown     g b d e a c h ...         (of the first six, those shown within the last three come last)

With fewer than three times as many units there is no room for that; then an epoch shuffles only within blocks so short
that the distance is kept. With no more units than `apart` the order stays, and repeats come as late as they can.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cineray.plan.permutation import Permutation, key_bytes

Ints = npt.NDArray[np.int64]


class Shuffle:
    """The line of `count` units for ever."""

    __slots__ = ("_behind", "_key", "count")

    def __init__(self, count: int, key: bytes, *, apart: int = 1) -> None:
        self.count = count
        self._key = key
        self._behind = max(1, min(apart, count)) - 1

    def at(self, positions: Ints) -> tuple[Ints, Ints]:
        """Epoch and unit at each position of the line."""
        if positions.size == 1:  # one clip of each of many labels: arrays of one would cost ten times as much
            epoch, place = divmod(int(positions[0]), self.count)
            return np.array([epoch]), np.array([self._unit(epoch, place)])
        epochs, places = np.divmod(positions, self.count)
        first, last = int(epochs.min()), int(epochs.max())
        if first == last:
            return epochs, self._units(first, places)
        units = np.empty_like(places)
        for epoch in range(first, last + 1):
            here = epochs == epoch
            if here.any():
                units[here] = self._units(epoch, places[here])
        return epochs, units

    def _unit(self, epoch: int, place: int) -> int:
        behind = self._behind
        if self.count < 3 * behind or (epoch and place < 2 * behind):
            return int(self._units(epoch, np.array([place]))[0])
        return self._permutation("all", epoch, self.count)[place]

    def _units(self, epoch: int, places: Ints) -> Ints:
        behind = self._behind
        if self.count < 3 * behind:
            return self._within_blocks(epoch, places, self.count - behind)
        units = self._permutation("all", epoch, self.count).at(places)
        early = places < 2 * behind
        if epoch and early.any():
            units[early] = self._head(epoch)[places[early]]
        return units

    def _head(self, epoch: int) -> Ints:
        """The first units of an epoch, those that ended the epoch before put last. The end of an epoch never moves."""
        first = self._permutation("all", epoch, self.count).at(np.arange(2 * self._behind))
        end = np.arange(self.count - self._behind, self.count)
        again = np.isin(first, self._permutation("all", epoch - 1, self.count).at(end))
        return np.concatenate([first[~again], first[again]])

    def _within_blocks(self, epoch: int, places: Ints, size: int) -> Ints:
        """The same order of blocks in each epoch, a fresh shuffle within each."""
        moved = places.copy()
        for block in np.unique(places // size).tolist() if size > 1 else ():
            start = block * size
            here = (places >= start) & (places < start + size)
            shuffled = self._permutation(f"block {block}", epoch, min(size, self.count - start))
            moved[here] = start + shuffled.at(places[here] - start)
        return self._permutation("blocks", 0, self.count).at(moved)

    def _permutation(self, what: str, epoch: int, count: int) -> Permutation:
        return Permutation(count, key_bytes(self._key.hex(), what, epoch))
