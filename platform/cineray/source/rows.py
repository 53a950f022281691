"""Rows of tables written by strangers: the URI of a CSV, JSONL or Parquet file in, one `Row` after another out.

Local or remote, read in small pieces: a table of any length takes flat memory, and so does a file that is one endless
line or one endless quoted cell. A row that cannot be read is a `Row` with a `problem`; a file that cannot be read at
all is a SourceError. Columns that hold raw bytes are never read: rows describe videos, they do not carry them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Any, BinaryIO, cast

from cineray.errors import SourceError
from cineray.records import Place
from cineray.source.naming import extension, printable_name
from cineray.source.strict_json import StrictJsonError, parse_strict
from cineray.storage import AccessPolicy, PlaceFile, open_place

MAX_ROW_BYTES = 1 << 20
_BATCH_ROWS = 1024
_SHOWN_COLUMNS, _SHOWN_NAME_CHARS = 30, 60
# What a header line of UTF-8 text does not hold: control characters other than tab and line ends, and broken bytes.
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number as an editor or a table viewer counts it, and its values or what is wrong with it."""

    number: int
    values: Mapping[str, object] = field(default_factory=dict)
    problem: str = ""


def read_rows(uri: str, *, policy: AccessPolicy) -> Iterator[Row]:
    """Every row of the table; the extension says which format it is."""
    reader = ROW_READERS.get(extension(uri))
    if reader is None:
        raise SourceError(f"{printable_name(uri)} is no table that we read; wanted one of .{', .'.join(ROW_READERS)}")
    with ExitStack() as stack:
        place = open_place(Place(uri=uri), policy=policy)
        stack.callback(place.close)
        file = io.BufferedReader(PlaceFile(place, block_bytes=_BLOCK_BYTES, max_blocks=4), 1 << 16)
        yield from reader(cast(BinaryIO, file), printable_name(uri))


def column_names(columns: Iterable[object]) -> str:
    """The columns of a table for a message: few, short and safe to print."""
    named = [printable_name(str(column)[:_SHOWN_NAME_CHARS]) for column in islice(columns, _SHOWN_COLUMNS + 1)]
    return ", ".join(named[:_SHOWN_COLUMNS] + ["..."] * (len(named) > _SHOWN_COLUMNS))


def _read_jsonl(file: BinaryIO, _uri: str) -> Iterator[Row]:
    """One object per line; a row's number is its line's."""
    for number, line in enumerate(_Lines(file), start=1):
        if line is None:
            yield Row(number, problem=f"is longer than {MAX_ROW_BYTES:,} bytes")
        elif line.strip():
            yield _json_row(number, line)


def _json_row(number: int, line: bytes) -> Row:
    try:
        value = parse_strict(line)
    except StrictJsonError as error:
        return Row(number, problem=f"cannot be read: {error}")
    if not isinstance(value, dict):
        return Row(number, problem=f"is a JSON {type(value).__name__}; wanted an object, one per line")
    return Row(number, value)


def _read_csv(file: BinaryIO, uri: str) -> Iterator[Row]:
    """A header line and comma-separated rows; a row's number counts rows after the header, from 1."""
    lines = _CsvLines(file)
    reader = csv.reader(lines)
    header = _next_cells(reader, lines)
    if not isinstance(header, list) or not any(header):
        raise SourceError(f"{uri} has no header line; wanted the columns' names in its first line")
    if _NO_TEXT.search("".join(header)):
        raise SourceError(f"{uri} begins with {column_names(header)}, which is no UTF-8 text; save it as UTF-8")
    if len(set(header)) < len(header):
        raise SourceError(f"{uri} names a column twice in its header: {column_names(header)}")
    number = 0
    while (cells := _next_cells(reader, lines)) is not None:
        if cells == []:
            continue
        number += 1
        if isinstance(cells, str):
            yield Row(number, problem=cells)
        elif len(cells) > len(header):
            yield Row(number, problem=f"has {len(cells)} cells; the header has {len(header)} columns")
        else:
            yield Row(number, {name: cell or None for name, cell in zip_longest(header, cells)})


def _next_cells(reader: Any, lines: _CsvLines) -> list[str] | str | None:
    """The next row's cells, or what is wrong with it, or None at the end. csv's parser starts afresh after an error."""
    lines.start_row()
    try:
        return cast("list[str] | None", next(reader, None))
    except (csv.Error, _RowTooLongError) as error:
        return f"cannot be read: {error}"


class _RowTooLongError(Exception):
    """Raised through csv's parser, which has no limit on a row that never closes its quotes."""


class _CsvLines:
    """Text lines for csv's parser, counted per row. A class, because a generator could not go on after raising."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = iter(_Lines(file))
        self._first = True
        self._row_bytes = 0

    def start_row(self) -> None:
        self._row_bytes = 0

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._row_bytes += MAX_ROW_BYTES + 1 if line is None else len(line)
        if line is None or self._row_bytes > MAX_ROW_BYTES:
            raise _RowTooLongError(f"it is longer than {MAX_ROW_BYTES:,} bytes; is a quote left open?")
        text = line.decode("utf-8-sig" if self._first else "utf-8", "surrogateescape")
        self._first = False
        return text


class _Lines:
    """Lines as bytes; None for a line that is too long to be held, which is skipped to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes | None]:
        while line := self._file.readline(MAX_ROW_BYTES):
            if len(line) < MAX_ROW_BYTES or line.endswith(b"\n"):
                yield line
            else:
                self._skip_line()
                yield None

    def _skip_line(self) -> None:
        while (rest := self._file.readline(MAX_ROW_BYTES)) and not rest.endswith(b"\n"):
            pass


def _read_parquet(file: BinaryIO, uri: str) -> Iterator[Row]:
    """Rows of every row group in order, in batches; a row's number counts from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        table = pq.ParquetFile(file, pre_buffer=False)
        columns = [column.name for column in table.schema_arrow if not _holds_bytes(pa, column.type)]
        for batch in table.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            for values in batch.to_pylist():
                number += 1
                yield Row(number, values)
    except (pa.ArrowException, ValueError, OverflowError) as error:  # the latter two: dates that Python cannot hold
        raise SourceError(f"{uri} is not a whole Parquet file after row {number}: {error}") from error


def _holds_bytes(pa: Any, kind: Any) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_bytes(pa, kind.storage_type)
    if kind.num_fields:
        return any(_holds_bytes(pa, kind.field(at).type) for at in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


ROW_READERS: dict[str, Callable[[BinaryIO, str], Iterator[Row]]] = {
    "csv": _read_csv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
