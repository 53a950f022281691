"""One file on its way into or out of an export. A path goes in; its size and hash come out, or bytes that were checked.

Promises: bytes that arrive are those that the export's manifest lists, or nothing arrives; a path that the manifest
names lies inside the export; and a temporary file is gone when its user is done.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import blake3

from cineray.errors import LakeError
from cineray.records import Place
from cineray.storage import join_uri, open_place

_READ_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A file of an export; `path` is relative to the export."""

    path: str
    size_bytes: int
    blake3: str


def packed(path: str, local: str) -> Parcel:
    """What the manifest says of a local file that goes to `path`."""
    return Parcel(path=path, size_bytes=os.path.getsize(local), blake3=hash_file(local))


def fetch(folder: str, parcel: Parcel, local: str) -> None:
    """Copy a file of the export at `folder` to a local path, and refuse it if it is not what was exported."""
    if parcel.path.startswith("/") or ".." in parcel.path.split("/"):
        raise LakeError(f"the export's manifest names {parcel.path!r}, which is not inside it")
    uri = join_uri(folder, *parcel.path.split("/"))
    if copy_to_local(uri, local) != parcel.blake3:
        raise LakeError(f"{uri} was changed since it was exported: its BLAKE3 is not the manifest's. Export it again")


def copy_to_local(uri: str, local: str) -> str:
    """Copy an object to a local path, a part at a time; the BLAKE3 of its bytes."""
    with open(local, "wb") as file:
        hasher = blake3.blake3()
        for data in _parts(uri):
            hasher.update(data)
            file.write(data)
    return hasher.hexdigest()


def hash_object(uri: str) -> str:
    """The BLAKE3 of an object's bytes."""
    hasher = blake3.blake3()
    for data in _parts(uri):
        hasher.update(data)
    return hasher.hexdigest()


def _parts(uri: str) -> Iterator[bytes]:
    with open_place(Place(uri=uri)) as reader:
        for offset in range(0, reader.size_bytes, _READ_BYTES):
            yield reader.read_at(offset, min(_READ_BYTES, reader.size_bytes - offset))


def hash_file(path: str) -> str:
    """The BLAKE3 of a local file."""
    return blake3.blake3(max_threads=1).update_mmap(path).hexdigest()


@contextmanager
def temporary() -> Iterator[str]:
    """A local file that is gone afterwards: Parquet is written and read with seeks, stores take whole objects."""
    handle, path = tempfile.mkstemp(prefix="cineray-export-")
    os.close(handle)
    try:
        yield path
    finally:
        os.unlink(path)
