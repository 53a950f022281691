"""Which clip rows may be drawn, for which bucket: columns of facts in, sets of rows out.

A `Rule` is what a recipe asks of one dataset: a length that suffices, at least so many seconds, a bucket that suits,
and groups to balance. A catalog hands its facts to `Rule.sort`, in as many pieces as it likes, and gets an `Eligible`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from cineray.plan.buckets import NONE, choose_buckets
from cineray.plan.facts import ClipFacts
from cineray.plan.recipe import Recipe
from cineray.plan.rowset import RowSet
from cineray.plan.samplers import sampler_of

Ints = npt.NDArray[np.int64]

_TOO_SHORT, _UNDER_MINIMUM, _NO_FRAMES = -1, -2, -3
_WHY = {
    _TOO_SHORT: "too short for a clip",
    _UNDER_MINIMUM: "shorter than min_seconds",
    _NO_FRAMES: "without a frame in its span",
}


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Rows that are drawn alike: all of a bucket, or those of one label."""

    name: str
    rows: RowSet
    window_ends: Ints | None = None
    """Only for `all_windows`: how many windows there are up to and with each row."""


@dataclass(frozen=True, slots=True, eq=False)
class Eligible:
    """What may be drawn of one dataset: for each bucket its groups, one unless something is balanced."""

    buckets: tuple[tuple[Group, ...], ...]
    total: int
    """How many rows the catalog has."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Why the others may not, and how many they are."""


class Rule:
    """What a recipe asks of the rows of one of its datasets."""

    def __init__(self, recipe: Recipe, dataset: int = 0) -> None:
        self.recipe = recipe
        self.balance = recipe.datasets[dataset].balance
        self.sampler = sampler_of(recipe.sampling)

    @property
    def key(self) -> str:
        """Names everything that the rule depends on: a catalog may keep what it sorted by this key."""
        asked = {
            "sampling": self.recipe.sampling.model_dump(mode="json"),
            "shapes": [bucket.shape for bucket in self.recipe.shapes],
            "balance": self.balance,
        }
        return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).hexdigest()

    def sort(self, pieces: Iterable[ClipFacts]) -> Eligible:
        """Sort rows, given in pieces but in order, into buckets and groups."""
        where, groups, samples = [], [], []
        for piece in pieces:
            held = self._samples(piece)
            where.append(self._buckets(piece, held).astype(np.int16))
            groups.append(self._groups(piece))
            if self.recipe.sampling.mode == "all_windows":
                samples.append(held)
        bucket_of = np.concatenate(where) if where else np.zeros(0, dtype=np.int16)
        names, group_of = _numbered(groups)
        held_of = np.concatenate(samples) if samples else None
        sets = [self._sets(np.flatnonzero(bucket_of == b), b, names, group_of, held_of) for b in self._bucket_numbers]
        counted = {why: int(np.count_nonzero(bucket_of == code)) for code, why in _WHY.items()}
        return Eligible(tuple(sets), len(bucket_of), {why: count for why, count in counted.items() if count})

    @property
    def _bucket_numbers(self) -> range:
        return range(len(self.recipe.shapes))

    def _samples(self, facts: ClipFacts) -> Ints:
        """How many samples each row's longest room holds."""
        held = np.zeros(len(facts), dtype=np.int64)
        for base, here in _by_time_base(facts):
            held[here] = self.sampler.room_samples(facts.room_frames[here], facts.room_ticks[here], base)
        return held

    def _buckets(self, facts: ClipFacts, held: Ints) -> Ints:
        sampling = self.recipe.sampling
        shapes = self.recipe.shapes
        chosen = choose_buckets(shapes, held, facts.display_width, facts.display_height, short=sampling.short_videos)
        chosen[chosen == NONE] = _TOO_SHORT
        if sampling.min_seconds:
            least = Fraction(str(sampling.min_seconds))
            for base, here in _by_time_base(facts):
                short = here[facts.span_ticks[here] < math.ceil(least / base)]
                chosen[short] = _UNDER_MINIMUM
        chosen[facts.room_frames < 1] = _NO_FRAMES
        return chosen

    def _groups(self, facts: ClipFacts) -> npt.NDArray[np.object_] | None:
        """The name of each row's group, where something is balanced."""
        if self.balance == "label":
            labels = facts.label if facts.label is not None else np.full(len(facts), None, dtype=object)
            return np.array([_NO_LABEL if label is None else str(label) for label in labels], dtype=object)
        if self.balance == "caption":
            captioned = facts.captioned if facts.captioned is not None else np.zeros(len(facts), dtype=bool)
            return np.where(captioned, "with a caption", "without a caption").astype(object)
        return None

    def _sets(
        self, rows: Ints, bucket: int, names: list[str], group_of: Ints | None, held: Ints | None
    ) -> tuple[Group, ...]:
        """The groups of one bucket, in the order of their names."""
        if group_of is None:
            return (self._group("all", rows, bucket, held),) if rows.size else ()
        groups = [(name, rows[group_of[rows] == number]) for number, name in enumerate(names)]
        return tuple(self._group(name, members, bucket, held) for name, members in groups if members.size)

    def _group(self, name: str, rows: Ints, bucket: int, held: Ints | None) -> Group:
        if held is None:
            return Group(name, RowSet.of(rows))
        windows = self.sampler.windows(held[rows], self.recipe.shapes[bucket].frames)
        return Group(name, RowSet.of(rows), None if windows is None else np.cumsum(windows))


_NO_LABEL = "(no label)"


def _by_time_base(facts: ClipFacts) -> list[tuple[Fraction, Ints]]:
    """The rows of each time base; there are only a few of these."""
    bases = np.stack([facts.time_base_num, facts.time_base_den], axis=1)
    distinct, owner = np.unique(bases, axis=0, return_inverse=True)
    owner = owner.reshape(-1)
    return [(Fraction(int(num), int(den)), np.flatnonzero(owner == at)) for at, (num, den) in enumerate(distinct)]


def _numbered(pieces: list[npt.NDArray[np.object_] | None]) -> tuple[list[str], Ints | None]:
    """All group names in order, and each row's group by number."""
    given = [piece for piece in pieces if piece is not None]
    if not given:
        return [], None
    names, numbers = np.unique(np.concatenate(given).astype(str), return_inverse=True)
    return names.tolist(), numbers.reshape(-1)
