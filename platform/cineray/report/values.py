"""Any JSON as names and short texts: nested values go in, flat pairs come out, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cineray.report.wording import UNKNOWN, clipped, number

MOST_PAIRS = 120
_MOST_LETTERS = 400


def pairs_of(told: Mapping[Any, Any], *, before: str = "") -> tuple[tuple[str, str], ...]:
    """`{"a": {"b": 1}}` is `a b: 1`; a list of plain values is one text."""
    found: list[tuple[str, str]] = []
    for key, value in told.items():
        name = f"{before} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping) and value:
            found += pairs_of(value, before=name)
        else:
            found.append((name, text_of(value)))
    return tuple(found[:MOST_PAIRS])


def text_of(value: Any) -> str:
    """One value in words."""
    if value is None or value == "" or value in ([], {}):
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if abs(value) < 100_000 else f"{value:,}"
    if isinstance(value, float):
        return number(value, 4)
    if isinstance(value, list | tuple):
        return clipped(", ".join(text_of(one) for one in value), _MOST_LETTERS)
    return clipped(str(value), _MOST_LETTERS)
