"""A manifest: a Parquet, CSV or JSONL table in, one `VideoFile` per row out, in the order of the rows.

    uri                     offset  length  name  split  label  group  caption ...
    clips/0001.mp4                                train  walk          a man walks
    s3://bucket/shard.tar   1536    91234                              a dog

Only `uri` is required; a relative one is taken from the manifest's own folder. `offset` and `length` name a part of an
object. Columns with other names are kept. A manifest that lies elsewhere may not name files of this machine. Rows are
streamed, so a manifest may be longer than the memory is large. No file is looked at here: one that is missing is found
out, and named, when it is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cineray.errors import PlaceError, PlaceRefused, SourceError
from cineray.records import Place, Reject, VideoFile
from cineray.source.annotations import annotations_from
from cineray.source.base import Source, address, reject
from cineray.source.naming import UniqueNames, printable_name
from cineray.source.rows import Row, column_names, read_rows
from cineray.storage import is_remote

_PLACE_COLUMNS = frozenset(("uri", "offset", "length", "name"))
_COUNT_LIMIT = 1 << 63


class Manifest(Source):
    """A table of places, local or remote."""

    kind = "manifest"

    def list_videos(self) -> Iterator[VideoFile | Reject]:
        """Row by row; a row that names no place, or a refused one, is a Reject with its number."""
        names = UniqueNames()
        some_uri = False
        for row in self._rows():
            if not some_uri and not row.problem:
                some_uri = _has_uri(row, self.uri)
            yield self._listed(row, names)

    def _rows(self) -> Iterator[Row]:
        try:
            yield from read_rows(self.uri, policy=self.policy)
        except PlaceError as error:
            raise SourceError(f"the manifest {printable_name(self.uri)} cannot be read: {error}") from error

    def _listed(self, row: Row, names: UniqueNames) -> VideoFile | Reject:
        shown = f"row {row.number}"
        if row.problem:
            return reject(shown, "bad_row", f"{shown} of {self.uri} {row.problem}")
        others = {key: value for key, value in row.values.items() if key not in _PLACE_COLUMNS}
        try:
            place, said = self._place(row.values), annotations_from(others)
        except PlaceError as error:
            return reject(shown, error.reason, f"{shown} of {self.uri}: {error}")
        except ValueError as error:
            return reject(shown, "bad_row", f"{shown} of {self.uri}: {error}")
        return VideoFile(
            name=names.claim(_name(row.values), f"#{shown.replace(' ', '-')}"),
            place=place,
            size_bytes=place.length,
            split=said.split,
            label=said.label,
            group=said.group,
            captions=said.captions,
            columns=said.columns,
        )

    def _place(self, values: Mapping[str, object]) -> Place:
        uri = values.get("uri")
        if not isinstance(uri, str) or not uri.strip():
            raise ValueError("it has no `uri`; write the address of its video there")
        offset, length = _count(values, "offset"), _count(values, "length")
        if offset and length is None:
            raise ValueError("it has an `offset` without a `length`; write both, or neither for a whole file")
        place = address(uri, base=self.uri.rpartition("/")[0] or "/")
        if is_remote(self.uri) and not is_remote(place):
            raise PlaceRefused(
                f"it names '{printable_name(uri)}' on this machine, and the manifest lies elsewhere; wanted an address "
                "or a path relative to the manifest. Copy the manifest to this machine if you trust it"
            )
        return Place(uri=place, offset=offset or 0, length=length)


def _has_uri(row: Row, manifest: str) -> bool:
    if "uri" not in row.values:
        columns = column_names(row.values)
        raise SourceError(f"{printable_name(manifest)} has the columns {columns}; wanted one called `uri`")
    return True


def _name(values: Mapping[str, object]) -> str:
    """The row's own name; else its uri as it was written, with its range: the same wherever the manifest lies."""
    name = values.get("name")
    if isinstance(name, (str, int)) and str(name).strip():
        return printable_name(str(name))
    length = _count(values, "length")
    part = "" if length is None else f"[{_count(values, 'offset') or 0}+{length}]"
    return printable_name(str(values["uri"])) + part


def _count(values: Mapping[str, object], column: str) -> int | None:
    """A whole number of bytes; CSV has it as text, and a column with gaps may come as a float."""
    value = values.get(column)
    if value is None:
        return None
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 32:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _COUNT_LIMIT:
        raise ValueError(f"its `{column}` is {value!r}; wanted a whole number of bytes, 0 or more")
    return value
