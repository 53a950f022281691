"""Where a run's whole life went: its ledger and events in, seconds by cause out, over all attempts, killed ones too.

    begin |-- init --|restore|compile|= productive =|data|checkpoint|= productive =| killed
                                                                      ... idle ... | begin |-- init --|restore|= ...

What an attempt did after the last checkpoint before its end is done again by the next: those steps' seconds are lost
progress. A killed attempt ends with the last thing that it said. On a GPU waiting for data is counted as the device
felt it (`gpu_stall_s`). Nothing is guessed but the compiler's time: the first steps of each shape, as far as they took
longer than that shape's median. Where one process waits for its batch, all wait for it, and so much is counted.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from cineray.train.ledger import last_of_each_step, read_all_rows
from cineray.train.run_folder import RunFolder

CAUSES = (
    "productive",
    "data",
    "compile",
    "checkpoint_save",
    "checkpoint_restore",
    "evaluation",
    "lost_progress",
    "init",
    "idle",
    "other",
)
FIRST_STEPS = 2
"""Of a shape, in an attempt: forward and backward graphs are compiled, allocators and autotuners settle."""

Rows = Sequence[Mapping[str, Any]]


def goodput_of(run: RunFolder) -> dict[str, Any]:
    """`lifetime_s`, `goodput` (a fraction), `attempts`, `steps_redone`, and `seconds` by cause."""
    return account(run.events(), read_all_rows(run.folder("ledger")))


def account(events: Sequence[Mapping[str, Any]], rows: Rows) -> dict[str, Any]:
    """The same from what was read."""
    events = [event for event in events if "beside" not in event]  # what others did took nothing from the run
    kept = {int(row["step"]): int(row["attempt"]) for row in last_of_each_step(rows)}
    seconds = dict.fromkeys(CAUSES, 0.0)
    ended = math.nan
    attempts = sorted({int(event["attempt"]) for event in events})
    for attempt in attempts:
        own = [event for event in events if event["attempt"] == attempt]
        done = [row for row in rows if row["attempt"] == attempt]
        begun = float(own[0]["at"])
        if not math.isnan(ended):
            seconds["idle"] += max(begun - ended, 0.0)
        ended = max([float(event["at"]) for event in own] + [float(row["at"]) for row in done])
        for cause, spent in _attempt(own, done, kept, ended - begun).items():
            seconds[cause] += spent
    lifetime = sum(seconds.values())
    return {
        "lifetime_s": lifetime,
        "goodput": seconds["productive"] / lifetime if lifetime else 0.0,
        "attempts": len(attempts),
        "steps_redone": sum(kept.get(int(row["step"])) != row["attempt"] for row in rows),
        "seconds": seconds,
    }


def set_aside(told: Mapping[str, Any], causes: Collection[str]) -> dict[str, Any]:
    """The same account without seconds of these causes, as if they had not been spent: for who had no say in them."""
    seconds = {cause: 0.0 if cause in causes else float(spent) for cause, spent in told["seconds"].items()}
    lifetime = sum(seconds.values())
    goodput = seconds["productive"] / lifetime if lifetime else 0.0
    return {**told, "seconds": seconds, "lifetime_s": lifetime, "goodput": goodput}


def _attempt(events: Rows, rows: Rows, kept: Mapping[int, int], lifetime: float) -> dict[str, float]:
    """One attempt's seconds by cause."""
    spent: dict[str, float] = defaultdict(float)
    begun = float(events[0]["at"])
    for event in events:
        if event["event"] == "restored":
            spent["checkpoint_restore"] += float(event["seconds"])
        elif event["event"] == "rest":
            spent["checkpoint_save"] += float(event.get("checkpoint", 0.0))
            spent["evaluation"] += float(event.get("validation", 0.0))
    if rows:
        first = rows[0]
        spent["init"] = max(float(first["at"]) - float(first["step_s"]) - begun - spent["checkpoint_restore"], 0.0)
    extra = compile_seconds(rows)
    for number, row in enumerate(rows):
        if kept.get(int(row["step"])) != row["attempt"]:
            spent["lost_progress"] += float(row["step_s"])
            continue
        parts = {"compile": extra[number], "data": waited(row)}
        parts |= {"checkpoint_save": _of(row, "checkpoint_s"), "evaluation": _of(row, "validation_s")}
        for cause, part in parts.items():
            spent[cause] += part
        spent["productive"] += max(float(row["step_s"]) - sum(parts.values()), 0.0)
    spent["other"] = max(lifetime - sum(spent.values()), 0.0)
    return spent


def compile_seconds(rows: Rows) -> list[float]:
    """For each row of one attempt, how much longer it computed than its shape's median, if it is one of the first."""
    usual: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        usual[str(row.get("bucket", ""))].append(_of(row, "compute_s"))
    median = {bucket: statistics.median(times) for bucket, times in usual.items()}
    seen: dict[str, int] = defaultdict(int)
    found = []
    for row in rows:
        bucket = str(row.get("bucket", ""))
        seen[bucket] += 1
        enough = len(usual[bucket]) > 2 * FIRST_STEPS
        over = _of(row, "compute_s") - median[bucket]
        found.append(max(over, 0.0) if enough and seen[bucket] <= FIRST_STEPS else 0.0)
    return found


def waited(row: Mapping[str, Any]) -> float:
    """Seconds that a step waited for its data, as the device felt it, on the process that waited longest."""
    return max(waited_here(row), _of(row, "longest_wait_s"))


def waited_here(row: Mapping[str, Any]) -> float:
    """The same of the first process, whose seconds the row has."""
    stall = row.get("gpu_stall_s")
    return _of(row, "data_wait_s") if stall is None or math.isnan(float(stall)) else float(stall)


def fractions(spent: Mapping[str, float]) -> Iterable[tuple[str, float]]:
    """Causes with their share of the whole, largest first."""
    whole = sum(spent.values()) or 1.0
    return sorted(((cause, seconds / whole) for cause, seconds in spent.items()), key=lambda pair: -pair[1])


def _of(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return 0.0 if value is None or math.isnan(float(value)) else float(value)
