"""Leases: who is at work in a lake right now. A lake's uri goes in; a lease that is held while inside comes out.

A lease is a small file that says until when it lasts, and a thread of its holder renews it long before that. So a
process that is killed holds nothing up for longer than one lifetime, and one that works for a week is safe all week.

Promises: while a holder lives, its lease is live, also by a clock that is some minutes ahead of the holder's (a
lifetime is five renewals); and a holder that slept through its lease is told so by `check`, before it makes a version
of what gc may have removed meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from cineray.errors import CinerayError, LakeError
from cineray.lake.layout import lease_uri
from cineray.storage import delete_object, join_uri, list_objects, object_exists, put_if_absent, put_object, read_object

LIFETIME_SECONDS = 600.0
RENEWALS = 5.0
"""In a lifetime: every two minutes of ten. A renewal may fail, or a clock differ, by what is left of it."""

_log = logging.getLogger("cineray.lake")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Somebody is at work since `started`, until `expires` at least: reading a version, or (None) writing the next."""

    uri: str
    version: int | None
    started: float
    expires: float
    holder: str

    def __str__(self) -> str:
        doing = "writing" if self.version is None else f"reading version {self.version}"
        since, until = _day(self.started), _day(self.expires)
        return f"{self.holder}, {doing} since {since}; the lease ends at {until} unless it is renewed"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


class Held:
    """A lease in its holder's hands."""

    def __init__(self, lake: str, version: int | None, seconds: float) -> None:
        self.uri, self._seconds = lease_uri(lake, uuid.uuid4().hex), seconds
        now = time.time()
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        self._told = {"version": version, "started": now, "holder": holder}
        self._expires = now + seconds
        self._lapsed = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renewing, name="cineray lease", daemon=True)

    def check(self) -> None:
        """Refuse to go on if the lease ran out at any time, as when the machine slept."""
        if self._lapsed or time.time() > self._expires:
            raise LakeError(
                f"the lease {self.uri} ran out while it was at work: the process or the machine was stopped for longer "
                f"than {self._seconds:g} s, or the lake could not be reached. A gc may have removed what was written "
                "before, so no version was made; run the command again"
            )

    def begin(self) -> None:
        """Put the lease there, and keep it."""
        put_if_absent(self.uri, self._data(self._expires))
        self._thread.start()

    def give_back(self) -> None:
        """Take the lease away, after the last renewal."""
        self._done.set()
        self._thread.join()
        try:
            delete_object(self.uri)
        except CinerayError as error:  # what was done inside stands; the lease runs out by itself
            _log.warning("the lease %s could not be given back: %s", self.uri, error)

    def _data(self, expires: float) -> bytes:
        return json.dumps({**self._told, "expires": expires}).encode()

    def _renewing(self) -> None:
        while not self._done.wait(self._seconds / RENEWALS):
            now = time.time()
            self._lapsed = self._lapsed or now > self._expires
            try:
                put_object(self.uri, self._data(now + self._seconds))
                self._expires = now + self._seconds
            except CinerayError as error:  # four more tries before it runs out
                _log.warning("the lease %s could not be renewed: %s", self.uri, error)


@contextmanager
def lease(lake: str, *, version: int | None, seconds: float | None = None) -> Iterator[Held]:
    """Hold a lease while inside; `seconds` is how long it outlives its holder."""
    held = Held(lake, version, LIFETIME_SECONDS if seconds is None else seconds)
    held.begin()
    try:
        yield held
    finally:
        held.give_back()


def leases(lake: str) -> list[Lease]:
    """Every lease that lies there, also those that ran out."""
    found = []
    for entry in list_objects(join_uri(lake, "readers")):
        try:
            found.append(_read(entry.uri))
        except (CinerayError, ValueError, TypeError, KeyError):
            if object_exists(entry.uri):  # not just given back meanwhile
                raise LakeError(f"the lease {entry.uri} cannot be read; remove it if no reader is running") from None
    return found


def live(lake: str) -> list[Lease]:
    """Leases that have not run out."""
    return [lease for lease in leases(lake) if lease.expires > time.time()]


def _read(uri: str) -> Lease:
    told = json.loads(read_object(uri, limit_bytes=1 << 16))
    return Lease(
        uri=uri,
        version=told["version"],
        started=float(told["started"]),
        expires=float(told["expires"]),
        holder=str(told.get("holder", "an unnamed process")),
    )
