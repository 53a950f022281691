"""Containers of Azure Blob Storage and Data Lake. Uris go in; ranged reads, listings and conditional writes come out.

The client is adlfs's, for its credentials, its event loop and its service connection; the calls are those of Azure's
blob interface, made one by one for the same reasons as in storage/s3.py. Azure's client retries a little by itself,
below our own retries. A listing is sorted in memory: accounts with folders do not list by whole names.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import adlfs  # noqa: F401 - so that a missing extra is noticed here, under its name
import fsspec.asyn
from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError

from cineray.errors import PlaceError, PlaceMissing
from cineray.storage.answers import failure_of
from cineray.storage.filesystems import filesystem
from cineray.storage.retry import TransientError, with_retries
from cineray.storage.store import ObjectInfo, Store, StoreContext
from cineray.storage.uri import split_bucket

_OURS = "cineray_write"
_FOLDER = "hdi_isfolder"


class _AzureStore(Store):
    """One container and blob name per uri; the account is in the uri, or in the environment."""

    def open(self, uri: str, context: StoreContext) -> _AzureObject:
        return _AzureObject(uri, context)

    def list(self, uri: str) -> Iterator[ObjectInfo]:
        bucket, key = split_bucket(uri)

        async def find(service: Any) -> list[ObjectInfo]:
            container = service.get_container_client(bucket.partition("@")[0])
            found = container.list_blobs(name_starts_with=f"{key}/" if key else None, include=["metadata"])
            return [_info(f"abfs://{bucket}", blob) async for blob in found if not _is_folder(blob)]

        # The whole listing is one call here, so it has an hour.
        infos = _call("listing", uri, find, deadline_seconds=3600.0)
        if not infos and key:
            with suppress(PlaceMissing):
                alone = _AzureObject(uri, StoreContext())
                infos = [ObjectInfo(uri=uri, size_bytes=alone.size_bytes, version_tag=alone.version_tag)]
        yield from sorted(infos, key=lambda info: info.uri.encode())

    def exists(self, uri: str) -> bool:
        try:
            _AzureObject(uri, StoreContext())
        except PlaceMissing:
            return False
        return True

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """One winner: `overwrite=False` is If-None-Match. A mark tells our own write, whose answer was lost."""
        mark = uuid.uuid4().hex

        async def write(service: Any) -> bool:
            blob = _blob(service, uri)
            try:
                await blob.upload_blob(data, overwrite=False, metadata={_OURS: mark})
            except ResourceExistsError:
                found = await blob.get_blob_properties()
                return bool((found.metadata or {}).get(_OURS) == mark)
            return True

        return bool(_call("writing", uri, write, length=len(data)))

    def put(self, uri: str, data: bytes) -> None:
        async def write(service: Any) -> None:
            await _blob(service, uri).upload_blob(data, overwrite=True)

        _call("writing", uri, write, length=len(data))

    def upload(self, local_path: str, uri: str) -> None:
        async def write(service: Any) -> None:
            with open(local_path, "rb") as file:
                await _blob(service, uri).upload_blob(file, overwrite=True)

        _call("writing", uri, write, length=os.path.getsize(local_path))

    def delete(self, uri: str, *, recursive: bool) -> None:
        async def remove(service: Any) -> None:
            await _blob(service, each).delete_blob()

        for each in [info.uri for info in self.list(uri)] if recursive else [uri]:
            with suppress(PlaceMissing):
                _call("deleting", each, remove)


class _AzureObject:
    """One blob, pinned to the ETag it had when opened: a read fails if it was replaced."""

    def __init__(self, uri: str, context: StoreContext) -> None:
        self._uri, self._retry = uri, context.retry

        async def look(service: Any) -> Any:
            return await _blob(service, uri).get_blob_properties()

        found = _call("opening", uri, look, context=context)
        if _is_folder(found):
            raise PlaceMissing(f"{uri} is a folder; wanted a file. Look at the name")
        self._etag = found.etag
        self.size_bytes, self.version_tag = int(found.size), str(found.etag).strip('"')

    def fetch(self, start: int, stop: int) -> bytes:
        async def get(service: Any) -> Any:
            stream = await _blob(service, self._uri).download_blob(
                offset=start, length=stop - start, etag=self._etag, match_condition=MatchConditions.IfNotModified
            )
            return await stream.readall()

        return bytes(_attempt(get, self._uri, self._retry.deadline_seconds(stop - start)))

    def close(self) -> None:
        """Connections belong to the client of this process."""


def _blob(service: Any, uri: str) -> Any:
    bucket, key = split_bucket(uri)
    return service.get_blob_client(container=bucket.partition("@")[0], blob=key)


def _info(root: str, blob: Any) -> ObjectInfo:
    return ObjectInfo(uri=f"{root}/{blob.name}", size_bytes=int(blob.size), version_tag=str(blob.etag).strip('"'))


def _is_folder(blob: Any) -> bool:
    return (blob.metadata or {}).get(_FOLDER) == "true" or blob.name.endswith("/")


def _call(
    doing: str,
    uri: str,
    work: Callable[[Any], Awaitable[Any]],
    *,
    context: StoreContext | None = None,
    length: int = 0,
    deadline_seconds: float | None = None,
) -> Any:
    """One piece of work with the service, retried and counted."""
    context = context or StoreContext()
    deadline = deadline_seconds or context.retry.deadline_seconds(length)

    def attempt() -> Any:
        context.counter.add(requests=1)
        return _attempt(work, uri, deadline)

    return with_retries(attempt, what=f"{doing} {uri}", policy=context.retry, counter=context.counter)


def _attempt(work: Callable[[Any], Awaitable[Any]], uri: str, deadline_seconds: float) -> Any:
    """Run on the client's event loop, with a deadline; failures come out in our words."""
    client = filesystem(uri)

    async def bounded() -> Any:
        return await asyncio.wait_for(work(client.service_client), deadline_seconds)

    try:
        return fsspec.asyn.sync(client.loop, bounded)
    except HttpResponseError as error:
        raise failure_of(error.status_code or 0, uri, str(error.reason or "")) from error
    except (TimeoutError, fsspec.asyn.FSTimeoutError) as error:
        raise TransientError(f"no whole answer within {deadline_seconds:.0f} s") from error
    except AzureError as error:
        raise TransientError(f"{type(error).__name__}: {error}") from error
    except OSError as error:
        raise PlaceError(f"{uri}: {error}; look at the local file and the network") from error


STORE = _AzureStore()
