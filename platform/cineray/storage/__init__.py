"""Bytes at places: local files, object stores, web addresses, blobs in Lance tables, behind one interface.

Reading is by ranges (`open_place`), counted and retried, bound to the version that was opened, and never from an
address that the `AccessPolicy` forbids. Writing is whole objects, atomic and durable (`put_if_absent`). Importing this
package imports no cloud's library; a place of that cloud does, and says which extra is missing.
"""

from cineray.storage.filesystems import filesystem
from cineray.storage.lance_options import lance_options, lance_uri
from cineray.storage.objects import (
    check_room,
    delete_object,
    list_objects,
    new_object,
    object_exists,
    open_place,
    place_stat,
    put_if_absent,
    put_object,
    read_object,
    upload_file,
    walk_objects,
)
from cineray.storage.place_file import PlaceFile
from cineray.storage.policy import AccessPolicy
from cineray.storage.reader import RangeReader
from cineray.storage.retry import ReadCounter, RetryPolicy
from cineray.storage.store import ObjectInfo, Unlisted
from cineray.storage.uri import is_remote, join_uri, normalise_uri

__all__ = [
    "AccessPolicy",
    "ObjectInfo",
    "PlaceFile",
    "RangeReader",
    "ReadCounter",
    "RetryPolicy",
    "Unlisted",
    "check_room",
    "delete_object",
    "filesystem",
    "is_remote",
    "join_uri",
    "lance_options",
    "lance_uri",
    "list_objects",
    "new_object",
    "normalise_uri",
    "object_exists",
    "open_place",
    "place_stat",
    "put_if_absent",
    "put_object",
    "read_object",
    "upload_file",
    "walk_objects",
]
