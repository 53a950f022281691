"""What stores of buckets and keys share. A uri goes in; what lies below it, or whether it is there, comes out.

A bucket has no folders: a uri may be a prefix of many keys, one key itself, or both. `list` gives what lies below it,
and the object of just that name only where nothing does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress

from cineray.errors import PlaceMissing
from cineray.storage.store import ObjectInfo, Store, StoreContext
from cineray.storage.uri import split_bucket


class BucketStore(Store):
    """A store whose objects are found by the beginning of their keys."""

    @abstractmethod
    def list_below(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        """Every object of the bucket whose key begins so, in the byte order of keys."""

    def list(self, uri: str) -> Iterator[ObjectInfo]:
        """Everything below, or the one object of this name."""
        bucket, key = split_bucket(uri)
        found = False
        for info in self.list_below(bucket, f"{key}/" if key else ""):
            found = True
            yield info
        if not found and key:
            with suppress(PlaceMissing):
                alone = self.open(uri, StoreContext())
                yield ObjectInfo(uri=uri, size_bytes=alone.size_bytes, version_tag=alone.version_tag)

    def exists(self, uri: str) -> bool:
        """An object of exactly this name, asked by opening it."""
        try:
            self.open(uri, StoreContext())
        except PlaceMissing:
            return False
        return True
