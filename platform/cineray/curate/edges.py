"""Which clips lie at the edge of a rule. A table and a reason go in; clips just left out, and just kept, come out.

    clip_black_fraction > 0.5       left out: 0.51 0.53 0.6 ...   kept: 0.49 0.47 ...

The edge is where a comparison of a column with a number turns: `x > .5`, `0.5 < x`, `x NOT BETWEEN 1 AND 2`, `x IN (1,
2)`. Of several comparisons the nearest counts, each in units of its column's own spread. What is reckoned with first
(`x * 2 > 1`) has no edge here. Where a rule has none, the clips come in the order of their videos, and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cineray.curate.clip_table import ClipTable
from cineray.curate.rules import Reason
from cineray.lake.measured import names_in

_WORD = re.compile(r"'(?:[^']|'')*'|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[A-Za-z_]\w*|<=|>=|<>|!=|[^\s\w]")
_COMPARES = frozenset({"<=", ">=", "<>", "!=", "<", ">", "="})
_RECKONS = frozenset({"+", "-", "*", "/", "%"})
_ENDS = ("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The drafts nearest to where a rule turns, the nearest first."""

    left_out: tuple[int, ...]
    kept: tuple[int, ...]
    is_known: bool
    """False where nothing tells how near a draft is, and they come in the order of their videos."""


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
    return Edge(
        left_out=_of_other_videos(table, left_out, most),
        kept=_of_other_videos(table, kept, most),
        is_known=bool(known.any()),
    )


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
    words = [*_ENDS, *_signed(_WORD.findall(expression)), *_ENDS, *_ENDS]
    found: list[tuple[str, float]] = []
    for at in range(len(_ENDS), len(words) - 2 * len(_ENDS)):
        found += _compared(words, at)
    return found


def _signed(words: list[str]) -> Iterator[str]:
    """The same words, with a sign that belongs to a number in one with it."""
    before, sign = "", ""
    for word in words:
        if word in ("+", "-") and not sign and (before in _COMPARES or before.upper() in ("(", ",", "BETWEEN", "AND")):
            sign = word
            continue
        yield from [sign + word] if not sign or _is_value(word) else [sign, word]
        before, sign = word, ""


def _compared(words: Sequence[str], at: int) -> list[tuple[str, float]]:
    """What the comparison says whose first word is here; nothing, where none begins here."""
    one, sign, other, after = words[at : at + 4]
    if words[at - 1] in _RECKONS or not (_is_name(one) or _is_value(one)):
        return []
    if sign in _COMPARES and after not in (*_RECKONS, "("):
        name, number = (one, other) if _is_name(one) else (other, one)
        return [(name, float(number))] if _is_name(name) and _is_value(number) else []
    rest = list(words[at + 1 :])
    if rest[0].upper() == "NOT":
        rest = rest[1:]
    if not _is_name(one) or rest[0].upper() not in ("BETWEEN", "IN"):
        return []
    numbers = rest[1:4:2] if rest[0].upper() == "BETWEEN" else rest[2 : rest.index(")") : 2] if ")" in rest else []
    return [(one, float(number)) for number in numbers if _is_value(number)]


def _is_name(word: str) -> bool:
    return names_in(word) == (word,)


def _is_value(word: str) -> bool:
    return bool(re.fullmatch(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", word))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _of_other_videos(table: ClipTable, drafts: list[int], most: int) -> tuple[int, ...]:
    first: dict[int, int] = {}
    for draft in drafts:
        first.setdefault(table.drafts[draft].video, draft)
    return tuple(list(first.values())[:most])
