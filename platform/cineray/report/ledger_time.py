"""Where a run's time went, moment by moment: its events and ledger in, seconds by cause in each of some spans out.

    begin |-- init --|restore| step | step | step | ... killed |   idle   | begin |-- init --| ...
          |<- one span of time ->|<- the next ->|

The causes are those of `train.goodput`, whose totals these add up to; there the run's life is judged as a whole, here
one sees when it went wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cineray.train.goodput import CAUSES, compile_seconds, waited

Rows = Sequence[Mapping[str, Any]]

SPANS = 160
"""About as many as a phone has columns for."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some time, and what it went into."""

    start: float
    end: float
    seconds: Mapping[str, float]


def stretches(events: Rows, rows: Rows) -> Iterator[Stretch]:
    """A run's whole life, piece after piece, without gaps."""
    events = [event for event in events if "beside" not in event]  # what others did took nothing from the run
    kept = {int(row["step"]): int(row["attempt"]) for row in sorted(rows, key=lambda row: int(row["attempt"]))}
    ended = math.nan
    for attempt in sorted({int(event["attempt"]) for event in events}):
        own = [event for event in events if event["attempt"] == attempt]
        done = [row for row in rows if row["attempt"] == attempt]
        begun = float(own[0]["at"])
        if begun > ended:
            yield Stretch(ended, begun, {"idle": begun - ended})
        ended = max([float(event["at"]) for event in own] + [float(row["at"]) for row in done])
        yield from _of_attempt(own, done, kept, begun, ended)


def _of_attempt(events: Rows, rows: Rows, kept: Mapping[int, int], begun: float, ended: float) -> Iterator[Stretch]:
    restored = sum(float(event["seconds"]) for event in events if event["event"] == "restored")
    at = begun
    for row, extra in zip(rows, compile_seconds(rows), strict=True):
        start = float(row["at"]) - float(row["step_s"])
        if at == begun:
            yield Stretch(at, start, _filled(max(start - at, restored), {"checkpoint_restore": restored}, "init"))
        elif start > at:
            yield Stretch(at, start, {"other": start - at})
        vain = kept[int(row["step"])] != row["attempt"]
        yield Stretch(start, float(row["at"]), _of_step(row, extra, in_vain=vain))
        at = float(row["at"])
    rest: dict[str, float] = {} if rows else {"checkpoint_restore": restored}
    for event in events:
        if event["event"] == "rest":
            rest["checkpoint_save"] = rest.get("checkpoint_save", 0.0) + float(event.get("checkpoint", 0.0))
            rest["evaluation"] = rest.get("evaluation", 0.0) + float(event.get("validation", 0.0))
    if ended > at or any(rest.values()):
        yield Stretch(at, max(ended, at), _filled(ended - at, rest, "other"))


def _of_step(row: Mapping[str, Any], extra: float, *, in_vain: bool) -> dict[str, float]:
    whole = float(row["step_s"])
    if in_vain:
        return {"lost_progress": whole}
    parts = {"compile": extra, "data": waited(row)}
    parts |= {"checkpoint_save": _of(row, "checkpoint_s"), "evaluation": _of(row, "validation_s")}
    return _filled(whole, parts, "productive")


def _filled(whole: float, parts: Mapping[str, float], rest: str) -> dict[str, float]:
    """What is not told for is `rest`."""
    return {**parts, rest: max(whole - sum(parts.values()), 0.0)}


def by_span(life: Sequence[Stretch], spans: int = SPANS) -> tuple[list[float], dict[str, list[float]]]:
    """Ends of equal spans of time, in seconds since the run began, and by cause the share of each span.

    A stretch that lies in several spans counts in each as far as it lies there.
    """
    if not life:
        return [], {}
    begun, ended = life[0].start, max(one.end for one in life)
    width = (ended - begun) / spans or 1.0
    found = {cause: [0.0] * spans for cause in CAUSES}
    for one in life:
        first = min(int((one.start - begun) / width), spans - 1)
        last = min(int((one.end - begun) / width), spans - 1)
        for span in range(first, last + 1):
            inside = min(one.end, begun + (span + 1) * width) - max(one.start, begun + span * width)
            share = inside / (one.end - one.start) if one.end > one.start else 1.0
            for cause, seconds in one.seconds.items():
                found[cause][span] += seconds * max(share, 0.0)
    totals = [sum(values) or 1.0 for values in zip(*found.values(), strict=True)]
    shares = {
        cause: [value / total for value, total in zip(values, totals, strict=True)] for cause, values in found.items()
    }
    return [(span + 0.5) * width for span in range(spans)], shares


def _of(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return 0.0 if value is None or math.isnan(float(value)) else float(value)
