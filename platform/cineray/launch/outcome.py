"""What became of a job: its state and the end of its log go in; the result, the verdict and an exit code come out.

A command of cineray that prints no table ends with one line of JSON, its result; in a job's log it stands among words
and progress, as the last of such lines. Log records may be lines of JSON too (CINERAY_LOG=json), and are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from cineray.launch.clients import JobFacts

STOPPED = 130
_OF_A_RECORD = frozenset({"at", "level", "logger", "message"})
_SIGNALS = 128


class LogEnd:
    """Remembers the last line of JSON of a log that comes in pieces."""

    def __init__(self) -> None:
        self._line, self._found = "", ""

    def add(self, piece: str) -> None:
        """The next piece."""
        *whole, self._line = (self._line + piece).split("\n")
        for line in whole:
            self._found = line if _told(line) else self._found

    def result(self) -> dict[str, Any]:
        """What that line says; empty if there was none."""
        return _told(self._line) or _told(self._found)


def _told(line: str) -> dict[str, Any]:
    """What a line of JSON says; empty if it is none, or a log record."""
    if not (line.startswith("{") and line.rstrip().endswith("}")):
        return {}
    try:
        told: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return {} if told.keys() >= _OF_A_RECORD else told


def result_of(pieces: Iterable[str]) -> dict[str, Any]:
    """The result in a whole log."""
    end = LogEnd()
    for piece in pieces:
        end.add(piece)
    return end.result()


def exit_code(job: JobFacts) -> int:
    """The job's own exit code, as its command would have ended here."""
    if job.status == "SUCCEEDED":
        return 0
    if job.status == "STOPPED":
        return STOPPED
    if job.exit_code is None:
        return 1  # it never came to run
    return _SIGNALS - job.exit_code if job.exit_code < 0 else job.exit_code


def job_row(job: JobFacts, now: float) -> dict[str, Any]:
    """What `cineray jobs` tells of it."""
    seconds = None if job.started is None else round((job.ended or now) - job.started, 1)
    return {
        "submission_id": job.submission_id,
        "status": job.status,
        "command": job.told.get("command", ""),
        "attempt": job.attempt,
        "seconds": seconds,
        "exit_code": job.exit_code,
        "run": job.told.get("run", ""),
        "started": job.started,
        "entrypoint": job.entrypoint,
    }
