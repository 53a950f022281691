"""How results are shown: facts go in as a plain dict, a table for people or one JSON object for programs comes out.

People sit at a terminal; everything else (a pipe, a file, `--json`) is a program and gets JSON with the same facts.
Words, progress and warnings go to stderr, so that stdout is only the result.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cineray.errors import CinerayError

JSON = typer.Option(None, "--json/--table", help="JSON or a table; the default is a table on a terminal, else JSON.")

_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

SHORT = frozenset(
    {"version", "created_at", "state", "codec", "width", "height", "num_frames", "video", "name", "split"}
)
"""Columns that are never broken over lines."""

words = Console(stderr=True, highlight=False)
"""Where sentences for people go."""


def wants_json(choice: bool | None) -> bool:
    """What the option says, or else whether a program is listening."""
    return not sys.stdout.isatty() if choice is None else choice


def show(facts: Mapping[str, Any], *, as_json: bool | None, table: Sequence[Table] = ()) -> None:
    """Print one result: `table` for people (or the facts, line by line), one JSON object otherwise."""
    if wants_json(as_json):
        _write(json.dumps(facts, ensure_ascii=True, default=str) + "\n")
        return
    out = Console(file=sys.stdout, highlight=False)
    for part in table or (facts_table(facts),):
        out.print(part)


def show_lines(
    rows: Iterable[Mapping[str, Any]], *, as_json: bool | None, columns: Sequence[str], title: str = ""
) -> None:
    """Print many like rows: JSON lines for programs, one table for people."""
    if wants_json(as_json):
        for row in rows:
            _write(json.dumps(row, ensure_ascii=True, default=str) + "\n")
        return
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in SHORT)
    for row in rows:
        table.add_row(*(plain(row.get(column)) for column in columns))
    Console(file=sys.stdout, highlight=False).print(table)


def _write(text: str) -> None:
    """To standard output, at once, so that a full disk is noticed here."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CinerayError(f"the result could not be written to standard output: {error}; free some space") from None


def facts_table(facts: Mapping[str, Any], title: str = "") -> Table:
    """Two columns, name and value: the simplest table there is."""
    table = Table(title=title or None, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), plain(value))
    return table


def plain(value: Any) -> str:  # noqa: PLR0911 - one line per kind of value is the clearest
    """A value as people read it; never markup from data."""
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(visible(str(k)))} {plain(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "-"
    return escape(visible(str(value)))


def visible(text: str) -> str:
    """Text without what a terminal would obey: control characters, and marks that turn the line around, as escapes."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def bytes_text(count: int) -> str:
    """A size as people read it: 1.5 MB."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable: the last unit always returns")
