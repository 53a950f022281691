"""Which clips lie at the edge of a rule. A table and a reason go in; clips just left out, and just kept, come out.

    clip_black_fraction > 0.5       left out: 0.51 0.53 0.6 ...   kept: 0.49 0.47 ...

The edge is where a comparison of a column with a number turns. Of several comparisons the nearest counts, each in units
of its column's own spread. Where a rule compares nothing with a number, the clips come in the order of their videos.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cineray.curate.clip_table import ClipTable
from cineray.curate.rules import Reason

_COMPARES = re.compile(r"([A-Za-z_]\w*)\s*(?:<=|>=|<>|!=|<|>|=)\s*(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w.])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The drafts nearest to where a rule turns, the nearest first."""

    left_out: tuple[int, ...]
    kept: tuple[int, ...]


def edge_of(table: ClipTable, reason: Reason, most: int) -> Edge:
    """At most so many on each side, each of another video: two scenes of one video show the same."""
    near = distances(table.rows, reason.told)
    known = ~np.isnan(near)
    order = np.lexsort((np.arange(len(near)), np.where(known, near, np.inf)))
    left_out, kept = [], []
    for draft in order.tolist():
        if reason.holds[draft]:
            left_out.append(draft)
        elif known[draft]:
            kept.append(draft)
    return Edge(left_out=_of_other_videos(table, left_out, most), kept=_of_other_videos(table, kept, most))


def distances(rows: pa.Table, expression: str) -> npt.NDArray[np.float64]:
    """How far each row is from where the expression turns; nan where that cannot be told."""
    near = np.full(rows.num_rows, np.nan)
    for column, number in thresholds(expression):
        if column not in rows.column_names or not _is_number(rows.schema.field(column).type):
            continue
        values = rows[column].cast(pa.float64()).to_numpy(zero_copy_only=False)
        known = values[~np.isnan(values)]
        spread = float(known.std()) if len(known) else 0.0
        near = np.fmin(near, np.abs(values - number) / (spread or 1.0))
    return near


def thresholds(expression: str) -> list[tuple[str, float]]:
    """What an expression compares with a number: names, which may be columns, and the numbers."""
    return [(name, float(number)) for name, number in _COMPARES.findall(expression)]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _of_other_videos(table: ClipTable, drafts: list[int], most: int) -> tuple[int, ...]:
    first: dict[int, int] = {}
    for draft in drafts:
        first.setdefault(table.drafts[draft].video, draft)
    return tuple(list(first.values())[:most])
