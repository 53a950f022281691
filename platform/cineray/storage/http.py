"""Files behind web addresses. An address goes in; its size, its version and ranges of its bytes come out.

Servers promise little, so everything is checked: that the answer is the range we asked for (one that ignores ranges
and sends the whole file is named and left at once), that the version stays the same from answer to answer, that the
connection leads where the policy permits (storage/guarded_pool.py). Redirects are followed here, at most five, each a
new connection with the same test; where they ended is remembered, so that later reads cost one request.
"""

from __future__ import annotations

import re
import time
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, SSLError
from urllib3.response import BaseHTTPResponse

from cineray.errors import PlaceChanged, PlaceError, PlaceMissing, PlaceRefused
from cineray.storage.answers import failure_of
from cineray.storage.guarded_pool import guarded_pool
from cineray.storage.retry import TransientError, with_retries
from cineray.storage.store import Store, StoreContext
from cineray.storage.uri import normalise_uri

MAX_REDIRECTS = 5
_CHUNK_BYTES = 1 << 18
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
_HEADERS = {"User-Agent": "cineray", "Accept-Encoding": "identity"}


class _HttpStore(Store):
    """Read-only, and not listable."""

    def open(self, uri: str, context: StoreContext) -> _HttpObject:
        return _HttpObject(uri, context)

    def exists(self, uri: str) -> bool:
        try:
            _HttpObject(uri, StoreContext())
        except PlaceMissing:
            return False
        return True


class _HttpObject:
    """One file of a web server. Opening asks for one byte: an address signed for GET does not answer HEAD."""

    def __init__(self, uri: str, context: StoreContext) -> None:
        self._uri, self._context = uri, context
        self._target = uri
        self.size_bytes, self.version_tag = with_retries(
            self._probe, what=f"opening {uri}", policy=context.retry, counter=context.counter
        )

    def _probe(self) -> tuple[int, str]:
        self._context.counter.add(requests=1)
        response = self._get(0, 1)
        try:
            empty = response.status == 416 or (response.status == 200 and response.headers.get("Content-Length") == "0")
            size = 0 if empty else self._total_bytes(response, 0, 1)
            tag = _tag(response, size)
            if response.status == 206:
                self._context.counter.add(bytes_read=len(self._body(response, 1)))
            return size, tag
        finally:
            response.close()

    def fetch(self, start: int, stop: int) -> bytes:
        response = self._get(start, stop)
        try:
            if response.status == 416:
                raise failure_of(416, self._uri)
            size = self._total_bytes(response, start, stop)
            tag = _tag(response, size)
            if (size, tag) != (self.size_bytes, self.version_tag):
                raise PlaceChanged(
                    f"{self._uri} was replaced while it was read: it had {self.size_bytes} bytes and the version tag "
                    f"{self.version_tag!r}, now {size} and {tag!r}. Ingest it again"
                )
            return self._body(response, stop - start)
        finally:
            response.close()

    def close(self) -> None:
        """Connections stay in the pool for the next place on this host."""

    def _get(self, start: int, stop: int) -> BaseHTTPResponse:
        """The first answer that is no redirect: 206, 200 or 416; raises for every other."""
        address = self._target
        for _ in range(MAX_REDIRECTS + 1):
            response = self._request(address, start, stop)
            if response.status not in (301, 302, 303, 307, 308):
                break
            response.close()
            address = self._next(address, response.headers.get("Location"))
        else:
            raise PlaceError(
                f"{self._uri} was redirected more than {MAX_REDIRECTS} times, last to {address}; look there"
            )
        if response.status in (200, 206, 416):
            self._target = address
            return response
        response.close()
        if address == self._target != self._uri and 400 <= response.status < 500:
            # Where a redirect once led was signed for a while only: ask the original address again.
            self._target = self._uri
            raise TransientError(f"the redirected address answered {response.status}")
        raise failure_of(
            response.status, self._uri, response.reason or "", retry_after=response.headers.get("Retry-After")
        )

    def _next(self, address: str, location: str | None) -> str:
        """Where a redirect leads, in canonical spelling; only to the web, never to a file or a bucket."""
        target = urljoin(address, location or "")
        if urlsplit(target).scheme not in ("http", "https"):
            raise PlaceRefused(f"{self._uri} redirects to {target!r}; wanted an http or https address")
        return normalise_uri(target)

    def _request(self, address: str, start: int, stop: int) -> BaseHTTPResponse:
        retry = self._context.retry
        try:
            url = urllib3.util.parse_url(address)
            pool = guarded_pool(self._context.policy, str(url.scheme), str(url.host), url.port)
            return pool.urlopen(
                "GET",
                url.request_uri,
                headers=_HEADERS | {"Range": f"bytes={start}-{stop - 1}"},
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=retry.connect_timeout_seconds, read=retry.idle_timeout_seconds),
                preload_content=False,
                decode_content=False,
            )
        except LocationParseError as error:
            raise PlaceRefused(f"{address!r} is no web address: {error}") from error
        except SSLError as error:
            raise PlaceError(f"{address}: its certificate is not trusted ({error}); install the authority's") from error
        except (HTTPError, OSError) as error:
            raise TransientError(_cause(error)) from error

    def _total_bytes(self, response: BaseHTTPResponse, start: int, stop: int) -> int:
        """The file's size as the answer states it; raises if the answer is not the range that we asked for."""
        if response.status == 206:
            stated = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
            if stated and stated[1] == str(start) and int(stated[2]) == min(stop, int(stated[3])) - 1:
                return int(stated[3])
            raise PlaceError(
                f"{self._uri}: asked for bytes {start} to {stop}, the server answered 206 with the Content-Range "
                f"{response.headers.get('Content-Range')!r}; wanted that range and the whole size. Use another server"
            )
        length = response.headers.get("Content-Length", "")
        if start == 0 and length == str(stop):
            return stop  # the whole file is what we asked for
        raise PlaceError(
            f"{self._uri}: asked for bytes {start} to {stop}, the server answered with the whole file "
            f"({length or 'an unstated number of'} bytes), so it does not do ranges; wanted 206 Partial Content. "
            "Copy the file to a local disk, an object store or a server that does"
        )

    def _body(self, response: BaseHTTPResponse, length: int) -> bytes:
        """At most `length` bytes; a body that breaks off or trickles beyond the deadline is a passing failure."""
        deadline = time.monotonic() + self._context.retry.deadline_seconds(length)
        parts: list[bytes] = []
        got = 0
        try:
            while got < length:
                part = response.read1(min(_CHUNK_BYTES, length - got), decode_content=False)
                if not part:
                    break
                parts.append(part)
                got += len(part)
                if time.monotonic() > deadline:
                    self._context.counter.add(bytes_read=got)
                    raise TransientError(f"the answer trickles: {got} of {length} bytes by the deadline")
        except (HTTPError, OSError) as error:
            self._context.counter.add(bytes_read=got)
            raise TransientError(f"{_cause(error)}, after {got} of {length} bytes") from error
        return b"".join(parts)


def _tag(response: BaseHTTPResponse, size: int) -> str:
    """The ETag without its quotes, or size and date; a weak ETag is as good as we get."""
    etag = response.headers.get("ETag", "").strip()
    return etag.removeprefix("W/").strip('"') or f"{size}-{response.headers.get('Last-Modified', '')}"


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


STORE = _HttpStore()
