"""Log records as one line each, with the run, the step and the rank that they belong to: what `logging` is told goes
in, text or JSON lines come out on standard error, where Ray and Kubernetes collect them.

    log_lines()                                        once per process, at its start
    with belonging(run="shapes-1f", rank=3):           while that is what the process does
        belongs(step=120)                              whenever that changes
    logging.getLogger("cineray.train").warning(...)    as everywhere

    CINERAY_LOG=json   {"at": "2026-11-21T10:02:00.125Z", "level": "WARNING", "logger": "cineray.train", "run": ...}
    CINERAY_LOG=text   (the default)   10:02:00 WARNING cineray.train [run shapes-1f, rank 3, step 120] ...

What is told belongs to the process and not to a thread: those that write checkpoints or watch are at the same step.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from cineray.errors import UsageError

ROOT = "cineray"
VARIABLE = "CINERAY_LOG"
FORMS = ("text", "json")
_RESERVED = frozenset({"at", "level", "logger", "message", "error"})

_belongs: dict[str, str | int] = {}


def belongs(**facts: str | int | None) -> None:
    """From now on records of this process carry these; None takes one away."""
    clash = _RESERVED & set(facts)
    if clash:
        raise ValueError(f"log lines have {', '.join(sorted(clash))} of their own; choose another name")
    for name, value in facts.items():
        if value is None:
            _belongs.pop(name, None)
        else:
            _belongs[name] = value


@contextmanager
def belonging(**facts: str | int | None) -> Iterator[None]:
    """Records within carry these and what `belongs` adds meanwhile; afterwards they carry what they did before."""
    before = dict(_belongs)
    belongs(**facts)
    try:
        yield
    finally:
        _belongs.clear()
        _belongs.update(before)


def log_lines(stream: TextIO | None = None, *, level: int = logging.WARNING, form: str = "") -> logging.Handler:
    """Send what cineray logs to `stream`, in place of an earlier call's; other libraries' records are left alone."""
    form = form or os.environ.get(VARIABLE, FORMS[0])
    if form not in FORMS:
        raise UsageError(f"{VARIABLE} is {form!r}; wanted one of {', '.join(FORMS)}")
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    handler.set_name(ROOT)
    logger = logging.getLogger(ROOT)
    for other in list(logger.handlers):
        if other.get_name() == ROOT:
            logger.removeHandler(other)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False  # else Ray's handler on the root prints each a second time
    return handler


class JsonLines(logging.Formatter):
    """One object a line, whatever the message has in it."""

    def format(self, record: logging.LogRecord) -> str:
        """With an error's whole traceback inside."""
        told: dict[str, Any] = {
            "at": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            **_belongs,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=True, default=str)


class TextLines(logging.Formatter):
    """For people; line breaks in a message are kept out, so that a file's name cannot forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        """An error's traceback follows."""
        where = ", ".join(f"{name} {value}" for name, value in _belongs.items())
        said = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        line = f"{at} {record.levelname} {record.name}{f' [{where}]' if where else ''} {said}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
