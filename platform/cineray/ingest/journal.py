"""The journal of an ingest: finished work as small immutable files under the lake, so that nothing is done twice.

    staging/<work key>/<run id>/part-<digest>.parquet      rows of `staged.SCHEMA`, put if absent

A run writes each finished batch as one part. When it is killed, the next run with the same work key (the same source
and the same checks) finds the parts, skips what they hold, and commits them with its own. Parts are cleared after
their rows are in a version; a part that another run cleared meanwhile is in a version too, so losing it loses nothing.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from cineray import storage
from cineray.errors import PlaceMissing
from cineray.ingest import staged

PART_LIMIT_BYTES = 1 << 30


class Journal:
    """The parts of one ingest: those it found and those it writes."""

    def __init__(self, lake_uri: str, work_key: str, run_id: str = "") -> None:
        self.folder = storage.join_uri(lake_uri, "staging", work_key)
        self.own = storage.join_uri(self.folder, run_id or uuid.uuid4().hex[:12])
        self.found = [info.uri for info in storage.list_objects(self.folder) if info.uri.endswith(".parquet")]

    def write(self, rows: list[staged.Row]) -> None:
        """One finished batch, durable when this returns; writing the same batch again changes nothing."""
        if rows:
            write_part(self.own, rows)

    def parts(self) -> list[str]:
        """Every part of this ingest, found or own, each once."""
        own = [info.uri for info in storage.list_objects(self.own) if info.uri.endswith(".parquet")]
        return sorted({*self.found, *own})

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The parts' rows, part by part, always in the same order."""
        for uri in self.parts():
            table = _read(uri, columns)
            if table is not None:
                yield table

    def clear(self) -> None:
        """Drop the parts whose rows are now in a version."""
        for uri in self.parts():
            storage.delete_object(uri)
        storage.delete_object(self.own, recursive=True)


def write_part(folder: str, rows: list[staged.Row]) -> None:
    """Name a part by what it holds: two tries at one batch (a retried Ray task) leave one part."""
    table = pa.Table.from_pylist(rows, schema=staged.schema())
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    data = sink.getvalue()
    name = blake3("\n".join(f"{r['key']} {r['signature']} {r['outcome']}" for r in rows).encode()).hexdigest()[:24]
    storage.put_if_absent(storage.join_uri(folder, f"part-{name}.parquet"), data)


def _read(uri: str, columns: list[str] | None) -> pa.Table | None:
    try:
        data = storage.read_object(uri, limit_bytes=PART_LIMIT_BYTES)
    except PlaceMissing:
        return None
    return pq.ParquetFile(io.BytesIO(data)).read(columns=columns)
