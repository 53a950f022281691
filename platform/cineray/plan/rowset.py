"""Which clip rows may be drawn, without listing them where there is nothing to list: a count in, row numbers out.

    RowSet.span(10, 5)            10 11 12 13 14       three integers, however long
    RowSet.of([3, 4, 9])          3 4 9                four bytes a row

`Units` is what an order permutes: the rows of one or several datasets, one behind the other, each row counted as often
as it has windows. A unit's number goes in; the dataset, the row and the window come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class RowSet:
    """An ordered set of row numbers: `start, start + step, ...`, or those of an array."""

    start: int
    count: int
    step: int = 1
    listed: npt.NDArray[np.uint32] | npt.NDArray[np.int64] | None = None

    @classmethod
    def span(cls, start: int, count: int, step: int = 1) -> RowSet:
        """`count` rows from `start` on, `step` apart."""
        return cls(start, count, step)

    @classmethod
    def of(cls, rows: npt.ArrayLike) -> RowSet:
        """These rows, ascending; kept as a span where they are one."""
        numbers = np.asarray(rows, dtype=np.int64)
        if not numbers.size:
            return cls(0, 0)
        start, last = int(numbers[0]), int(numbers[-1])
        step = int(numbers[1]) - start if numbers.size > 1 else 1
        if step > 0 and last == start + step * (numbers.size - 1) and bool(np.all(np.diff(numbers) == step)):
            return cls(start, numbers.size, step)
        kept: npt.NDArray[np.uint32] | Ints = numbers.astype(np.uint32) if last < 1 << 32 else numbers
        kept.flags.writeable = False
        return cls(0, numbers.size, 1, kept)

    def __len__(self) -> int:
        return self.count

    def at(self, positions: Ints) -> Ints:
        """The rows at these positions of the set."""
        if self.listed is not None:
            return self.listed[positions].astype(np.int64)
        return self.start + self.step * positions


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Rows of one dataset; with `ends`, row number i of the set has windows `ends[i - 1] .. ends[i]`."""

    dataset: int
    rows: RowSet
    ends: Ints | None = None

    @property
    def count(self) -> int:
        """How many units it has."""
        if self.ends is None:
            return len(self.rows)
        return int(self.ends[-1]) if self.ends.size else 0

    def at(self, numbers: Ints) -> tuple[Ints, Ints]:
        """The rows and windows of these units."""
        if self.ends is None:
            return self.rows.at(numbers), np.zeros_like(numbers)
        owners = np.searchsorted(self.ends, numbers, side="right")
        before = np.where(owners > 0, self.ends[np.maximum(owners - 1, 0)], 0)
        return self.rows.at(owners), numbers - before


class Units:
    """Rows of several datasets behind one another, as one line of units."""

    __slots__ = ("_starts", "count", "parts")

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(part for part in parts if part.count)
        starts = np.cumsum([0, *(part.count for part in self.parts)], dtype=np.int64)
        self.count = int(starts[-1])
        self._starts = starts[:-1]

    def __len__(self) -> int:
        return self.count

    def at(self, numbers: Ints) -> tuple[Ints, Ints, Ints]:
        """Dataset, row and window of each unit."""
        if len(self.parts) == 1:
            rows, windows = self.parts[0].at(numbers)
            return np.full_like(numbers, self.parts[0].dataset), rows, windows
        owners = np.searchsorted(self._starts, numbers, side="right") - 1
        datasets, rows, windows = np.empty_like(numbers), np.empty_like(numbers), np.empty_like(numbers)
        for owner in np.unique(owners).tolist():
            here = owners == owner
            part = self.parts[owner]
            datasets[here] = part.dataset
            rows[here], windows[here] = part.at(numbers[here] - self._starts[owner])
        return datasets, rows, windows
