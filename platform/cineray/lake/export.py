"""The way out, and back. A version goes in; a folder of Parquet files comes out that needs neither cineray nor Lance.

    <out>/manifest.json                        the version's manifest, and each file's rows, size and BLAKE3
    <out>/media/part-00000.parquet             one folder per table: pyarrow.parquet.read_table("<out>/media")
    <out>/layers/captions/part-00000.parquet
    <out>/remuxed/<video_id>.mp4               the lossless MP4s that ingest made and the version names

Promises: an export lies apart from its lake; the manifest is written last and never replaces one, so a folder that
has it is whole; imported again, the rows have the same fingerprint and the remuxed videos the same bytes; and an
export that was changed since is refused before a version is made of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from cineray.errors import LakeError, PlaceMissing, UsageError
from cineray.lake.commit import Changes
from cineray.lake.export_remuxed import export_remuxed, import_remuxed, listed_by_name, with_remuxed
from cineray.lake.manifest import TableState, Version, version_from_json, version_to_json
from cineray.lake.parcel import Parcel, fetch, packed, temporary
from cineray.lake.schema import table_schema, with_all_columns
from cineray.lake.tables import Table
from cineray.storage import is_remote, join_uri, normalise_uri, object_exists, put_if_absent, read_object, upload_file

PART_BYTES = 256 << 20
_MANIFEST_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Parcel):
    """One Parquet file of an export."""

    rows: int


class Exported(Protocol):
    """What an export needs of the lake."""

    uri: str
    id: str

    def table(self, name: str) -> Table:
        """The adapter of one table."""


class Importing(Protocol):
    """What an import needs of the lake."""

    uri: str

    def commit(self, prepare: Any, *, author: str, command: str, source: str, processing: Any, message: str) -> Version:
        """Make a version."""


def export(lake: Exported, version: Version, out_uri: str) -> list[str]:
    """Write a version out; the uris of all files, the manifest last."""
    out = check_apart(lake.uri, out_uri)
    manifest = join_uri(out, "manifest.json")
    taken = LakeError(f"there is already an export at {out}; choose another place")
    if object_exists(manifest):
        raise taken
    parts = {name: _write_table(lake.table(name), state, out, name) for name, state in sorted(version.tables.items())}
    remuxed = export_remuxed(lake.uri, lake.table("media"), version.tables.get("media"), out)
    told = json.loads(version_to_json(version))
    told["export"] = {
        "lake": lake.id,
        "files": {name: [asdict(part) for part in written] for name, written in parts.items()},
        "remuxed": [asdict(parcel) for parcel in remuxed],
    }
    if not put_if_absent(manifest, json.dumps(told, indent=1).encode()):
        raise taken
    paths = [part.path for written in parts.values() for part in written] + [parcel.path for parcel in remuxed]
    return [*(join_uri(out, *path.split("/")) for path in paths), manifest]


def check_apart(lake: str, out_uri: str) -> str:
    """The canonical uri of an export's place, if it is not the lake, in it or around it: gc tidies there."""
    out = normalise_uri(out_uri)
    one, other = (uri if is_remote(uri) else os.path.realpath(uri) for uri in (lake, out))
    if f"{one.rstrip('/')}/".startswith(f"{other.rstrip('/')}/") or other.startswith(f"{one.rstrip('/')}/"):
        raise UsageError(
            f"{out} cannot take an export of the lake {lake}: an export lies beside a lake, not in it or around it, "
            f"where gc would take it for garbage; choose another place, such as {lake.rstrip('/')}-export"
        )
    return out


def _write_table(table: Table, state: TableState, out: str, name: str) -> list[Part]:
    parts: list[Part] = []
    for number, batches in enumerate(_chunks(table.scan(state.version))):
        path = f"{name}/part-{number:05d}.parquet"
        with temporary() as local:
            rows = 0
            with pq.ParquetWriter(local, table.schema, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    rows += batch.num_rows
            parts.append(Part(**asdict(packed(path, local)), rows=rows))
            upload_file(local, join_uri(out, *path.split("/")))
    return parts


def _chunks(batches: Iterator[pa.RecordBatch]) -> Iterator[Iterator[pa.RecordBatch]]:
    """Batches in runs of about PART_BYTES, each to be used up before the next is asked for."""
    for first in batches:

        def run(batch: pa.RecordBatch = first) -> Iterator[pa.RecordBatch]:
            size_bytes = batch.nbytes
            yield batch
            while size_bytes < PART_BYTES and (following := next(batches, None)) is not None:
                size_bytes += following.nbytes
                yield following

        yield run()


def import_export(lake: Importing, uri: str, *, author: str, replace: bool) -> Version:
    """Make an export the next version. A lake that has other rows is refused, unless they are to be replaced by it."""
    folder = normalise_uri(uri)
    version, parts, remuxed = _read_manifest(folder)

    def prepare(head: Version | None) -> Changes:
        held = [name for name, state in head.tables.items() if state.rows] if head else []
        same = head is not None and head.fingerprint == version.fingerprint
        if head and held and not same and not replace:
            raise LakeError(
                f"the lake holds version {head.number} with other data; import into a new lake, or replace its rows"
            )
        import_remuxed(lake.uri, folder, remuxed)
        if same:
            return Changes()
        add = {name: _read_parts(folder, name, listed) for name, listed in parts.items()}
        if "media" in add:
            add["media"] = with_remuxed(add["media"], lake=lake.uri, folder=folder, listed=remuxed)
        return Changes(add=add, remove=dict.fromkeys(held, "true"), split_rule=version.split_rule)

    made = lake.commit(
        prepare,
        author=author,
        command=f"import {folder}",
        source=folder,
        processing=version.processing,
        message=f"version {version.number} of another lake, made {version.created_at} by {version.author}",
    )
    if made.fingerprint != version.fingerprint:
        raise LakeError(
            f"version {made.number} was imported with fingerprint {made.fingerprint[:16]}; the export says "
            f"{version.fingerprint[:16]}. Its manifest does not fit its files: export it again"
        )
    return made


def _read_manifest(folder: str) -> tuple[Version, dict[str, list[Part]], dict[str, Parcel]]:
    uri = join_uri(folder, "manifest.json")
    try:
        told = json.loads(read_object(uri, limit_bytes=_MANIFEST_LIMIT))
        listing = told.pop("export")
        parts = {name: [Part(**part) for part in listed] for name, listed in listing["files"].items()}
        remuxed = [Parcel(**parcel) for parcel in listing.get("remuxed", ())]  # an older cineray left them out
    except PlaceMissing:
        raise LakeError(f"there is no export at {folder}: it has no manifest.json") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LakeError(f"{uri} is not the manifest of an export ({error}); export the version again") from error
    return version_from_json(json.dumps(told).encode(), where=uri), parts, listed_by_name(remuxed)


def _read_parts(folder: str, name: str, parts: Iterable[Part]) -> Iterator[pa.RecordBatch]:
    schema = table_schema(name)
    for part in parts:
        with temporary() as local:
            fetch(folder, part, local)
            with pq.ParquetFile(local) as file:
                for batch in file.iter_batches(batch_size=4096):
                    yield with_all_columns(batch, schema)
