"""Filters that name what was measured, beside columns of `media`. SQL over both goes in; rows of `media` come out.

    media            video_id | height | ...        every name that is a column of media means that column
    layers/quality   video_id | {"motion_speed": 0.2, "blur_best": 0.4, ...}        any other name means this value

Where a filter names no measure, Lance reads it on the table itself, as ever. Else the measures that it names are joined
to the videos, some thousand at a time, and the same Lance reads the same SQL on the join. A measure that a video lacks
is null, and a filter that is null does not let the video through. Spans are no values, and cannot be named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cineray.errors import UsageError
from cineray.lake.manifest import Version
from cineray.lake.schema import MEDIA, sql_text, unpack_text
from cineray.lake.tables import Table, matching
from cineray.records import Scalar

QUALITY_LAYER = "layers/quality"
Ints = npt.NDArray[np.int64]
_NAME = re.compile(r"'(?:[^']|'')*'|([A-Za-z_][A-Za-z0-9_]*)\b(?!\s*\()")
"""A text, or a word that is no function."""
_NO_NAMES = frozenset(
    [
        *("AND", "OR", "NOT", "IS", "NULL", "IN", "LIKE", "ILIKE", "BETWEEN", "TRUE", "FALSE"),
        *("CASE", "WHEN", "THEN", "ELSE", "END", "CAST", "AS", "ESCAPE", "INTERVAL"),
    ]
)
"""Each word that is none of media's columns is looked for in the whole layer: not these."""
_SAMPLED = 64
"""Rows of the layer that are read to say which measures there are, when a name is none of them."""


class Tables(Protocol):
    """What is needed of a lake."""

    uri: str

    def table(self, name: str) -> Table:
        """The adapter of one table."""


def names_in(expression: str) -> tuple[str, ...]:
    """The words of an SQL expression outside of its texts that may be names of columns, each once."""
    words = dict.fromkeys(match[1] for match in _NAME.finditer(expression) if match[1])
    return tuple(word for word in words if word.upper() not in _NO_NAMES)


def measures_named(lake: Tables, version: Version, words: Sequence[str]) -> tuple[str, ...]:
    """Those of these words that are no columns of media, and that some row of the quality layer has a value for."""
    state = version.tables.get(QUALITY_LAYER)
    if state is None:
        return ()
    layer = lake.table(QUALITY_LAYER)
    unknown = [word for word in words if word not in MEDIA.names]
    return tuple(word for word in unknown if any(b.num_rows for b in layer.scan(state.version, where=_tells(word))))


def media_where(
    lake: Tables, version: Version, where: str | None, columns: Sequence[str]
) -> Iterator[tuple[Ints, pa.RecordBatch]]:
    """Columns of the media rows for which a filter is true, with the rows' numbers; both may name measures."""
    state = version.tables.get("media")
    if state is None:
        return
    words = names_in(where or "")
    named = measures_named(lake, version, [*words, *columns])
    joined = {name: _Measure(lake, version, name, is_text=_is_text(name, where or "")) for name in named}
    media = lake.table("media")
    if not joined:
        yield from _on_the_table(lake, version, where, columns)
        return
    needed = dict.fromkeys([*columns, *(name for name in MEDIA.names if name in words), "video_id"])
    for numbers, batch in media.positions(state.version, columns=[name for name in needed if name not in joined]):
        rows = pa.Table.from_batches([batch])
        for name, measure in joined.items():
            rows = rows.append_column(name, measure.of(batch["video_id"]))
        holds = matching(rows, [where])[0] if where else np.ones(rows.num_rows, np.bool_)
        found = rows.select(list(columns)).filter(pa.array(holds)).combine_chunks()
        for part in found.to_batches():
            yield numbers[holds], part


