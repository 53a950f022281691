"""Which clip stands where: a window's number and its slots in, visits out. Everything is arithmetic; nothing is kept.

    step -> window -> bucket, ordinal -> positions -> dataset, place in its line -> group -> epoch, unit -> row, window

A step belongs to window `step // clips_per_visit`; the steps of a window show the same rows in the same slots, one
draw each. The n-th window of a bucket takes positions `n * size ...` of the bucket's endless line. Without weights that
line is one shuffle of the rows of all datasets, each row once an epoch. With weights, each dataset has a line of its
own, and a fixed cycle says whose turn it is. Where labels or captions are balanced, a dataset's line takes its groups
in turn, in a shuffled order each time round, and each group has a shuffle of its own.

Promises: a row is shown once in each epoch of its line; a batch shows no row twice where there are as many rows, also
where it reaches over the end of an epoch (its first slots then belong to one epoch, the others to the next). Rows are
told apart, and so are videos as long as a row is a whole video; two spans of one video may meet in a batch by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cineray.errors import UsageError
from cineray.plan.eligible import Eligible, Group
from cineray.plan.mixture import Cycle
from cineray.plan.permutation import Permutation, key_bytes
from cineray.plan.recipe import Recipe
from cineray.plan.rowset import Part, Units
from cineray.plan.shuffle import Shuffle
from cineray.plan.windows import Natural, Weighted

Ints = npt.NDArray[np.int64]


class Visit(NamedTuple):
    """One row that a slot shows throughout a window."""

    dataset: int
    clip_number: int
    window: int
    """Which of the row's windows; 0 but for `all_windows`."""
    epoch: int


class _Columns(NamedTuple):
    datasets: Ints
    rows: Ints
    windows: Ints
    epochs: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Rows that follow one another for ever: one shuffle, or several in turn."""

    groups: tuple[Units, ...]
    shuffles: tuple[Shuffle, ...]
    key: bytes

    @classmethod
    def of(cls, groups: Sequence[Units], key: bytes, apart: int) -> Line:
        """The line of these groups, where `apart` neighbouring positions may fall into one batch."""
        each = apart if len(groups) == 1 else -(-apart // len(groups)) + 1
        keys = [key_bytes(key.hex(), "group", number) for number in range(len(groups))]
        pairs = zip(groups, keys, strict=True)
        return cls(tuple(groups), tuple(Shuffle(len(units), own, apart=each) for units, own in pairs), key)

    @property
    def units(self) -> int:
        """How many rows (or windows of rows) lie in it."""
        return sum(len(units) for units in self.groups)

    def at(self, positions: Ints) -> _Columns:
        """Who stands at these positions."""
        if len(self.groups) == 1:
            return self._of_group(0, positions)
        rounds, turns = np.divmod(positions, len(self.groups))
        columns = _Columns(*(np.empty_like(positions) for _ in range(4)))
        owners = np.empty_like(positions)
        for number in np.unique(rounds).tolist():
            here = rounds == number
            owners[here] = Permutation(len(self.groups), key_bytes(self.key.hex(), "turn", number)).at(turns[here])
        order = np.argsort(owners, kind="stable")
        begins = np.flatnonzero(np.diff(owners[order], prepend=-1))
        for here in np.split(order, begins[1:]):
            owner = int(owners[here[0]])
            for column, found in zip(columns, self._of_group(owner, rounds[here]), strict=True):
                column[here] = found
        return columns

    def _of_group(self, group: int, positions: Ints) -> _Columns:
        epochs, units = self.shuffles[group].at(positions)
        return _Columns(*self.groups[group].at(units), epochs)


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """One shape's endless line: one line of rows, or several by weight."""

    size: int
    lines: tuple[Line, ...]
    cycle: Cycle | None

    @property
    def units(self) -> int:
        """How many rows (or windows of rows) lie in it."""
        return sum(line.units for line in self.lines)

    def at(self, positions: Ints) -> _Columns:
        """Who stands at these positions."""
        if self.cycle is None:
            return self.lines[0].at(positions)
        members, places = self.cycle.at(positions)
        columns = _Columns(*(np.empty_like(positions) for _ in range(4)))
        for member in np.unique(members).tolist():
            here = members == member
            for column, found in zip(columns, self.lines[member].at(places[here]), strict=True):
                column[here] = found
        return columns


