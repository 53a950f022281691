"""The lake's tables: columns, keys, and how plain values become Arrow batches and SQL. Names go in, schemas come out.

Promises: a column once here keeps its name and type; text that is not valid Unicode (a file name in a forgotten
encoding) is kept exactly, behind a leading NUL, and comes back as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import pyarrow as pa

from cineray.errors import UsageError

Row = dict[str, Any]

_TEXT, _INT, _SMALL, _REAL, _FLAG = pa.string(), pa.int64(), pa.int32(), pa.float64(), pa.bool_()


def _fields(kind: pa.DataType, *names: str) -> list[pa.Field]:
    return [pa.field(name, kind) for name in names]


_AUDIO = pa.struct(
    [
        *_fields(_SMALL, "stream_index"),
        *_fields(_TEXT, "codec"),
        *_fields(_SMALL, "sample_rate", "channels"),
        *_fields(_INT, "time_base_num", "time_base_den", "start_pts", "duration_pts"),
    ]
)
_SIDECAR = pa.struct([*_fields(_TEXT, "kind", "uri"), *_fields(_INT, "offset", "length")])

MEDIA: pa.Schema = pa.schema(
    [
        *_fields(_TEXT, "video_id", "state", "reason", "detail", "content_hash"),
        # Where it was first found; `places` has every place.
        *_fields(_TEXT, "uri"),
        *_fields(_INT, "offset", "length", "size_bytes"),
        *_fields(_TEXT, "version_tag", "container", "codec", "profile"),
        *_fields(_SMALL, "stream_index", "width", "height", "rotation_degrees"),
        *_fields(_INT, "sample_aspect_ratio_num", "sample_aspect_ratio_den"),
        *_fields(_TEXT, "pixel_format"),
        *_fields(_SMALL, "bit_depth"),
        *_fields(_TEXT, "color_range", "color_space", "color_primaries", "color_transfer"),
        *_fields(_INT, "time_base_num", "time_base_den", "average_rate_num", "average_rate_den"),
        *_fields(_INT, "nominal_rate_num", "nominal_rate_den"),
        *_fields(_FLAG, "variable_rate"),
        *_fields(_INT, "num_frames", "num_key_frames", "start_pts", "end_pts"),
        # For people's queries only: `duration_seconds > 10`. Everything that computes uses the integers above.
        *_fields(_REAL, "duration_seconds", "frames_per_second"),
        *_fields(pa.binary(), "frames"),
        *_fields(pa.list_(_AUDIO), "audio"),
        *_fields(_TEXT, "times_from", "validated"),
        *_fields(_INT, "bytes_read", "requests"),
        *_fields(_TEXT, "label"),
        *_fields(pa.list_(_TEXT), "captions"),
        *_fields(_TEXT, "columns", "remuxed_uri", "remuxed_hash"),
        *_fields(_INT, "remuxed_size_bytes"),
        *_fields(_TEXT, "remux_reason"),
    ]
)
PLACES: pa.Schema = pa.schema(
    [
        *_fields(_TEXT, "place_id", "uri"),
        *_fields(_INT, "offset", "length", "size_bytes"),
        *_fields(_TEXT, "version_tag", "signature", "video_id", "name", "source"),
        *_fields(pa.list_(_SIDECAR), "sidecars"),
    ]
)
CLIPS: pa.Schema = pa.schema(
    [
        *_fields(_TEXT, "clip_id", "video_id"),
        *_fields(_INT, "start_pts", "end_pts"),
        *_fields(_TEXT, "split", "group_id", "label"),
        *_fields(_REAL, "weight"),
    ]
)
LAYER: pa.Schema = pa.schema(
    [
        *_fields(_TEXT, "row_id", "video_id", "clip_id"),
        *_fields(_INT, "start_pts", "end_pts", "frame"),
        *_fields(_TEXT, "value", "author", "source"),
    ]
)

SCHEMAS: dict[str, pa.Schema] = {"media": MEDIA, "places": PLACES, "clips": CLIPS}
_KEYS = {"media": "video_id", "places": "place_id", "clips": "clip_id"}
_VOLATILE = {
    "media": frozenset({"version_tag", "bytes_read", "requests", "detail", "uri", "offset", "length"}),
    "places": frozenset({"version_tag", "signature"}),
}
_LAYER_NAME = re.compile(r"layers/[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def table_schema(table: str) -> pa.Schema:
    """The schema of `media`, `places`, `clips` or any `layers/<name>`."""
    if table in SCHEMAS:
        return SCHEMAS[table]
    if _LAYER_NAME.fullmatch(table):
        return LAYER
    raise UsageError(f"no table {table!r}: a lake has media, places, clips and layers/<name> (letters, digits, . _ -)")


def is_table(name: str) -> bool:
    """Whether a lake can have a table of this name; anything else that lies among the tables is not ours."""
    return name in SCHEMAS or _LAYER_NAME.fullmatch(name) is not None


def key_of(table: str) -> str:
    """The column that is unique in a table."""
    table_schema(table)
    return _KEYS.get(table, "row_id")


def volatile_of(table: str) -> frozenset[str]:
    """Columns that tell when, where and at what cost a fact was learnt: no part of the data, nor of its fingerprint.

    Where videos lie is data of `places`; so `media` has the same fingerprint wherever the same bytes were found.
    """
    return _VOLATILE.get(table, frozenset())


def batches_of(
    table: str, rows: Iterable[Mapping[str, Any]], *, rows_per_batch: int = 1024
) -> Iterator[pa.RecordBatch]:
    """Rows as Arrow batches of the table's schema, a few at a time: the whole is never held."""
    schema, rest = table_schema(table), iter(rows)
    while chunk := [_complete(schema, row) for row in islice(rest, rows_per_batch)]:
        yield pa.RecordBatch.from_pylist(chunk, schema=schema)


def with_all_columns(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch as the schema has it today: columns that were added since it was written are null."""
    if batch.schema.equals(schema):
        return batch
    held = set(batch.schema.names)
    columns = [
        batch[field.name].cast(field.type) if field.name in held else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _complete(schema: pa.Schema, row: Mapping[str, Any]) -> Row:
    unknown = row.keys() - set(schema.names)
    if unknown:
        raise UsageError(f"a row has unknown columns {sorted(unknown)}; the table's columns are {schema.names}")
    return dict(row)


def pack_text(text: str | None) -> str | None:
    """Text as Arrow can hold it: names with undecodable bytes (lone surrogates) are escaped behind a leading NUL."""
    if text is None:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "\0" + text.encode("unicode_escape").decode("ascii")
    return text


def unpack_text(text: str) -> str:
    """The inverse of `pack_text`."""
    return text[1:].encode("ascii").decode("unicode_escape") if text.startswith("\0") else text


def sql_text(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def sql_in(column: str, values: Iterable[str]) -> str:
    """`column IN ('a', 'b')`, and a predicate that is false for no values at all."""
    listed = ", ".join(sql_text(value) for value in values)
    return f"{column} IN ({listed})" if listed else "false"
