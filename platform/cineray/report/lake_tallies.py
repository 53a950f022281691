"""What a lake's version holds, counted: a lake and a version go in, counts by split, size, length, rate and codec out.

The tables are read in one pass each, by columns, and no video is opened. Memory stays bounded however large the lake
is: of more than a million lengths every n-th is kept, and they are only for a plot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from cineray.lake import Lake, Version, unpack_text
from cineray.report.wording import TIMES

MOST_LENGTHS = 1_000_000
MOST_REJECTS = 100
MOST_LABELS = 100_000
"""Kinds of labels that are counted apart; an endless number of them is no classes."""


@dataclass(slots=True)
class Kept:
    """Numbers of a stream, evenly thinned once there are too many."""

    most: int = MOST_LENGTHS
    values: list[float] = field(default_factory=list)
    _every: int = 1
    _seen: int = 0

    def add(self, value: float) -> None:
        """One more."""
        if self._seen % self._every == 0:
            self.values.append(value)
            if len(self.values) > self.most:
                self.values, self._every = self.values[::2], self._every * 2
        self._seen += 1


@dataclass(slots=True)
class Tallies:
    """Counts over one version."""

    videos: int = 0
    frames: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    lengths: Kept = field(default_factory=Kept)
    sizes: Counter[str] = field(default_factory=Counter)
    rates: Counter[str] = field(default_factory=Counter)
    codecs: Counter[str] = field(default_factory=Counter)
    containers: Counter[str] = field(default_factory=Counter)
    variable: int = 0
    """Videos whose frames do not come at one distance."""
    with_audio: int = 0
    captioned: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rejects: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, reason and detail of the first."""
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Clips by split and label."""


_COLUMNS = [
    *("state", "reason", "detail", "uri", "codec", "container", "width", "height", "rotation_degrees", "num_frames"),
    *("size_bytes", "duration_seconds", "nominal_rate_num", "nominal_rate_den", "variable_rate", "captions", "audio"),
]


def tally(lake: Lake, version: Version) -> Tallies:
    """Count everything."""
    found = Tallies()
    for row in _rows(lake, version, "media", _COLUMNS):
        _reject(found, row) if row["state"] != "ready" else _video(found, row)
    for row in _rows(lake, version, "clips", ["split", "label"]):
        label = unpack_text(row["label"]) if row["label"] is not None else ""
        place = (str(row["split"] or ""), label)
        if place in found.labels or len(found.labels) < MOST_LABELS:
            found.labels[place] += 1
    return found


def _rows(lake: Lake, version: Version, table: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    if table not in version.tables:
        return
    for batch in lake.scan(version.number, table, columns):
        yield from batch.to_pylist()


def _reject(found: Tallies, row: dict[str, Any]) -> None:
    reason = str(row["reason"] or "unknown")
    found.reasons[reason] += 1
    if len(found.rejects) < MOST_REJECTS:
        uri, detail = (unpack_text(row[name]) if row[name] is not None else "" for name in ("uri", "detail"))
        found.rejects.append((uri, reason, detail))


def _video(found: Tallies, row: dict[str, Any]) -> None:
    found.videos += 1
    found.frames += row["num_frames"] or 0
    found.size_bytes += row["size_bytes"] or 0
    if row["duration_seconds"] is not None:
        found.seconds += row["duration_seconds"]
        found.lengths.add(row["duration_seconds"])
    width, height = row["width"] or 0, row["height"] or 0
    turned = (row["rotation_degrees"] or 0) in (90, 270)
    found.sizes[f"{height} {TIMES} {width}" if turned else f"{width} {TIMES} {height}"] += 1
    rate = "variable" if row["variable_rate"] else rate_text(row["nominal_rate_num"], row["nominal_rate_den"])
    found.rates[rate] += 1
    found.codecs[str(row["codec"] or "unknown")] += 1
    found.containers[str(row["container"] or "unknown").split(",", 1)[0]] += 1
    found.variable += bool(row["variable_rate"])
    found.with_audio += bool(row["audio"])
    found.captioned += bool(row["captions"])


def rate_text(numerator: int | None, denominator: int | None) -> str:
    """Frames per second with at most two places: `24`, `29.97`."""
    if not numerator:
        return "unknown"
    return f"{float(Fraction(numerator, denominator or 1)):.2f}".rstrip("0").rstrip(".")
