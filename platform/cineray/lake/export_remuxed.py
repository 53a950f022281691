"""Remuxed videos on their way out and back. The media rows of a version go in; files under `remuxed/` come out.

A remux is data of the lake, not of the source: rows name it relative to the lake (`media/<id>.mp4`), and no source
could give it again. A remux that rows name by a whole uri lies elsewhere, like the videos themselves, and stays there.

Promises: what goes out has the bytes that its row says; what comes in has the bytes that the export lists, lands only
in the lake's `media/`, and never replaces anything; and no version is imported that names a remux it does not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from cineray.errors import LakeError, PlaceError, PlaceMissing
from cineray.lake.manifest import TableState
from cineray.lake.parcel import Parcel, copy_to_local, fetch, hash_object, packed, temporary
from cineray.lake.schema import unpack_text
from cineray.lake.tables import Table
from cineray.storage import join_uri, object_exists, upload_file

FOLDER = "remuxed"
"""Not `media`, which is the folder of a table's Parquet files."""

_IN_LAKE, _IN_EXPORT = re.compile(r"media/([^/]+)"), re.compile(FOLDER + r"/([^/]+)")
_MAX_NAMED = 5


def export_remuxed(lake: str, table: Table, state: TableState | None, out: str) -> list[Parcel]:
    """Copy every remux that the version's rows name, and list them."""
    if state is None:
        return []
    named: dict[str, str] = {}
    columns = ["remuxed_uri", "remuxed_hash"]
    for batch in table.scan(state.version, columns=columns, where="remuxed_uri IS NOT NULL"):
        named |= _named(batch)
    return [_sent(lake, name, hashed, out) for name, hashed in sorted(named.items())]


def _sent(lake: str, name: str, hashed: str, out: str) -> Parcel:
    uri = join_uri(lake, "media", name)
    advice = "`cineray lake verify --media hash` tells all that differ; ingest the source again to make it anew"
    with temporary() as local:
        try:
            found = copy_to_local(uri, local)
        except PlaceError as error:
            raise LakeError(f"the remuxed video {uri} cannot be exported: {error}. {advice}") from error
        if hashed and found != hashed:
            raise LakeError(f"the remuxed video {uri} hashes to {found[:16]}, its row says {hashed[:16]}. {advice}")
        parcel = packed(f"{FOLDER}/{name}", local)
        upload_file(local, join_uri(out, FOLDER, name))
    return parcel


def _named(batch: pa.RecordBatch) -> dict[str, str]:
    """Names below the lake's media/ and their BLAKE3, as far as rows say."""
    found = {}
    for uri, hashed in zip(batch["remuxed_uri"].to_pylist(), batch["remuxed_hash"].to_pylist(), strict=True):
        text = unpack_text(uri) if uri is not None else "/"
        if text.startswith("/") or "://" in text:
            continue
        found[_name(_IN_LAKE, text, "is no remuxed video of a lake; wanted media/<name>")] = _digits(hashed)
    return found


def _digits(hashed: str | None) -> str:
    return hashed.removeprefix("blake3:") if hashed and hashed.startswith("blake3:") else ""


def _name(shape: re.Pattern[str], text: str, otherwise: str) -> str:
    found = shape.fullmatch(text)
    if found is None or found[1] in (".", ".."):
        raise LakeError(f"{text!r} {otherwise}")
    return found[1]


def listed_by_name(parcels: Iterable[Parcel]) -> dict[str, Parcel]:
    """The remuxes of an export by their names in a lake's media/; refused if one would lie anywhere else."""
    otherwise = f"is no remuxed video of an export; wanted {FOLDER}/<name>. Export the version again"
    return {_name(_IN_EXPORT, parcel.path, otherwise): parcel for parcel in parcels}


def import_remuxed(lake: str, folder: str, listed: Mapping[str, Parcel]) -> None:
    """Put the export's remuxes into the lake, those that it does not have yet."""
    for name, parcel in listed.items():
        target = join_uri(lake, "media", name)
        try:
            held = hash_object(target)
        except PlaceMissing:
            with temporary() as local:
                fetch(folder, parcel, local)
                upload_file(local, target)
            continue
        if held != parcel.blake3:
            raise LakeError(
                f"{target} holds other bytes than the export's {parcel.path}, and other versions may name them; "
                "import into a new lake, or remove that file if `cineray lake gc` calls it garbage"
            )


def with_remuxed(
    batches: Iterable[pa.RecordBatch], *, lake: str, folder: str, listed: Mapping[str, Parcel]
) -> Iterator[pa.RecordBatch]:
    """Media rows as they pass; refused at their end if they name remuxes that neither export nor lake has."""
    lacking: list[str] = []
    for batch in batches:
        names = [name for name in _named(batch) if name not in listed]
        lacking += [name for name in names if not object_exists(join_uri(lake, "media", name))]
        yield batch
    if lacking:
        told = ", ".join(f"media/{name}" for name in sorted(lacking)[:_MAX_NAMED])
        more = ", ..." if len(lacking) > _MAX_NAMED else ""
        raise LakeError(
            f"the export {folder} lacks {len(lacking)} remuxed video{'s' * (len(lacking) > 1)} that its rows name "
            f"({told}{more}); an older cineray made it. Let this one export the version again, or copy them from the "
            f"first lake's media/ to {lake}/media/ and import once more"
        )