def query_media(
    lake: Tables, version: Version, where: str | None, columns: Sequence[str], limit: int | None
) -> pa.Table | None:
    """Rows of media at once, where filter or columns name measures; None where they name none."""
    if not measures_named(lake, version, [*names_in(where or ""), *columns]):
        return None
    found: list[pa.RecordBatch] = []
    for _, batch in media_where(lake, version, where, columns):
        rows = sum(held.num_rows for held in found)
        if limit is not None and rows >= limit:
            break
        found.append(batch if limit is None else batch.slice(0, limit - rows))
    return pa.Table.from_batches(found) if found else pa.table({name: [] for name in columns})


def _on_the_table(
    lake: Tables, version: Version, where: str | None, columns: Sequence[str]
) -> Iterator[tuple[Ints, pa.RecordBatch]]:
    try:
        yield from lake.table("media").positions(version.tables["media"].version, columns=columns, where=where)
    except UsageError as error:
        measures = known_measures(lake, version)
        raise UsageError(f"{error}; measured were {', '.join(measures)}" if measures else str(error)) from None


def known_measures(lake: Tables, version: Version) -> tuple[str, ...]:
    """Names of measures that a filter may use, as far as some rows of the layer tell."""
    state = version.tables.get(QUALITY_LAYER)
    names: set[str] = set()
    if state is not None:
        batches = lake.table(QUALITY_LAYER).scan(state.version, columns=["value"], batch_rows=_SAMPLED)
        for text in next(batches, pa.RecordBatch.from_pylist([], pa.schema([("value", pa.string())])))["value"]:
            names |= {name for name, value in _values(text.as_py()).items() if not isinstance(value, list)}
    return tuple(sorted(names))


class _Measure:
    """One measure of all videos that have it."""

    def __init__(self, lake: Tables, version: Version, name: str, *, is_text: bool) -> None:
        told: dict[str, Scalar] = {}
        state = version.tables[QUALITY_LAYER]
        batches = lake.table(QUALITY_LAYER).scan(state.version, columns=["video_id", "value"], where=_tells(name))
        for batch in batches:
            for video_id, text in zip(batch["video_id"].to_pylist(), batch["value"].to_pylist(), strict=True):
                value = _values(text).get(name)
                if isinstance(value, list):
                    raise UsageError(f"the measure {name!r} is a list of spans, which no filter can compare")
                if told.setdefault(video_id, value) != value:
                    raise UsageError(
                        f"rows of {QUALITY_LAYER} in version {version.number} of {lake.uri} say two things of "
                        f"{name!r} of video {video_id}: {told[video_id]!r} and {value!r}; remove one, or curate anew"
                    )
        values = column_of(list(told.values()))
        if is_text and values.null_count == len(values):
            values = pa.nulls(len(values), pa.string())
        self.ids, self.values = pa.array(told, pa.string()), values

    def of(self, video_ids: pa.Array) -> pa.Array:
        """The value of each of these videos, null where it has none."""
        return self.values.take(pc.index_in(video_ids, value_set=self.ids))


def _is_text(name: str, where: str) -> bool:
    """Whether a filter compares it with a text: of a measure that no video has a value of, nothing else says so."""
    compares = r"\s*(?:=|<>|!=|<=?|>=?|(?:NOT\s+)?(?:I?LIKE|BETWEEN|IN\s*\())\s*'"
    return bool(re.search(rf"\b{re.escape(name)}\b{compares}", where, re.IGNORECASE))


def column_of(values: Sequence[Any]) -> pa.Array:
    """Text, flags, whole numbers or reals, whichever holds all of them."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} and kinds:
        return pa.array(values, pa.bool_())
    if kinds <= {int} and kinds:
        return pa.array(values, pa.int64())
    if kinds <= {int, float, bool}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _tells(name: str) -> str:
    """Which rows of the layer have a value of this name, for a whole video."""
    pattern = '%"' + name.replace("_", "\\_") + '":%'
    return f"clip_id IS NULL AND video_id IS NOT NULL AND value LIKE {sql_text(pattern)}"


def _values(text: str | None) -> dict[str, Any]:
    """What one row of the layer says; a row that somebody else wrote otherwise says nothing."""
    try:
        told = json.loads(unpack_text(text or ""))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
