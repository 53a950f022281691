"""Numbers as people read them: values go in, short texts come out. What is not known is a dash, never a zero."""

from __future__ import annotations

import math
import numbers
from datetime import UTC, datetime
from typing import Any

UNKNOWN = "\u2013"
TIMES = "\u00d7"
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def known(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    found = float(value)
    return found if math.isfinite(found) else None


def number(value: Any, digits: int = 3) -> str:
    """Three figures that count: 0.0123, 12.3, 1,234."""
    found = known(value)
    if found is None:
        return UNKNOWN
    if found == int(found) and abs(found) < 1e15:
        return f"{int(found):,}"
    if abs(found) >= 10**digits:
        return f"{found:,.0f}"
    if abs(found) < 1e-4:
        return f"{found:.{digits - 1}e}"
    places = max(digits - 1 - math.floor(math.log10(abs(found))), 0)
    text = f"{found:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def whole(value: Any) -> str:
    """A count: 1,234."""
    found = known(value)
    return UNKNOWN if found is None else f"{found:,.0f}"


def percent(fraction: Any) -> str:
    """A share: 12 %, 0.4 %. Only the whole is 100 %."""
    found = known(fraction)
    if found is None:
        return UNKNOWN
    if 0.995 <= found < 1:
        return f"{min(100 * found, 99.9):.1f} %"
    if 0 < found < 0.0005:
        return "< 0.1 %"
    return f"{100 * found:.{0 if abs(found) >= 0.0995 or found == 0 else 1}f} %"


def interval(low: Any, high: Any, digits: int = 3) -> str:
    """`0.91 to 0.97`; empty where there is none."""
    return "" if known(low) is None or known(high) is None else f"{number(low, digits)} to {number(high, digits)}"


def bytes_text(count: Any) -> str:
    """A size: 1.5 MB."""
    size = known(count)
    if size is None:
        return UNKNOWN
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def seconds_text(seconds: Any) -> str:
    """A duration: 0.35 s, 12.5 s, 4 min 10 s, 3 h 05 min, 2.5 days."""
    found = known(seconds)
    if found is None:
        return UNKNOWN
    if found < _MINUTE:
        return f"{number(found)} s"
    if found < _HOUR:
        return f"{int(found // _MINUTE)} min {int(found % _MINUTE):02d} s"
    if found < 2 * _DAY:
        return f"{int(found // _HOUR)} h {int(found % _HOUR // _MINUTE):02d} min"
    return f"{found / _DAY:.1f} days"


def moment(at: Any) -> str:
    """A time, given as seconds since 1970 or as ISO 8601: `2026-11-21 04:14:08 UTC`."""
    try:
        when = datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(float(at), UTC)
        return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (TypeError, ValueError, OverflowError, OSError):
        return UNKNOWN


def plural(count: int, one: str, many: str = "") -> str:
    """`1 clip`, `2 clips`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def clipped(text: str, most: int) -> str:
    """The text, or its beginning."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
