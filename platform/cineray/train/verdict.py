"""The last line of a run: its ledger and its goodput go in, one sentence comes out: what bounds it, and what to change.

Judged are the steps after the first ones of each shape (compiling, settling): shares of waiting and rates by sums over
them all, shares of computing and MFU by medians. What is lost between steps (checkpoints, validation, restarts) is
judged by sums over the run's whole life.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cineray.train.goodput import FIRST_STEPS, waited, waited_here

Bound = Literal["unknown", "data", "compute", "launch", "checkpoints", "validation", "restarts"]

DATA_BOUND = 0.05
"""Waiting for data above this share of a step is what to look at first."""
LOW_MFU = 0.25
LEAST_STEPS = 5
_MOSTLY = 0.9


@dataclass(frozen=True, slots=True)
class Verdict:
    """What bounds a run."""

    bound: Bound
    data_wait_fraction: float
    mfu: float
    clips_per_s: float
    frames_per_s: float
    gpu_stall_fraction: float
    """No number where there is no GPU."""
    text: str

    def __str__(self) -> str:
        return self.text


def judge(rows: Sequence[Mapping[str, Any]], goodput: Mapping[str, Any], *, driver: str = "ray") -> Verdict:
    """From the ledger's rows (one per step) and `goodput_of`; `driver` is the job's feed.driver."""
    steady = _steady(rows)
    if len(steady) < LEAST_STEPS:
        told = f"too few steps to say what bounds the run: {len(steady)}, wanted {LEAST_STEPS} after the first ones"
        return Verdict("unknown", math.nan, math.nan, math.nan, math.nan, math.nan, told)
    step = sum(float(row["step_s"]) - _between(row) for row in steady)
    data = sum(waited(row) for row in steady) / step if step else 0.0
    mfu = sum(float(row["mfu"]) * float(row["step_s"]) for row in steady) / step if step else math.nan
    rate = sum(int(row["clips"]) for row in steady) / step if step else math.nan
    bound, text = _said(steady, goodput, data, mfu, driver)
    good = f"; goodput {100 * float(goodput['goodput']):.0f} % of {_clock(float(goodput['lifetime_s']))}"
    stall = sum(float(row["gpu_stall_s"]) for row in steady) / step if step else math.nan
    frames = sum(int(row["frames"]) for row in steady) / step if step else math.nan
    return Verdict(bound, data, mfu, rate, frames, stall, text + good)


def _said(
    rows: Sequence[Mapping[str, Any]], goodput: Mapping[str, Any], data: float, mfu: float, driver: str
) -> tuple[Bound, str]:
    lost = _largest_loss(goodput)
    if data > DATA_BOUND and data >= (lost[1] if lost else 0.0):
        who = _who_waits(rows)
        return "data", f"data-bound: {100 * data:.0f} % of each step waits for batches{who}; {_more_data(data, driver)}"
    if lost is not None:
        cause, share = lost
        return _LOSSES[cause][0], f"{_LOSSES[cause][1].format(share=f'{100 * share:.0f} %')}"
    compute = statistics.median(_computed(row) / (float(row["step_s"]) or math.nan) for row in rows)
    said = f"compute-bound: {100 * compute:.0f} % of each step computes, {100 * data:.1f} % waits for data"
    if not math.isnan(mfu) and mfu < LOW_MFU:
        hint = "compile the blocks (compile=true), or give each step more work (recipe.batch_size, micro_batch)"
        return "launch", f"{said}, at {100 * mfu:.0f} % MFU: {hint}"
    told = "" if math.isnan(mfu) else f", at {100 * mfu:.0f} % MFU"
    return "compute", f"{said}{told}: more or faster devices, or a smaller model, make it faster"


def _computed(row: Mapping[str, Any]) -> float:
    """Without what the first process waited, in its sums, for another that had no batch."""
    return float(row["compute_s"]) - (waited(row) - waited_here(row))


def _who_waits(rows: Sequence[Mapping[str, Any]]) -> str:
    """Named where it is mostly one of several: its machine or its share is slow, not the feed."""
    by_rank: dict[int, float] = {}
    for row in rows:
        rank = int(row.get("longest_wait_rank") or 0)
        by_rank[rank] = by_rank.get(rank, 0.0) + waited(row)
    rank, most = max(by_rank.items(), key=lambda pair: pair[1])
    several = int(rows[-1].get("world_size") or 1) > 1
    return f", mostly those of rank {rank}" if several and most > _MOSTLY * sum(by_rank.values()) else ""


def _more_data(data: float, driver: str) -> str:
    if driver == "local":
        return "they are decoded in turn with the training: with feed.driver=torch or ray they come beside it"
    return (
        f"with {1 / (1 - min(data, 0.99)):.1f} times the decoding cores (feed.workers), or with media standardised at "
        "ingest, it would not: see `cineray plan` and `cineray bench`"
    )


_LOSSES: dict[str, tuple[Bound, str]] = {
    "checkpoint_save": (
        "checkpoints",
        "bound by checkpoints: saving holds up {share} of the run; raise "
        "checkpoint.every_steps, or set checkpoint.asynchronous",
    ),
    "evaluation": (
        "validation",
        "bound by validation: it takes {share} of the run; raise validation.every_steps, or lower validation.clips",
    ),
    "lost_progress": (
        "restarts",
        "bound by restarts: {share} of the run was done twice; lower checkpoint.every_seconds",
    ),
    "idle": (
        "restarts",
        "bound by restarts: {share} of the run passed between attempts; look at why they ended "
        "(events/ in the run's folder)",
    ),
}


def _largest_loss(goodput: Mapping[str, Any]) -> tuple[str, float] | None:
    """What took over a tenth of the run's life beside its steps, and the most."""
    lifetime = float(goodput["lifetime_s"]) or math.inf
    cause = max(_LOSSES, key=lambda one: float(goodput["seconds"][one]))
    share = float(goodput["seconds"][cause]) / lifetime
    return (cause, share) if share > 0.1 else None


def _steady(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    seen: dict[tuple[int, str], int] = {}
    found = []
    for row in rows:
        key = (int(row["attempt"]), str(row.get("bucket", "")))
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > FIRST_STEPS:
            found.append(row)
    return found


def _between(row: Mapping[str, Any]) -> float:
    return float(row.get("checkpoint_s") or 0.0) + float(row.get("validation_s") or 0.0)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
