"""Any store that fsspec has a file system for. Uris go in; ranged reads, listings and writes come out, in its words.

For the stores whose own interface we do not speak (Azure, the Hugging Face Hub). What their file systems leave out,
this leaves out: their retries come on top of ours, a listing is held in memory as a whole, and a change of the object
while it is read is noticed when it is opened again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from cineray.errors import CinerayError, PlaceError, PlaceMissing
from cineray.storage.filesystems import filesystem
from cineray.storage.retry import TransientError, with_retries
from cineray.storage.store import ObjectInfo, Store, StoreContext

if TYPE_CHECKING:
    import fsspec

T = TypeVar("T")


class FsspecStore(Store):
    """Reading and listing; a store that can write adds how it writes without replacing."""

    @abstractmethod
    def path_of(self, uri: str) -> str:
        """The path that the file system wants."""

    @abstractmethod
    def uri_of(self, path: str) -> str:
        """Back from a listed path."""

    def client(self, uri: str) -> fsspec.AbstractFileSystem:
        """The file system of this process."""
        return filesystem(uri)

    def read_range(self, client: fsspec.AbstractFileSystem, path: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) by one request, if the file system can."""
        return bytes(client.cat_file(path, start=start, end=stop))

    def open(self, uri: str, context: StoreContext) -> _FsspecObject:
        """Size and version as the file system describes them."""
        return _FsspecObject(self, uri, context)

    def list(self, uri: str) -> Iterator[ObjectInfo]:
        """Everything below, sorted here: file systems sort by folder."""
        client = self.client(uri)
        client.invalidate_cache()
        try:
            found = asked(f"listing {uri}", uri, lambda: client.find(self.path_of(uri), detail=True))
        except PlaceMissing:
            return
        infos = (
            ObjectInfo(uri=self.uri_of(path), size_bytes=int(info["size"] or 0), version_tag=tag_of(info))
            for path, info in found.items()
            if info.get("type", "file") == "file"
        )
        yield from sorted(infos, key=lambda info: info.uri.encode())

    def exists(self, uri: str) -> bool:
        """A file of exactly this name."""
        try:
            _FsspecObject(self, uri, StoreContext())
        except PlaceMissing:
            return False
        return True


class _FsspecObject:
    """One object as its file system describes it."""

    def __init__(self, store: FsspecStore, uri: str, context: StoreContext) -> None:
        self._store, self._client, self._path, self._uri = store, store.client(uri), store.path_of(uri), uri
        info = asked(f"opening {uri}", uri, self._look, context)
        if info["type"] != "file":
            raise PlaceMissing(f"{uri} is a folder; wanted a file. Look at the name")
        self.size_bytes, self.version_tag = int(info["size"]), tag_of(info)

    def _look(self) -> Any:
        self._client.invalidate_cache()
        return self._client.info(self._path)

    def fetch(self, start: int, stop: int) -> bytes:
        try:
            return self._store.read_range(self._client, self._path, start, stop)
        except Exception as error:
            raise explained(error, self._uri) from error

    def close(self) -> None:
        """Connections belong to the client of this process."""


def asked(what: str, uri: str, call: Callable[[], T], context: StoreContext | None = None) -> T:
    """One call of a file system, retried and counted."""
    context = context or StoreContext()

    def attempt() -> T:
        context.counter.add(requests=1)
        try:
            return call()
        except Exception as error:
            raise explained(error, uri) from error

    return with_retries(attempt, what=what, policy=context.retry, counter=context.counter)


def tag_of(info: dict[str, Any]) -> str:
    """What changes with the content, under the names that file systems give it."""
    for name in ("etag", "ETag", "xet_hash", "blob_id"):
        if info.get(name):
            return str(info[name]).strip('"')
    return f"{info['size']}-{info.get('last_modified') or info.get('mtime') or ''}"


def explained(error: Exception, uri: str) -> Exception:
    """Our word for what a file system raised. Their errors form no common tree, so the rest counts as passing."""
    if isinstance(error, CinerayError | FileExistsError):
        return error
    if isinstance(error, FileNotFoundError):
        return PlaceMissing(f"{uri}: there is no such object ({error}); look at the name")
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, PermissionError) or status in (401, 403) or isinstance(error, ValueError | TypeError):
        return PlaceError(f"{uri}: {type(error).__name__}: {error}; look at the name and the credentials")
    return TransientError(f"{type(error).__name__}: {error}")
