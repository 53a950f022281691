"""What changed between two versions. Two manifests go in; counts and a bounded list of keys per table come out.

Fragments that both versions share are the same rows and are not read: the cost follows what changed, not what is
there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from cineray.lake import digest
from cineray.lake.manifest import TableState, Version
from cineray.lake.schema import key_of
from cineray.lake.tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDiff:
    """Rows by key: only in b, only in a, in both but different. Counts are whole, lists are cut at the limit."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    added_keys: tuple[str, ...] = ()
    removed_keys: tuple[str, ...] = ()
    changed_keys: tuple[str, ...] = ()
    moved: tuple[tuple[str, str | None, str | None], ...] = ()
    """(key, before, after) where the state of a video or the split of a clip changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDiff:
    """From version `a` to version `b`."""

    a: int
    b: int
    same_data: bool
    tables: Mapping[str, TableDiff]
    layers_added: tuple[str, ...]
    layers_removed: tuple[str, ...]
    counts: Mapping[str, tuple[int, int]]
    """What differs of the counts: before and after."""
    splits: Mapping[str, tuple[int, int]]
    """Clips per split, before and after."""
    split_rule_changed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Tables(Protocol):
    """What a diff needs of the lake."""

    def table(self, name: str) -> Table:
        """The adapter of one table."""


_TOLD = {"media": "state", "clips": "split"}


def diff(lake: Tables, a: Version, b: Version, *, limit: int) -> VersionDiff:
    """Compare the data of two versions."""
    tables = {}
    for name in sorted({*a.tables, *b.tables}):
        before, after = a.tables.get(name), b.tables.get(name)
        if before != after:
            tables[name] = _table_diff(lake.table(name), name, before, after, limit)
    layers_a, layers_b = set(a.layers()), set(b.layers())
    return VersionDiff(
        a=a.number,
        b=b.number,
        same_data=a.fingerprint == b.fingerprint,
        tables=tables,
        layers_added=tuple(sorted(layers_b - layers_a)),
        layers_removed=tuple(sorted(layers_a - layers_b)),
        counts={name: pair for name, pair in _pairs(a.counts, b.counts).items() if pair[0] != pair[1]},
        splits=_pairs(a.splits, b.splits),
        split_rule_changed=a.split_rule != b.split_rule,
    )


def _pairs(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    return {name: (a.get(name, 0), b.get(name, 0)) for name in sorted({*a, *b})}


def _table_diff(table: Table, name: str, before: TableState | None, after: TableState | None, limit: int) -> TableDiff:
    old = _fragments(table, before)
    new = _fragments(table, after)
    left = _rows(table, name, before, [old[key] for key in old.keys() - new.keys()])
    right = _rows(table, name, after, [new[key] for key in new.keys() - old.keys()])
    added, removed = sorted(right.keys() - left.keys()), sorted(left.keys() - right.keys())
    changed = sorted(key for key in left.keys() & right.keys() if left[key] != right[key])
    moved = [(key, left[key][1], right[key][1]) for key in changed if left[key][1] != right[key][1]]
    return TableDiff(
        added=len(added),
        removed=len(removed),
        changed=len(changed),
        added_keys=tuple(added[:limit]),
        removed_keys=tuple(removed[:limit]),
        changed_keys=tuple(changed[:limit]),
        moved=tuple(moved[:limit]),
    )


def _fragments(table: Table, state: TableState | None) -> dict[tuple[str, ...], Any]:
    """Fragments by the files that they are made of, which are never rewritten: equal files are equal rows."""
    if state is None:
        return {}
    return {tuple(file.path for file in fragment.files): fragment for fragment in table.fragments(state.version)}


def _rows(table: Table, name: str, state: TableState | None, fragments: list[Any]) -> dict[str, tuple[int, str | None]]:
    if state is None or not fragments:
        return {}
    key, told = key_of(name), _TOLD.get(name)
    rows = {}
    for batch in table.scan(state.version, fragments=fragments):
        digests = digest.batch_digests(name, batch)
        told_values = batch[told].to_pylist() if told else [None] * batch.num_rows
        for row_key, row_digest, value in zip(batch[key].to_pylist(), digests, told_values, strict=True):
            rows[row_key] = (row_digest, value)
    return rows
