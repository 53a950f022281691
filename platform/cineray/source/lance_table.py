"""A Lance table with a column of videos: its address in, one `VideoFile` per row out, in the order of the table.

Rows are listed without reading a video, and each tells its video's size; afterwards a video is read by ranges. That
is what blob columns are for, so plain binary ones are not taken. A place is one cell of one *version* of the table,
`lance+<table>?version=V&column=C&row=R`, so that writing to the table later changes nothing that was listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cineray.errors import SourceError, UsageError
from cineray.records import Place, Reject, VideoFile
from cineray.source.annotations import BadSplitError, annotations_from
from cineray.source.base import Source, reject
from cineray.source.naming import UniqueNames, printable_name
from cineray.storage import AccessPolicy, lance_options, lance_uri
from cineray.storage.lance_blob import blob_uri, points_elsewhere

NAME_COLUMNS = ("name", "id", "key", "video_id", "file_name", "path", "uri")
_BATCH_ROWS = 1024


class LanceTable(Source):
    """One version of one table; the newest, and its only blob column, unless they are named."""

    kind = "lance"

    def __init__(
        self, uri: str, *, policy: AccessPolicy | None = None, column: str | None = None, version: int | None = None
    ) -> None:
        super().__init__(uri, policy=policy)
        self.column, self.version = column, version

    def list_videos(self) -> Iterator[VideoFile | Reject]:
        """Row by row; a row without a video of its own is a Reject."""
        table = self._open()
        column = _blob_column(table.schema, self.column, self.uri)
        others = [field.name for field in table.schema if not _holds_bytes(field)]
        scanner = table.scanner(
            columns=[*others, column],
            blob_handling="blobs_descriptions",
            batch_size=_BATCH_ROWS,
            scan_in_order=True,
        )
        names = UniqueNames()
        row = 0
        for batch in scanner.to_batches():
            for values in batch.to_pylist():
                blob = values.pop(column)
                name = names.claim(_name(values, row), f"#row-{row}")
                place = Place(uri=blob_uri(self.uri, version=table.version, column=column, row=row))
                yield _refused(name, blob, place) or _video(name, blob, place, values)
                row += 1

    def _open(self) -> Any:
        import lance  # seconds to import, so only where a table is listed

        try:
            return lance.dataset(lance_uri(self.uri), version=self.version, storage_options=lance_options(self.uri))
        except (ValueError, OSError) as error:
            where = printable_name(self.uri) + ("" if self.version is None else f" in version {self.version}")
            raise SourceError(
                f"no Lance table can be opened at {where}: {_first_line(error)}; look at the path"
            ) from error


def _video(name: str, blob: Mapping[str, Any], place: Place, values: Mapping[str, Any]) -> VideoFile | Reject:
    try:
        said = annotations_from(values)
    except BadSplitError as error:
        return reject(name, "bad_row", f"the row of {place.uri}: {error}")
    return VideoFile(
        name=name,
        place=place,
        size_bytes=int(blob["size"]),
        split=said.split,
        label=said.label,
        group=said.group,
        captions=said.captions,
        columns=said.columns,
    )


def _refused(name: str, blob: Mapping[str, Any] | None, place: Place) -> Reject | None:
    """A Reject for a null, and for a blob that only points to a file elsewhere, which could be any file at all."""
    if blob is None or (blob["size"] == 0 and blob["position"] == 1 and "kind" not in blob):  # format 2.0 writes so
        return reject(name, "missing", f"{place.uri} is null; wanted a video")
    if points_elsewhere(blob):
        detail = f"{place.uri} points out of the table, to {blob.get('blob_uri')}, and that is not followed"
        return reject(name, "refused", f"{detail}; list the files in a manifest")
    return None


def _name(values: Mapping[str, Any], row: int) -> str:
    """What a column that is made for it calls the row, else the row's number."""
    for key in NAME_COLUMNS:
        value = values.get(key)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return printable_name(str(value))
    return f"row-{row}"


def _blob_column(schema: Any, wanted: str | None, uri: str) -> str:
    """The column that was named, else the only blob column, else the one called video."""
    blobs = [str(field.name) for field in schema if _is_blob(field)]
    if wanted is not None:
        if wanted in blobs:
            return wanted
        raise UsageError(f"{wanted!r} is no blob column of {printable_name(uri)}; it has {_columns(schema)}")
    if len(blobs) == 1 or "video" in blobs:
        return blobs[0] if len(blobs) == 1 else "video"
    if not blobs:
        raise SourceError(
            f"{printable_name(uri)} has no blob column, only {_columns(schema)}; wanted one whose field has the "
            "metadata lance-encoding:blob=true, since other columns cannot be read by ranges"
        )
    raise SourceError(f"{printable_name(uri)} has {len(blobs)} blob columns ({', '.join(blobs)}); name one as `column`")


def _columns(schema: Any) -> str:
    return ", ".join(f"{field.name} ({'blob' if _is_blob(field) else field.type})" for field in schema)


def _is_blob(field: Any) -> bool:
    marked = (field.metadata or {}).get(b"lance-encoding:blob") == b"true"
    return marked or getattr(field.type, "extension_name", "").startswith("lance.blob")


def _holds_bytes(field: Any) -> bool:
    import pyarrow as pa

    kind = field.type
    return _is_blob(field) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
