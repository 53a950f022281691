"""Metadata in Hugging Face's convention: a `metadata.csv|jsonl|parquet` in, rows that know their file out.

A row names its file in `file_name` (or a column ending in `_file_name`), relative to the folder that holds the table.
A row that names nothing, or something out of that folder, becomes a Reject; the others go to the spool.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from cineray.errors import SourceError
from cineray.records import Reject
from cineray.source.annotations import Annotations, BadSplitError, annotations_from
from cineray.source.base import reject
from cineray.source.folder_spool import FolderSpool, SpooledFile
from cineray.source.naming import is_video, printable_name
from cineray.source.rows import column_names, read_rows
from cineray.storage import AccessPolicy

METADATA_NAMES = frozenset(("metadata.csv", "metadata.jsonl", "metadata.parquet"))
_FILE_COLUMN = "file_name"


def named_files(table: SpooledFile, spool: FolderSpool, *, policy: AccessPolicy) -> Iterator[Reject]:
    """Spool every row with the path that it names; yield a Reject for each that cannot be taken."""
    folder = posixpath.dirname(table.path)
    some_column = False
    for row in read_rows(table.uri, policy=policy):
        origin = f"row {row.number} of {printable_name(table.path)}"
        columns = _file_columns(row.values)
        some_column = some_column or bool(columns) or bool(row.problem)
        column, name = _file_named(row.values, columns)
        path = posixpath.normpath(posixpath.join(folder, name)) if name else ""
        if row.problem:
            yield reject(f"{table.path}#{row.number}", "bad_row", f"{origin} {row.problem}")
        elif not name:
            yield reject(f"{table.path}#{row.number}", "bad_row", f"{origin} names no file in `{_FILE_COLUMN}`")
        elif name.startswith("/") or "://" in name or path.split("/")[0] == "..":
            detail = f"{origin} names '{name}', out of the folder; wanted a relative path, or list it in a manifest"
            yield reject(path, "refused", detail)
        else:
            others = {key: value for key, value in row.values.items() if key != column}
            spool.add_row(path, origin, _said(others))
        if not some_column:
            raise SourceError(
                f"{printable_name(table.uri)} has the columns {column_names(row.values)}; wanted one called "
                f"`{_FILE_COLUMN}` with paths relative to its folder. Add it, or give the table another name"
            )


def _said(columns: Mapping[str, object]) -> Annotations | BadSplitError:
    try:
        return annotations_from(columns)
    except BadSplitError as error:
        return error


def _file_columns(values: Mapping[str, object]) -> list[str]:
    """The columns that name files: `file_name` first, then those ending in `_file_name` in their order."""
    ending = [key for key in values if str(key).endswith(f"_{_FILE_COLUMN}")]
    return [_FILE_COLUMN, *ending] if _FILE_COLUMN in values else ending


def _file_named(values: Mapping[str, object], columns: list[str]) -> tuple[str, str]:
    """(column, file): the first of them that names a video; else the first that names anything."""
    named = [(key, value) for key in columns if isinstance(value := values[key], str) and value]
    return next((pair for pair in named if is_video(pair[1])), named[0] if named else ("", ""))
