"""One store: the seam that a new kind of place implements, and the list of those that exist.

A canonical uri goes in; an open object, a listing or a durable write comes out. A store reads; most list and write
too, and those that do not say so with what to use instead. Modules are imported when a uri asks for them: reading
local files imports no cloud's library.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import BinaryIO, cast

from cineray.errors import PlaceError, PlaceRefused
from cineray.storage.filesystems import missing_extra
from cineray.storage.policy import AccessPolicy
from cineray.storage.reader import OpenObject
from cineray.storage.retry import ReadCounter, RetryPolicy
from cineray.storage.uri import scheme_of

# scheme -> the module whose STORE answers for it
STORES: dict[str, str] = {
    "file": "cineray.storage.local",
    "http": "cineray.storage.http",
    "https": "cineray.storage.http",
    "s3": "cineray.storage.s3",
    "gs": "cineray.storage.gcs",
    "abfs": "cineray.storage.azure",
    "hf": "cineray.storage.hub",
    "lance": "cineray.storage.lance_blob",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One object of a listing. For a link, size and tag are those of the link itself, not of what it points to."""

    uri: str
    size_bytes: int
    version_tag: str
    is_link: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlisted:
    """A folder or a file that a listing met and may or can not look at; the error says why."""

    uri: str
    error: PlaceError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreContext:
    """What every request of one caller shares: what is allowed, how patient to be, and the count."""

    policy: AccessPolicy = field(default_factory=AccessPolicy.from_env)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    counter: ReadCounter = field(default_factory=ReadCounter)


class Store(ABC):
    """What a kind of place can do. Uris are canonical, as `normalise_uri` writes them."""

    @abstractmethod
    def open(self, uri: str, context: StoreContext) -> OpenObject:
        """Find out size and version tag; raises PlaceMissing, PlaceRefused or PlaceError."""

    def list(self, uri: str) -> Iterator[ObjectInfo]:
        """Every object at or below `uri`, in byte order; nothing there gives nothing."""
        raise PlaceRefused(f"{uri!r} cannot be listed; name its files one by one in a manifest with a 'uri' column")

    def walk(self, uri: str) -> Iterator[ObjectInfo | Unlisted]:
        """As `list`, and what cannot be looked at is told instead of ending the listing; buckets have no such thing."""
        return self.list(uri)

    def exists(self, uri: str) -> bool:
        """Is there an object (not a folder) of exactly this name?"""
        raise _read_only(uri)

    def put_if_absent(self, uri: str, data: bytes) -> bool:  # noqa: ARG002 - stores that write use it
        """Write the whole object, unless one is there; True if ours is the one."""
        raise _read_only(uri)

    def put(self, uri: str, data: bytes) -> None:  # noqa: ARG002 - stores that write use it
        """Write the whole object, instead of one that may be there."""
        raise _read_only(uri)

    def upload(self, local_path: str, uri: str) -> None:  # noqa: ARG002 - stores that write use it
        """As `put`, from a file that need not fit into memory."""
        raise _read_only(uri)

    @contextmanager
    def new(self, uri: str, size_bytes: int) -> Iterator[BinaryIO]:
        """A file that becomes the whole object when the block ends: here by way of this machine's disk."""
        check_room(uri, size_bytes)
        with tempfile.TemporaryDirectory(prefix="cineray-object-") as folder:
            path = os.path.join(folder, "whole")
            try:
                with open(path, "wb") as file:
                    yield file
            except OSError as error:
                raise PlaceError(
                    f"{uri} is written to {folder} before it is uploaded, and that failed: {error.strerror or error}; "
                    "free some space there, or set TMPDIR to a larger disk"
                ) from error
            self.upload(path, uri)

    def delete(self, uri: str, *, recursive: bool) -> None:  # noqa: ARG002 - stores that write use it
        """Remove the object, or all below; nothing there is no error."""
        raise _read_only(uri)


def check_room(uri: str, size_bytes: int) -> None:
    """Raise where this machine's disk has no room for what is to be uploaded to `uri`; a local place needs none."""
    if scheme_of(uri) == "file":
        return
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < size_bytes:
        raise PlaceError(
            f"{folder} has {free:,} bytes free, and what goes to {uri} is written there before it is uploaded: "
            f"{size_bytes:,} bytes; free some space there, or set TMPDIR to a larger disk"
        )


def store_for(uri: str) -> Store:
    """The store that a canonical uri lies in."""
    return _load(scheme_of(uri))


@cache
def _load(scheme: str) -> Store:
    try:
        return cast(Store, importlib.import_module(STORES[scheme]).STORE)
    except ImportError as error:
        raise missing_extra(scheme, error) from error


def _read_only(uri: str) -> PlaceRefused:
    return PlaceRefused(f"{uri!r} can only be read; a lake needs a local path, s3://, gs:// or abfs://")