class Order:
    """The order of everything that may be drawn, for one recipe and seed."""

    def __init__(self, recipe: Recipe, eligible: Sequence[Eligible], seed: int) -> None:
        self.recipe = recipe
        self.sizes = tuple(recipe.size_of(bucket) for bucket in recipe.shapes)
        self._key = key_bytes("order", seed)
        _refuse_nothing(recipe, eligible)
        self.buckets = tuple(self._bucket(number, eligible) for number in range(len(self.sizes)))
        self.windows = self._windows(eligible)

    @property
    def units(self) -> int:
        """How many rows (or windows of rows) may be drawn."""
        return sum(bucket.units for bucket in self.buckets)

    def window(self, number: int) -> tuple[int, int]:
        """The bucket of a window, and its ordinal among that bucket's windows."""
        if number < 0:
            raise UsageError(f"window {number} was asked for; steps and windows count from 0")
        bucket, ordinal = self.windows.at(number)
        return bucket, ordinal

    def visits(self, bucket: int, ordinal: int, slots: Sequence[int]) -> list[Visit]:
        """The rows in these slots of the bucket's n-th window."""
        if not slots:
            return []
        columns = self.buckets[bucket].at(np.array(slots, dtype=np.int64) + ordinal * self.sizes[bucket])
        return [Visit(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]

    def _bucket(self, number: int, eligible: Sequence[Eligible]) -> Bucket:
        size = self.sizes[number]
        key = key_bytes(self._key.hex(), "bucket", number)
        held = [(dataset, found.buckets[number]) for dataset, found in enumerate(eligible) if found.buckets[number]]
        if not self._weighted:
            units = Units([_part(dataset, group) for dataset, groups in held for group in groups])
            return Bucket(size, (Line.of([units], key, size),) if len(units) else (), None)
        shares = [self._share(dataset, number, eligible) for dataset, _ in held]
        cycle = Cycle(shares) if len(held) > 1 else None
        lines = []
        for member, (dataset, groups) in enumerate(held):
            apart = cycle.most(member, size) if cycle is not None else size
            units_of = [Units([_part(dataset, group)]) for group in groups]
            lines.append(Line.of(units_of, key_bytes(key.hex(), "dataset", dataset), apart))
        return Bucket(size, tuple(lines), cycle)

    @property
    def _weighted(self) -> bool:
        """Whether some rows are drawn more often than others, so that datasets and buckets run at their own speeds."""
        specs = self.recipe.datasets
        return specs[0].weight is not None or any(spec.balance != "none" for spec in specs)

    def _share(self, dataset: int, bucket: int, eligible: Sequence[Eligible]) -> Fraction:
        """The share of all clips that a dataset gives to a bucket: its weight, divided as its own rows are."""
        here = _units_in(eligible[dataset].buckets[bucket])
        weight = self.recipe.datasets[dataset].weight
        if weight is None:
            return Fraction(here)
        return Fraction(str(weight)) * here / sum(_units_in(groups) for groups in eligible[dataset].buckets)

    def _windows(self, eligible: Sequence[Eligible]) -> Natural | Weighted:
        numbers = range(len(self.sizes))
        chosen = [bucket.weight for bucket in self.recipe.shapes]
        if chosen[0] is not None:
            given = [Fraction(str(weight)) for weight in chosen]
            return Weighted(
                [share * bool(self.buckets[b].units) for b, share in enumerate(given)], self.sizes, self.units
            )
        if self._weighted:
            clips = [sum((self._share(d, b, eligible) for d in range(len(eligible))), Fraction(0)) for b in numbers]
            return Weighted([clips[b] / self.sizes[b] for b in numbers], self.sizes, self.units)
        return Natural(
            tuple(bucket.units for bucket in self.buckets), self.sizes, key_bytes(self._key.hex(), "windows")
        )


def _part(dataset: int, group: Group) -> Part:
    return Part(dataset, group.rows, group.window_ends)


def _units_in(groups: Sequence[Group]) -> int:
    return sum(_part(0, group).count for group in groups)


def _refuse_nothing(recipe: Recipe, eligible: Sequence[Eligible]) -> None:
    """A dataset of which nothing may be drawn is a mistake to hear of before the run."""
    for number, found in enumerate(eligible):
        if any(_units_in(groups) for groups in found.buckets):
            continue
        spec = recipe.datasets[number]
        why = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items()) or "there is no clip row"
        where = f"split {spec.split!r}" + (f", filter {spec.filter!r}" if spec.filter else "")
        raise UsageError(
            f"datasets[{number}] ({where}) has {found.total} clips and none may be drawn: {why}. Ask for fewer "
            'frames, a smaller stride or a higher fps, set sampling.short_videos to "pad", or choose another split'
        )
