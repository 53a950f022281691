"""Latents that were made once: keys of clips go in, arrays come out; or nothing, and the clip is decoded as ever.

    <store>/store.json                          what made them, put if absent: another autoencoder, sampler or crop is
                                                refused, with what differs
    <store>/rows/<time>-<writer>.safetensors    rows, by any number of writers; each file is written whole or not at all

A row is found by the hash of all that it follows from: the video's content, the frames and their times, the crop, and
the store's identity (autoencoder, dtype, sampler, ...). So nothing in a store can be mistaken for something else, two
writers of one row write the same, and a writer that is killed leaves what it had finished. Local folder or object
storage. No torch: a feed worker that finds a clip here needs neither pixels nor a network.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import blake3

from cineray.errors import PlaceError, PlaceMissing, UsageError
from cineray.feed.latent_shard import Row, RowPlace, pack_shard, read_places, read_rows
from cineray.records import ClipSpec, Crop, Place
from cineray.storage import (
    RangeReader,
    join_uri,
    list_objects,
    normalise_uri,
    open_place,
    put_if_absent,
    read_object,
)

STORE_FORMAT = 1
LOOK_AGAIN_SECONDS = 10.0
"""A clip that is missing may have been written meanwhile: the folder is listed again, but not more often than this."""
_SAID = "store.json"
_LIMIT_BYTES = 1 << 20
_GAP_BYTES = 64 << 10
_MOST_OPEN = 32

_log = logging.getLogger("cineray.feed")


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """All that a store's rows have in common, as plain values."""

    values: Mapping[str, Any]

    def to_json(self) -> str:
        """The same values, the same text."""
        return json.dumps({"format": STORE_FORMAT, **self.values}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> StoreIdentity:
        """The inverse."""
        return cls({name: value for name, value in json.loads(text).items() if name != "format"})

    @property
    def fingerprint(self) -> str:
        """32 hex digits."""
        return blake3.blake3(self.to_json().encode()).hexdigest(length=16)


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A store in words: what travels to workers."""

    uri: str
    identity: str
    """`StoreIdentity.to_json`."""

    def open(self) -> LatentStore:
        """The store, refused if it is of something else."""
        return LatentStore.open(self.uri, StoreIdentity.from_json(self.identity))


def identity_at(uri: str) -> StoreIdentity | None:
    """What the store there is of; None where there is none."""
    try:
        text = read_object(join_uri(normalise_uri(uri), _SAID), limit_bytes=_LIMIT_BYTES)
        return StoreIdentity.from_json(text.decode())
    except PlaceMissing:
        return None
    except (ValueError, AttributeError):
        raise _unreadable(uri) from None


def latent_key(identity: StoreIdentity, spec: ClipSpec) -> str:
    """The row of a clip: all that its pixels follow from, and what is made of them."""
    crop = [getattr(spec.crop, name) for name in Crop.__slots__]
    frames = (spec.frame_numbers, spec.frame_pts, spec.frame_is_real)
    told = [identity.fingerprint, spec.video_id, *frames, str(spec.time_base), crop]
    return blake3.blake3(json.dumps(told).encode()).hexdigest(length=16)


class LatentStore:
    """A store that is read. For one process and one thread at a time."""

    def __init__(self, uri: str, identity: StoreIdentity) -> None:
        self.uri, self.identity = normalise_uri(uri), identity
        self._rows: dict[str, tuple[str, RowPlace]] = {}
        self._files: set[str] = set()
        self._readers: OrderedDict[str, RangeReader] = OrderedDict()
        self._looked = 0.0

    @classmethod
    def open(cls, uri: str, identity: StoreIdentity) -> LatentStore:
        """The store of this identity. One that is not there is begun; one that is of something else is refused."""
        store = cls(uri, identity)
        said = join_uri(store.uri, _SAID)
        if not put_if_absent(said, identity.to_json().encode()):
            _refuse_other(store.uri, read_object(said, limit_bytes=_LIMIT_BYTES), identity)
        store.look()
        return store

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    @property
    def spec(self) -> StoreSpec:
        """In words."""
        return StoreSpec(self.uri, self.identity.to_json())

    def key(self, spec: ClipSpec) -> str:
        """The row that a clip would have here."""
        return latent_key(self.identity, spec)

    def look(self) -> None:
        """Read what others have written since the last look."""
        self._looked = time.monotonic()
        for found in list_objects(join_uri(self.uri, "rows")):
            if found.uri not in self._files and found.uri.endswith(".safetensors"):
                self._files.add(found.uri)
                self._add(found.uri)

    def _add(self, uri: str) -> None:
        try:
            places = read_places(self._reader(uri))
        except PlaceError as error:
            if error.reason not in ("corrupt", "missing"):
                raise
            _log.warning("latents of %s are not used: %s", uri, error)
            return
        for key, place in places.items():
            self._rows.setdefault(key, (uri, place))

    def find(self, keys: Sequence[str]) -> list[Row | None]:
        """Each key's row, or None. A damaged row is none: it is said, and the latent is made again."""
        if any(key not in self._rows for key in keys) and time.monotonic() - self._looked > LOOK_AGAIN_SECONDS:
            self.look()
        rows: list[Row | None] = [None] * len(keys)
        by_file: dict[str, list[int]] = {}
        for number, key in enumerate(keys):
            if key in self._rows:
                by_file.setdefault(self._rows[key][0], []).append(number)
        for uri, numbers in by_file.items():
            for number, row in zip(numbers, self._read(uri, [keys[number] for number in numbers]), strict=True):
                rows[number] = row
        return rows

    def _read(self, uri: str, keys: Sequence[str]) -> list[Row | None]:
        try:
            rows = read_rows(self._reader(uri), [self._rows[key][1] for key in keys], gap_bytes=_GAP_BYTES)
        except PlaceMissing:
            _log.warning("latents of %s are gone, and are made again", uri)
            rows = [None] * len(keys)
        for key, row in zip(keys, rows, strict=True):
            if row is None:
                _log.warning("the latent %s in %s is damaged or gone, and is made again", key, uri)
                self._rows.pop(key, None)
        return rows

    def _reader(self, uri: str) -> RangeReader:
        """Open files are kept: on object storage, opening is a request."""
        if uri not in self._readers:
            self._readers[uri] = open_place(Place(uri=uri))
            if len(self._readers) > _MOST_OPEN:
                self._readers.popitem(last=False)[1].close()
        self._readers.move_to_end(uri)
        return self._readers[uri]

    def close(self) -> None:
        """Let go of open files."""
        while self._readers:
            self._readers.popitem()[1].close()


class LatentWriter:
    """Adds rows to a store. They wait in memory until there are `shard_bytes` of them, or until `flush`."""

    def __init__(self, store: LatentStore, *, shard_bytes: int = 64 << 20, flush_seconds: float = 30.0) -> None:
        self.store, self.shard_bytes, self.flush_seconds = store, shard_bytes, flush_seconds
        self._since = time.monotonic()
        self._dtype = str(store.identity.values["dtype"])
        self._rows: dict[str, Row] = {}
        self._done: set[str] = set()
        self._bytes = 0
        self.written = 0
        """Rows that lie in the store for good."""

    def add(self, key: str, row: Row) -> None:
        """One row; what the store has, or waits here already, is not written twice."""
        if key in self.store or key in self._rows or key in self._done:
            return
        if not self._rows:
            self._since = time.monotonic()
        self._rows[key] = row
        self._bytes += row.nbytes
        if self._bytes >= self.shard_bytes:
            self.flush()

    def flush_if_due(self) -> None:
        """Write what has waited for `flush_seconds`."""
        if self._rows and time.monotonic() - self._since >= self.flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Write what waits; when this returns, it is durable."""
        if not self._rows:
            return
        data = pack_shard(list(self._rows.items()), self._dtype)
        # Names sort by time, and nobody else has this one: a file is never replaced.
        name = f"{time.time_ns():016x}-{secrets.token_hex(6)}.safetensors"
        put_if_absent(join_uri(self.store.uri, "rows", name), data)
        self.written += len(self._rows)
        self._done |= self._rows.keys()
        self._rows, self._bytes = {}, 0

    def __enter__(self) -> LatentWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


def _refuse_other(uri: str, told: bytes, wanted: StoreIdentity) -> None:
    """A store of something else is not used, and it is said what differs."""
    try:
        found = json.loads(told)
    except ValueError:
        raise _unreadable(uri) from None
    want = json.loads(wanted.to_json())
    if found == want:
        return
    before, after = _leaves(found), _leaves(want)
    lines = [
        f"  {name}: {before.get(name, '(nothing)')} -> {after.get(name, '(nothing)')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    raise UsageError(
        f"the latents in {uri} were made for something else (there -> wanted here):\n" + "\n".join(lines) + "\n"
        "Name another latents.store, or go back to what these were made with"
    )


def _unreadable(uri: str) -> UsageError:
    return UsageError(f"{uri}/{_SAID} is not readable; wanted a store of latents, or an empty folder")


def _leaves(value: Any, name: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        return {k: v for key, inner in value.items() for k, v in _leaves(inner, f"{name}.{key}".lstrip(".")).items()}
    return {name: json.dumps(value)}
