"""Ranged reads. A place goes in; exactly the asked bytes come out, checked and retried, or a PlaceError.

Each store brings an `OpenObject`: its size, its version tag, and one attempt at fetching a range. `StoreReader` makes
a `RangeReader` of it: offsets relative to the place, short answers noticed, attempts repeated, everything counted.
The promise: `read_at` never returns other bytes than those of the version that was opened.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from cineray.errors import PlaceChanged, PlaceError
from cineray.records import Place
from cineray.storage.retry import ReadCounter, RetryPolicy, TransientError, with_retries


class RangeReader(Protocol):
    """Random access to the bytes of one place. May be used from several threads, not from a forked child."""

    size_bytes: int
    version_tag: str
    counter: ReadCounter

    def read_at(self, offset: int, length: int) -> bytes:
        """The `length` bytes from `offset`, fewer only where the place ends."""
        ...

    def close(self) -> None:
        """Let go of what is held; reading afterwards is an error."""
        ...

    def __enter__(self) -> RangeReader: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class OpenObject(Protocol):
    """One object of one store, as its store module opens it."""

    size_bytes: int
    version_tag: str

    def fetch(self, start: int, stop: int) -> bytes:
        """One attempt at bytes [start, stop), both inside the object; raises TransientError for what may pass."""
        ...

    def close(self) -> None:
        """Let go of connections and descriptors."""
        ...


class StoreReader:
    """The RangeReader over any store's open object."""

    def __init__(self, place: Place, opened: OpenObject, *, retry: RetryPolicy, counter: ReadCounter) -> None:
        self.place, self.counter = place, counter
        self.version_tag = opened.version_tag
        self._opened, self._retry = opened, retry
        self._start, self.size_bytes = _span(place, opened.size_bytes)

    def read_at(self, offset: int, length: int) -> bytes:
        """The `length` bytes from `offset` of the place, fewer only where the place ends."""
        if offset < 0 or length < 0:
            raise ValueError(f"read_at({offset}, {length}) of {self.place}: offset and length must be 0 or more")
        start = self._start + min(offset, self.size_bytes)
        stop = self._start + min(offset + length, self.size_bytes)
        if start == stop:
            return b""
        return with_retries(
            lambda: self._fetch_exactly(start, stop),
            what=f"reading bytes {start} to {stop} of {self.place.uri}",
            policy=self._retry,
            counter=self.counter,
        )

    def _fetch_exactly(self, start: int, stop: int) -> bytes:
        self.counter.add(requests=1)
        data = self._opened.fetch(start, stop)
        self.counter.add(bytes_read=len(data))
        if len(data) != stop - start:
            raise TransientError(f"the answer had {len(data)} bytes instead of {stop - start}")
        return data

    def close(self) -> None:
        """Let go of the store's connection or descriptor."""
        self._opened.close()

    def __enter__(self) -> StoreReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_tag(place: Place, found: str, expected: str) -> None:
    """An index is bound to its bytes: another version tag than the indexed one must not be read."""
    if expected and found != expected:
        raise PlaceChanged(
            f"{place.uri} has the version tag {found!r}, and {expected!r} was indexed; its bytes may have changed. "
            "Ingest it again"
        )


def _span(place: Place, object_bytes: int) -> tuple[int, int]:
    """Where the place begins in its object, and its size."""
    size = object_bytes - place.offset if place.length is None else place.length
    if place.offset < 0 or size < 0 or place.offset + size > object_bytes:
        raise PlaceError(
            f"{place} reaches beyond its object, which has {object_bytes} bytes; the object was cut short or replaced. "
            "Ingest it again",
            reason="truncated",
        )
    return place.offset, size
