"""Buckets of Google Cloud Storage. Uris go in; ranged reads, listings and conditional writes come out.

The client is gcsfs's, for its credentials, its event loop and its session; the requests are those of Google's JSON
interface, made one by one for the same reasons as in storage/s3.py. The version tag is the object's generation, which
every write changes and nothing else does; reads and the one write that must not replace anything are bound to it.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import fsspec.asyn
import gcsfs.core  # noqa: F401 - so that a missing extra is noticed here, under its name

from cineray.errors import PlaceChanged, PlaceError, PlaceMissing
from cineray.storage.answers import failure_of
from cineray.storage.bucket_store import BucketStore
from cineray.storage.filesystems import filesystem
from cineray.storage.retry import TransientError, with_retries
from cineray.storage.store import ObjectInfo, StoreContext
from cineray.storage.uri import split_bucket

_OURS = "cineray-write"


class _GcsStore(BucketStore):
    """One bucket and object name per uri."""

    def open(self, uri: str, context: StoreContext) -> _GcsObject:
        return _GcsObject(uri, context)

    def list_below(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        return _list_below(bucket, prefix)

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """One winner: generation 0 means that nothing is there. A mark tells our own write, whose answer was lost."""
        mark = uuid.uuid4().hex
        try:
            _write(uri, data, mark, ifGenerationMatch="0")
        except PlaceChanged:  # 412: something is there
            found = json.loads(_send("looking at", uri, _Request("GET", _object_path(uri))))
            return bool(found.get("metadata", {}).get(_OURS) == mark)
        return True

    def put(self, uri: str, data: bytes) -> None:
        _write(uri, data, uuid.uuid4().hex)

    def upload(self, local_path: str, uri: str) -> None:
        try:
            filesystem(uri).put_file(local_path, "/".join(split_bucket(uri)))
        except (OSError, aiohttp.ClientError) as error:
            raise PlaceError(
                f"uploading {local_path!r} to {uri} failed: {error}; look at the store, then repeat"
            ) from error

    def delete(self, uri: str, *, recursive: bool) -> None:
        for each in [info.uri for info in self.list(uri)] if recursive else [uri]:
            with suppress(PlaceMissing):
                _send("deleting", each, _Request("DELETE", _object_path(each)))


class _GcsObject:
    """One object, pinned to the generation it had when opened: each read is one GET that fails if it was replaced."""

    def __init__(self, uri: str, context: StoreContext) -> None:
        self._uri, self._context = uri, context
        found = json.loads(_send("opening", uri, _Request("GET", _object_path(uri)), context))
        self.size_bytes, self.version_tag = _size_and_tag(found)

    def fetch(self, start: int, stop: int) -> bytes:
        request = _Request(
            "GET",
            _object_path(self._uri),
            {"alt": "media", "ifGenerationMatch": self.version_tag},
            {"Range": f"bytes={start}-{stop - 1}"},
            longest_bytes=stop - start,
        )
        return _attempt(request, self._uri, self._context.retry.deadline_seconds(stop - start), self.version_tag)

    def close(self) -> None:
        """Connections belong to the client of this process."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    parameters: dict[str, str] | None = None
    headers: dict[str, str] | None = None
    body: bytes | None = None
    longest_bytes: int | None = None


def _list_below(bucket: str, prefix: str) -> Iterator[ObjectInfo]:
    """Objects in the store's own order, which is that of the names' bytes; one page in memory."""
    uri, token = f"gs://{bucket}/{prefix}", ""
    while True:
        parameters = {"prefix": prefix, "fields": "nextPageToken,items(name,size,generation)"}
        request = _Request(
            "GET", f"storage/v1/b/{quote(bucket, safe='')}/o", parameters | ({"pageToken": token} if token else {})
        )
        page = json.loads(_send("listing", uri, request))
        for item in page.get("items", ()):
            if not item["name"].endswith("/"):  # the marks that some tools leave for folders
                size, tag = _size_and_tag(item)
                yield ObjectInfo(uri=f"gs://{bucket}/{item['name']}", size_bytes=size, version_tag=tag)
        token = page.get("nextPageToken", "")
        if not token:
            return


def _write(uri: str, data: bytes, mark: str, **conditions: str) -> None:
    """One request with the description and the content, as multipart/related."""
    bucket, key = split_bucket(uri)
    edge = uuid.uuid4().hex
    described = json.dumps({"name": key, "metadata": {_OURS: mark}})
    head = f"--{edge}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{described}\r\n"
    head += f"--{edge}\r\nContent-Type: application/octet-stream\r\n\r\n"
    request = _Request(
        "POST",
        f"upload/storage/v1/b/{quote(bucket, safe='')}/o",
        {"uploadType": "multipart"} | conditions,
        {"Content-Type": f'multipart/related; boundary="{edge}"'},
        head.encode() + data + f"\r\n--{edge}--".encode(),
    )
    _send("writing", uri, request)


def _object_path(uri: str) -> str:
    bucket, key = split_bucket(uri)
    return f"storage/v1/b/{quote(bucket, safe='')}/o/{quote(key, safe='')}"


def _size_and_tag(found: dict[str, Any]) -> tuple[int, str]:
    return int(found.get("size", 0)), str(found["generation"])


def _send(doing: str, uri: str, request: _Request, context: StoreContext | None = None) -> bytes:
    """One request, retried and counted."""
    context = context or StoreContext()

    def attempt() -> bytes:
        context.counter.add(requests=1)
        return _attempt(request, uri, context.retry.deadline_seconds(len(request.body or b"")))

    return with_retries(attempt, what=f"{doing} {uri}", policy=context.retry, counter=context.counter)


def _attempt(request: _Request, uri: str, deadline_seconds: float, generation: str = "") -> bytes:
    """One request on the client's event loop, with a deadline; failures come out in our words."""
    client = filesystem(uri)

    async def bounded() -> bytes:
        return await asyncio.wait_for(_exchange(client, request, uri, generation), deadline_seconds)

    try:
        return bytes(fsspec.asyn.sync(client.loop, bounded))
    except (TimeoutError, fsspec.asyn.FSTimeoutError) as error:
        raise TransientError(f"no whole answer within {deadline_seconds:.0f} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise TransientError(f"{type(error).__name__}: {error}") from error


async def _exchange(client: Any, request: _Request, uri: str, generation: str) -> bytes:
    await client._set_session()
    from yarl import URL  # the type that keeps our own percent-encoding of object names

    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in (request.parameters or {}).items())
    url = URL(f"{client._location}/{request.path}{'?' if query else ''}{query}", encoded=True)
    headers = client._get_headers(request.headers)
    async with client.session.request(request.method, url, data=request.body, headers=headers) as answer:
        if answer.status not in (200, 204, 206):
            raise failure_of(answer.status, uri, answer.reason or "", retry_after=answer.headers.get("Retry-After"))
        now = answer.headers.get("x-goog-generation", generation)
        if generation and now != generation:
            raise PlaceChanged(
                f"{uri} was replaced while it was read: generation {generation}, now {now}. Ingest it again"
            )
        size, longest = answer.content_length, request.longest_bytes
        if longest is not None and size is not None and size > longest:
            raise PlaceError(f"{uri}: asked for {longest} bytes, the store began to send {size}; it does not do ranges")
        return bytes(await answer.read())


STORE = _GcsStore()
