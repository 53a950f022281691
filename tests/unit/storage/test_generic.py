"""The stores that we reach through fsspec's own file systems, tried on the one that fsspec keeps in memory."""

from __future__ import annotations

from typing import Any

import fsspec
import pytest

from cineray.errors import PlaceError, PlaceMissing, PlaceRefused
from cineray.records import Place
from cineray.storage import ObjectInfo, RetryPolicy, put_if_absent
from cineray.storage.generic import FsspecStore, explained
from cineray.storage.reader import StoreReader
from cineray.storage.retry import TransientError
from cineray.storage.store import StoreContext, store_for

QUICK = RetryPolicy(tries=3, first_wait_seconds=0.01)


class MemoryStore(FsspecStore):
    def client(self, uri: str) -> Any:
        return fsspec.filesystem("memory")

    def path_of(self, uri: str) -> str:
        return uri.removeprefix("memory:/")

    def uri_of(self, path: str) -> str:
        return f"memory:/{path}"


@pytest.fixture
def store() -> MemoryStore:
    fsspec.filesystem("memory").store.clear()
    return MemoryStore()


def test_reading_and_listing(store: MemoryStore) -> None:
    for name in ("b/x", "b.txt", "b/y z%"):
        store.client("").pipe_file(f"/root/{name}", name.encode())
    context = StoreContext()
    opened = store.open("memory://root/b/y z%", context)
    reader = StoreReader(Place(uri="memory://root/b/y z%"), opened, retry=QUICK, counter=context.counter)
    assert (reader.size_bytes, reader.read_at(2, 2), reader.read_at(3, 99)) == (6, b"y ", b" z%")
    assert (context.counter.requests, context.counter.bytes_read) == (3, 5)
    listed = [(info.uri, info.size_bytes) for info in store.list("memory://root")]
    assert listed == [("memory://root/b.txt", 5), ("memory://root/b/x", 3), ("memory://root/b/y z%", 6)]
    assert all(isinstance(info, ObjectInfo) for info in store.list("memory://root"))
    assert list(store.list("memory://nothing")) == []
    assert [store.exists("memory://root/b/x"), store.exists("memory://root/c")] == [True, False]
    with pytest.raises(PlaceMissing, match="is a folder"):
        store.open("memory://root/b", context)


def test_a_file_system_that_fails_is_asked_again_and_then_named(store: MemoryStore, monkeypatch) -> None:
    store.client("").pipe_file("/x", b"content")
    failures = [OSError("busy"), OSError("busy")]
    real = type(store).read_range

    def failing(self: MemoryStore, client: Any, path: str, start: int, stop: int) -> bytes:
        if failures:
            raise failures.pop()
        return real(self, client, path, start, stop)

    monkeypatch.setattr(MemoryStore, "read_range", failing)
    context = StoreContext(retry=QUICK)
    reader = StoreReader(
        Place(uri="memory://x"), store.open("memory://x", context), retry=QUICK, counter=context.counter
    )
    assert (reader.read_at(0, 7), context.counter.retries) == (b"content", 2)
    failures += [OSError("gone for good")] * 3
    with pytest.raises(PlaceError, match=r"failed 3 times .* OSError: gone for good"):
        reader.read_at(0, 7)


def test_errors_of_file_systems_in_our_words() -> None:
    def with_status(status: int) -> OSError:
        error = OSError("answer")
        error.status_code = status  # type: ignore[attr-defined]
        return error

    kinds = [
        FileNotFoundError("x"),
        PermissionError("x"),
        with_status(403),
        ValueError("x"),
        with_status(503),
        OSError("x"),
    ]
    assert [type(explained(error, "hf://x")) for error in kinds] == [
        PlaceMissing,
        PlaceError,
        PlaceError,
        PlaceError,
        TransientError,
        TransientError,
    ]


def test_the_hub_is_read_only() -> None:
    with pytest.raises(PlaceRefused, match="can only be read; a lake needs"):
        put_if_absent("hf://datasets/org/name/x.json", b"")
    hub = store_for("hf://datasets/org/name/x.json")
    assert isinstance(hub, FsspecStore)
    path = "datasets/org/name@main/a b%.mp4"
    assert (hub.path_of(f"hf://{path}"), hub.uri_of(path)) == (path, f"hf://{path}")
