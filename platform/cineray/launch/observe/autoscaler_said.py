"""What Ray's autoscaler says of itself: what it was asked for, and which nodes are on their way.

Version 1 (machines) leaves a report in the dashboard. Of version 2 (KubeRay) the dashboard has only the text that `ray
status` prints, which is read here line by line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_ASKED = "From request_resources:"
_COMING = "Pending:"
_OF_ASKED = " from request_resources()"
_NONE = "("
"""Ray writes `(none)` and `(no pending nodes)`."""


@dataclass(frozen=True, slots=True)
class AutoscalerSaid:
    """What was understood; lines that were not are left out."""

    asked: tuple[tuple[dict[str, float], int], ...] = ()
    """(resources, how often)."""
    coming: tuple[str, ...] = ()
    """A line for each node, or kind of node, that is being made or started."""


def read_report(report: Mapping[str, Any]) -> AutoscalerSaid:
    """From the report of version 1."""
    load, scaler = report.get("loadMetricsReport") or {}, report.get("autoscalerReport") or {}
    launches = [f"{kind}, {count} launching" for kind, count in (scaler.get("pendingLaunches") or {}).items()]
    nodes = [": ".join((str(one[0]), ", ".join(map(str, one[1:])))) for one in scaler.get("pendingNodes") or []]
    asked = [(dict(shape), int(count)) for shape, count in load.get("requestDemand") or []]
    return AutoscalerSaid(asked=tuple(asked), coming=(*launches, *nodes))


def read_status(text: str) -> AutoscalerSaid:
    """From the text of `ray status`."""
    lines = text.splitlines()
    asked = [_asked(line) for line in _below(lines, _ASKED)]
    return AutoscalerSaid(
        asked=tuple(one for one in asked if one is not None),
        coming=tuple(line for line in _below(lines, _COMING) if not line.startswith(_NONE)),
    )


def _below(lines: list[str], heading: str) -> Iterable[str]:
    """The indented lines after a heading."""
    if heading not in lines:
        return
    for line in lines[lines.index(heading) + 1 :]:
        if not line.startswith(" "):
            return
        yield line.strip()


def _asked(line: str) -> tuple[dict[str, float], int] | None:
    """` {'CPU': 1.0}: 2 from request_resources()`."""
    shape, colon, count = line.removesuffix(_OF_ASKED).rpartition(": ")
    if not colon or not line.endswith(_OF_ASKED) or not count.isdecimal():
        return None
    try:
        told = ast.literal_eval(shape)
    except (SyntaxError, ValueError):
        return None
    return ({str(name): float(value) for name, value in told.items()}, int(count)) if isinstance(told, dict) else None
