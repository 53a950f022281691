"""A trial's reports in its folder: one goes in at each judgement and is there, whole, before anybody hears of it.

    reports/00001.json           a start of the trial; put if absent, so no two starts take the same number
    reports/00001-000001.json    its first report, an object of its own; put if absent
    reports/00001-000002.json

There are a handful per trial, so each may wait for the store: a line that is still on its way when the trial's end is
written would be missing from what the search and the table read then, for as long as they keep that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from cineray.errors import CinerayError
from cineray.storage import join_uri, list_objects, put_if_absent, read_object

_LIMIT_BYTES = 64 << 20


class ReportLog:
    """Of one start of a trial."""

    def __init__(self, folder: str, start: int) -> None:
        self._folder, self._start, self._told = folder, start, 0

    @classmethod
    def open(cls, folder: str) -> ReportLog:
        """The next start's."""
        start = 1 + max((int(name.partition("-")[0]) for name, _ in _objects(folder)), default=0)
        while not put_if_absent(join_uri(folder, f"{start:05d}.json"), json.dumps({"at": time.time()}).encode()):
            start += 1
        return cls(folder, start)

    def add(self, report: Mapping[str, Any]) -> None:
        """Keep a report; raises PlaceError where it cannot be kept, and then it was not made."""
        data = json.dumps(dict(report), default=str).encode()
        self._told += 1
        while not put_if_absent(join_uri(self._folder, f"{self._start:05d}-{self._told:06d}.json"), data):
            self._told += 1


def read_reports(folder: str) -> list[dict[str, Any]]:
    """All of them, start by start, in the order in which they were made."""
    return [_read(uri) for name, uri in _objects(folder) if "-" in name]


def _objects(folder: str) -> list[tuple[str, str]]:
    """(name, uri), in order."""
    found = [(one.uri.rsplit("/", 1)[-1], one.uri) for one in list_objects(folder)]
    return [(name.removesuffix(".json"), uri) for name, uri in found if name.endswith(".json")]


def _read(uri: str) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(read_object(uri, limit_bytes=_LIMIT_BYTES))
    except ValueError as error:
        raise CinerayError(f"{uri} is damaged: {error}; restore it from a copy of the sweep") from None
    return report
