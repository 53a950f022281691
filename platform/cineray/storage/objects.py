"""Whole objects: open, stat, list, read, write, delete. A place of any scheme goes in; the right store answers.

`put_if_absent` is what a lake's history rests on: it is atomic (a reader sees the whole object or none), durable when
it returns, and has one winner however many processes try at once. `put_object` replaces, and is for objects whose name
says their content and for a writer's own staging, where replacing changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from cineray.errors import PlaceChanged, PlaceError, PlaceRefused
from cineray.records import Place
from cineray.storage import store
from cineray.storage.policy import AccessPolicy
from cineray.storage.reader import RangeReader, StoreReader, check_tag
from cineray.storage.retry import ReadCounter, RetryPolicy
from cineray.storage.store import ObjectInfo, StoreContext, Unlisted, store_for
from cineray.storage.uri import normalise_uri, scheme_of, split_bucket

_REPLACED_TIMES = 4
"""How often an object may be replaced under our eyes while we read it as a whole."""


def open_place(
    place: Place,
    *,
    policy: AccessPolicy | None = None,
    expect_tag: str = "",
    retry: RetryPolicy | None = None,
    counter: ReadCounter | None = None,
) -> RangeReader:
    """Open a place for ranged reads; offsets are relative to it. `expect_tag` refuses other bytes than were indexed."""
    context = StoreContext(
        policy=policy or AccessPolicy.from_env(), retry=retry or RetryPolicy(), counter=counter or ReadCounter()
    )
    uri = normalise_uri(place.uri)
    opened = store_for(uri).open(uri, context)
    try:
        check_tag(place, opened.version_tag, expect_tag)
        return StoreReader(place, opened, retry=context.retry, counter=context.counter)
    except PlaceError:
        opened.close()
        raise


def place_stat(place: Place, *, policy: AccessPolicy | None = None) -> tuple[int, str]:
    """(size in bytes of the place, version tag of its object); one request, no content."""
    with open_place(place, policy=policy) as reader:
        return reader.size_bytes, reader.version_tag


def list_objects(prefix_uri: str) -> Iterator[ObjectInfo]:
    """Every file below a folder or prefix, or the file itself, sorted by the bytes of their uris, as a stream.

    Links are listed (`is_link`) and not followed. A prefix where nothing lies lists nothing, as object stores do.
    """
    uri = normalise_uri(prefix_uri)
    return store_for(uri).list(uri)


def walk_objects(prefix_uri: str) -> Iterator[ObjectInfo | Unlisted]:
    """As `list_objects`, but a folder that may not or cannot be read is an `Unlisted`, and the listing goes on.

    For sources, whose folders strangers made. An error of the prefix itself is raised all the same.
    """
    uri = normalise_uri(prefix_uri)
    return store_for(uri).walk(uri)


def read_object(uri: str, *, limit_bytes: int, policy: AccessPolicy | None = None) -> bytes:
    """The whole object, if it has at most `limit_bytes`; one that is replaced meanwhile is read again."""
    for _ in range(_REPLACED_TIMES):
        try:
            with open_place(Place(uri=uri), policy=policy) as reader:
                if reader.size_bytes > limit_bytes:
                    raise PlaceError(
                        f"{uri} has {reader.size_bytes} bytes; wanted at most {limit_bytes}. "
                        "Look at whether it is the right file",
                        reason="too_large",
                    )
                return reader.read_at(0, reader.size_bytes)
        except PlaceChanged as error:
            changed = error
    raise changed


def object_exists(uri: str) -> bool:
    """Does an object (not a folder) of exactly this name exist now?"""
    uri = normalise_uri(uri)
    return store_for(uri).exists(uri)


def put_if_absent(uri: str, data: bytes) -> bool:
    """True: these bytes now lie there, durably. False: somebody else's object was there, and is untouched."""
    uri = normalise_uri(uri)
    return store_for(uri).put_if_absent(uri, data)


def put_object(uri: str, data: bytes) -> None:
    """Write the whole object atomically, replacing one of that name."""
    uri = normalise_uri(uri)
    store_for(uri).put(uri, data)


def upload_file(local_path: str, uri: str) -> None:
    """Copy a local file to a place, atomically, replacing one of that name."""
    uri = normalise_uri(uri)
    store_for(uri).upload(local_path, uri)


def new_object(uri: str, *, size_bytes: int) -> AbstractContextManager[BinaryIO]:
    """A file to write a large object into: it lies there when the block ends, and does not if that ends by an error.

    A local one is written beside its place. What goes to a store lies in this machine's folder for temporary files
    first ($TMPDIR), which is refused if that has no room for `size_bytes`.
    """
    uri = normalise_uri(uri)
    return store_for(uri).new(uri, size_bytes)


def check_room(uri: str, size_bytes: int) -> None:
    """Raise where `new_object` would find no room on this machine for so many bytes: to be known before the work."""
    store.check_room(normalise_uri(uri), size_bytes)


def delete_object(uri: str, *, recursive: bool = False) -> None:
    """Remove an object; with `recursive`, everything below a prefix. Nothing there is no error."""
    uri = normalise_uri(uri)
    scheme = scheme_of(uri)
    if recursive and (uri == "/" if scheme == "file" else not split_bucket(uri)[1]):
        raise PlaceRefused(f"deleting everything in {uri!r} is refused; name a folder inside it")
    store_for(uri).delete(uri, recursive=recursive)
