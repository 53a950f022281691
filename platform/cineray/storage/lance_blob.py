"""One blob of a Lance table as a place. `lance+<table>?version=V&column=C&row=R` goes in; ranges of its bytes come out.

`version` pins the table, so `row` (counted from 0 in that version's order) names the same value for ever, and an index
of it cannot go stale while the version exists: the version tag says exactly this triple and the size. Lance reads
ranges by itself, local and on object stores, so only the bytes asked for are fetched.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

from cineray.errors import PlaceError, PlaceMissing, PlaceRefused
from cineray.storage.lance_options import lance_options, lance_uri
from cineray.storage.retry import TransientError
from cineray.storage.store import Store, StoreContext
from cineray.storage.uri import LANCE_PREFIX, normalise_uri, scheme_of

if TYPE_CHECKING:
    import lance

_EXTERNAL = 3
"""The kind of a blob (in Lance's format 2.2) whose bytes lie in another file that it names."""
_MAX_TABLES = 16
_tables: OrderedDict[tuple[int, str, int, str], lance.LanceDataset] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAddress:
    """The parts of a blob's uri."""

    table: str
    version: int
    column: str
    row: int

    @classmethod
    def parse(cls, uri: str) -> BlobAddress:
        """From the canonical spelling; what is missing or odd is named."""
        table, _, query = uri.removeprefix(LANCE_PREFIX).rpartition("?")
        fields = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        numbers = fields.get("version", ""), fields.get("row", "")
        if set(fields) != {"version", "column", "row"} or not all(n.isascii() and n.isdecimal() for n in numbers):
            raise PlaceRefused(f"{uri!r} names no blob; wanted {LANCE_PREFIX}<table>?version=V&column=C&row=R")
        if scheme_of(table) not in ("file", "s3", "gs", "abfs"):
            raise PlaceRefused(f"{uri!r}: a Lance table lies in a local path, s3, gs or abfs")
        return cls(table=table, version=int(numbers[0]), column=fields["column"], row=int(numbers[1]))

    def __str__(self) -> str:
        query = urlencode({"version": self.version, "column": self.column, "row": self.row})
        return f"{LANCE_PREFIX}{self.table}?{query}"


def blob_uri(table_uri: str, *, version: int, column: str, row: int) -> str:
    """The uri of one blob."""
    return str(BlobAddress(table=normalise_uri(table_uri), version=version, column=column, row=row))


class _LanceBlobStore(Store):
    """Read-only: blobs are written with their table."""

    def open(self, uri: str, context: StoreContext) -> _LanceBlob:
        return _LanceBlob(uri, context)

    def exists(self, uri: str) -> bool:
        try:
            _LanceBlob(uri, StoreContext())
        except PlaceMissing:
            return False
        return True


class _LanceBlob:
    """One value; Lance opens it by range."""

    def __init__(self, uri: str, context: StoreContext) -> None:
        self._uri = uri
        address = BlobAddress.parse(uri)
        context.counter.add(requests=1)
        try:
            _refuse_pointer(address, uri)
            found = _table(address).take_blobs(address.column, indices=[address.row])
        except (OSError, RuntimeError, ValueError, IndexError, KeyError) as error:
            raise _no_blob(error, uri) from error
        if not found or found[0] is None:
            raise PlaceMissing(f"{uri}: the value is null; wanted a blob")
        self._file: Any = found[0]
        self.size_bytes = int(self._file.size())
        self.version_tag = f"{address.version}-{address.column}-{address.row}-{self.size_bytes}"

    def fetch(self, start: int, stop: int) -> bytes:
        try:
            return bytes(self._file.read_range(start, stop - start))
        except OSError as error:
            raise TransientError(f"Lance: {error}") from error
        except ValueError as error:
            raise PlaceError(f"{self._uri}: Lance refuses bytes {start} to {stop}: {error}") from error

    def close(self) -> None:
        self._file.close()


def points_elsewhere(descriptor: Mapping[str, Any] | None) -> bool:
    """Whether a blob's descriptor only names another file, which could be any file at all (formats from 2.2)."""
    return descriptor is not None and (descriptor.get("kind") == _EXTERNAL or bool(descriptor.get("blob_uri")))


def _refuse_pointer(address: BlobAddress, uri: str) -> None:
    """Lance would follow a pointer past our access policy."""
    table = _table(address)
    if address.row >= table.count_rows() or address.column not in table.schema.names:
        return  # `take_blobs` says so in better words
    (row,) = table.take([address.row], columns=[address.column]).to_pylist()
    descriptor = row[address.column]
    if isinstance(descriptor, dict) and points_elsewhere(descriptor):
        raise PlaceRefused(f"{uri} points out of the table, to {descriptor.get('blob_uri')}, and that is not followed")


def _no_blob(error: Exception, uri: str) -> PlaceError:
    """Lance has retried what may pass; it tells by its words alone whether the rest is missing or unreadable."""
    said = str(error)
    named_wrong = isinstance(error, ValueError | IndexError | KeyError)
    if named_wrong or any(words in said.lower() for words in ("not found", "does not exist")):
        return PlaceMissing(f"{uri}: the table gives no such blob ({said}); look at version, column and row")
    return PlaceError(f"{uri}: Lance cannot open the blob ({said}); look at the table and the credentials")


def _table(address: BlobAddress) -> lance.LanceDataset:
    """The table at its version, opened once per process: opening reads its manifest."""
    import lance

    options = lance_options(address.table)
    key = (os.getpid(), address.table, address.version, repr(sorted(options.items())))
    with _lock:
        if key not in _tables:
            _tables[key] = lance.dataset(lance_uri(address.table), version=address.version, storage_options=options)
            if len(_tables) > _MAX_TABLES:
                _tables.popitem(last=False)
        _tables.move_to_end(key)
        return _tables[key]


STORE = _LanceBlobStore()
