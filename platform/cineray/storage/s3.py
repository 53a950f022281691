"""Buckets of S3, and of what speaks its language. Uris go in; ranged reads, listings, conditional writes come out.

The client is s3fs's, for its credentials and its event loop; the calls are made one by one here, because a lake needs
what the file system view leaves out: the ETag as a condition of every read, fresh listings page by page, keys taken
byte for byte, and `If-None-Match: *` on writes. The client itself does not retry: storage/retry.py does, and counts.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import fsspec.asyn
import s3fs  # noqa: F401 - so that a missing extra is noticed here, under its name
from aiohttp import ClientError as AnswerBroken
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, SSLError

from cineray.errors import PlaceChanged, PlaceError
from cineray.storage.answers import PASSING, failure_of
from cineray.storage.bucket_store import BucketStore
from cineray.storage.filesystems import filesystem
from cineray.storage.retry import ReadCounter, RetryPolicy, TransientError, with_retries
from cineray.storage.store import ObjectInfo, StoreContext
from cineray.storage.uri import split_bucket

_ONE_PUT_BYTES = 64 << 20
_PASSING_CODES = frozenset(
    {
        "SlowDown",
        "RequestTimeout",
        "InternalError",
        "ServiceUnavailable",
        "ConditionalRequestConflict",
        "OperationAborted",
    }
)
_OURS = "cineray-write"


class _S3Store(BucketStore):
    """One bucket and key per uri."""

    def open(self, uri: str, context: StoreContext) -> _S3Object:
        return _S3Object(uri, context)

    def list_below(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        return _list_below(bucket, prefix)

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """The store refuses the write if the key exists. A mark tells our own write, whose answer was lost."""
        bucket, key = split_bucket(uri)
        mark = uuid.uuid4().hex
        try:
            _call(
                "writing", uri, "put_object", Bucket=bucket, Key=key, Body=data, IfNoneMatch="*", Metadata={_OURS: mark}
            )
        except PlaceChanged:  # 412: something is there
            found = _call("looking at", uri, "head_object", Bucket=bucket, Key=key)
            return bool(found.get("Metadata", {}).get(_OURS) == mark)
        return True

    def put(self, uri: str, data: bytes) -> None:
        bucket, key = split_bucket(uri)
        _call("writing", uri, "put_object", Bucket=bucket, Key=key, Body=data)

    def upload(self, local_path: str, uri: str) -> None:
        if os.path.getsize(local_path) <= _ONE_PUT_BYTES:
            with open(local_path, "rb") as file:
                return self.put(uri, file.read())
        try:
            filesystem(uri).put_file(local_path, uri)  # in parts; s3fs takes them back if one fails
        except (OSError, BotoCoreError) as error:
            raise PlaceError(
                f"uploading {local_path!r} to {uri} failed: {error}; look at the store, then repeat"
            ) from error
        return None

    def delete(self, uri: str, *, recursive: bool) -> None:
        bucket, key = split_bucket(uri)
        if not recursive:
            _call("deleting", uri, "delete_object", Bucket=bucket, Key=key)
            return
        batch: list[dict[str, str]] = []
        for info in self.list(uri):
            batch.append({"Key": split_bucket(info.uri)[1]})
            if len(batch) == 1000:  # the most that one request may name
                _delete_many(uri, bucket, batch)
                batch = []
        if batch:
            _delete_many(uri, bucket, batch)


class _S3Object:
    """One object, pinned to the ETag it had when opened: each read is one GET that the store refuses if it changed."""

    def __init__(self, uri: str, context: StoreContext) -> None:
        self._uri, self._retry = uri, context.retry
        self._bucket, self._key = split_bucket(uri)
        found = _call("opening", uri, "head_object", context=context, Bucket=self._bucket, Key=self._key)
        self.size_bytes = int(found["ContentLength"])
        self._etag = str(found.get("ETag", ""))
        self.version_tag = _tag(self._etag, self.size_bytes, found.get("LastModified"))

    def fetch(self, start: int, stop: int) -> bytes:
        condition = {"IfMatch": self._etag} if self._etag else {}
        wanted = {"Bucket": self._bucket, "Key": self._key, "Range": f"bytes={start}-{stop - 1}"}

        async def get() -> bytes:
            client = await _client(self._uri)
            answer = await client.get_object(**wanted, **condition)
            async with answer["Body"] as body:
                if int(answer["ContentLength"]) > stop - start:
                    raise PlaceError(
                        f"{self._uri}: asked for {stop - start} bytes, the store began to send "
                        f"{answer['ContentLength']}, so it does not do ranges; copy the object to one that does"
                    )
                data: bytes = await body.read()
                return data

        return bytes(_attempt(get, self._uri, self._retry.deadline_seconds(stop - start)))

    def close(self) -> None:
        """Connections belong to the client of this process."""


def _list_below(bucket: str, prefix: str) -> Iterator[ObjectInfo]:
    """Objects in the store's own order, which is that of the keys' bytes; one page in memory."""
    uri, token = f"s3://{bucket}/{prefix}", ""
    while True:
        more: dict[str, Any] = {"ContinuationToken": token} if token else {}
        page = _call("listing", uri, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        for item in page.get("Contents", ()):
            if not item["Key"].endswith("/"):  # the marks that some tools leave for folders
                yield ObjectInfo(
                    uri=f"s3://{bucket}/{item['Key']}",
                    size_bytes=int(item["Size"]),
                    version_tag=_tag(item.get("ETag", ""), int(item["Size"]), item.get("LastModified")),
                )
        token = page.get("NextContinuationToken", "")
        if not page.get("IsTruncated") or not token:
            return


def _delete_many(uri: str, bucket: str, keys: list[dict[str, str]]) -> None:
    answer = _call("deleting", uri, "delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
    if answer.get("Errors"):
        first = answer["Errors"][0]
        raise PlaceError(
            f"deleting {uri}: {len(answer['Errors'])} objects stay, the first {first.get('Key')!r}: "
            f"{first.get('Code')} {first.get('Message')}; look at the permissions"
        )


def _tag(etag: str, size: int, modified: Any) -> str:
    return etag.strip('"') or f"{size}-{modified}"


async def _client(uri: str) -> Any:
    made = filesystem(uri, single_attempt=True)
    await made.set_session()
    return await made.get_s3(split_bucket(uri)[0])


def _call(doing: str, uri: str, method: str, *, context: StoreContext | None = None, **arguments: Any) -> Any:
    """One call of the S3 interface, retried and counted."""
    retry = context.retry if context else RetryPolicy()
    counter = context.counter if context else ReadCounter()

    async def call() -> Any:
        return await getattr(await _client(uri), method)(**arguments)

    def attempt() -> Any:
        counter.add(requests=1)
        return _attempt(call, uri, retry.deadline_seconds(len(arguments.get("Body", b""))))

    return with_retries(attempt, what=f"{doing} {uri}", policy=retry, counter=counter)


def _attempt(call: Callable[[], Coroutine[Any, Any, Any]], uri: str, deadline_seconds: float) -> Any:
    """Run on the client's event loop, with a deadline; failures come out in our words."""

    async def bounded() -> Any:
        return await asyncio.wait_for(call(), deadline_seconds)

    try:
        return fsspec.asyn.sync(filesystem(uri, single_attempt=True).loop, bounded)
    except ClientError as error:
        raise _refused(error, uri) from error
    except (TimeoutError, fsspec.asyn.FSTimeoutError) as error:
        raise TransientError(f"no whole answer within {deadline_seconds:.0f} s") from error
    except SSLError as error:
        raise PlaceError(
            f"{uri}: the endpoint's certificate is not trusted ({error}); install the authority's"
        ) from error
    except (HTTPClientError, ConnectionError, AnswerBroken, OSError) as error:
        raise TransientError(f"{type(error).__name__}: {error}") from error
    except BotoCoreError as error:
        raise PlaceError(f"{uri}: {error}; look at the credentials, the region and AWS_ENDPOINT_URL") from error


def _refused(error: ClientError, uri: str) -> Exception:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _PASSING_CODES and status not in PASSING:
        return TransientError(f"the store answered {status} {code}")
    return failure_of(status, uri, code)


STORE = _S3Store()
