"""What must hold of a version before it is made. Its tables go in; counts come out, or an error naming what is wrong.

Each row has its key and no key is there twice; no group and no video lies in two splits. Only tables that changed are
read, and of them only the columns that are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from cineray.errors import UsageError
from cineray.lake.manifest import TableState, Version
from cineray.lake.schema import key_of
from cineray.lake.splits import check_leakage
from cineray.lake.tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """Counts of videos, rejects, places, clips and layer rows, and clips per split."""

    counts: dict[str, int]
    splits: dict[str, int]


class Tables(Protocol):
    """What the checks need of the lake."""

    def table(self, name: str) -> Table:
        """The adapter of one table."""


def checked(lake: Tables, head: Version | None, tables: Mapping[str, TableState]) -> Holds:
    """What the would-be version holds, once it is known that no key is double and no split leaks."""
    before = head.tables if head else {}
    counts = dict(head.counts) if head else {"videos": 0, "rejected": 0, "places": 0, "clips": 0}
    splits = dict(head.splits) if head else {}
    for name, state in tables.items():
        if state == before.get(name):
            continue
        _check_keys(lake.table(name), name, state)
        if name == "media":
            states = _tally(lake.table(name), state, "state")
            counts.update(videos=states.get("ready", 0), rejected=states.get("rejected", 0))
        else:
            counts[name] = state.rows
        if name == "clips":
            check_leakage(lake.table(name).scan(state.version, columns=["video_id", "group_id", "split"]))
            splits = _tally(lake.table(name), state, "split")
    return Holds(counts=counts, splits=splits)


def _check_keys(table: Table, name: str, state: TableState) -> None:
    key = key_of(name)
    batches = list(table.scan(state.version, columns=[key]))
    if not batches:
        return
    column = pa.Table.from_batches(batches)[key]
    if column.null_count:
        raise UsageError(f"{column.null_count} rows for {name} have no {key}; every row needs one. Nothing was written")
    if pc.count_distinct(column).as_py() == len(column):
        return
    counted = pa.table({key: column}).group_by(key).aggregate([([], "count_all")])
    double = counted.filter(pc.greater(counted["count_all"], 1))[key].to_pylist()
    raise UsageError(
        f"{len(double)} values of {key} would be in {name} more than once, such as {double[0]!r}; nothing was written. "
        f"Leave out rows that the head already has, or remove them in the same change"
    )


def _tally(table: Table, state: TableState, column: str) -> dict[str, int]:
    tally: dict[str, int] = {}
    for batch in table.scan(state.version, columns=[column]):
        for entry in pc.value_counts(batch[column]).to_pylist():
            if entry["values"] is not None:
                tally[entry["values"]] = tally.get(entry["values"], 0) + entry["counts"]
    return dict(sorted(tally.items()))
