"""What a training does per second when the cluster is all its own: ledgers go in, figures with intervals come out.

of several trainings    how much they differ says how sure their mean is: Student's t over one figure of each. Rates
                        are compared by their ratios, so it is over their logarithms; shares over themselves
of one                  nothing says how much trainings differ: its interval is that within it, and whoever shows it
                        says so. Steps one after the other are alike (one window of the plan, one garbage
                        collection), so the bootstrap draws stretches of them, as long as the root of their number
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cineray.evaluate.intervals import SURE, Integers, Reals, draws, middle
from cineray.sweep.costs import SECONDS_PER_HOUR
from cineray.train.goodput import waited

Row = Mapping[str, Any]
"""Of a ledger."""

RESAMPLES = 1000


def step_seconds(row: Row) -> float:
    """What a step took, without what was saved and judged after it."""
    between = sum(float(row.get(name) or 0.0) for name in ("checkpoint_s", "validation_s"))
    return float(row["step_s"]) - between


_PARTS: dict[str, tuple[Callable[[Row], float], Callable[[Row], float]]] = {
    "clips_per_s": (lambda row: float(row["clips"]), step_seconds),
    "frames_per_s": (lambda row: float(row["frames"]), step_seconds),
    "data_wait": (waited, step_seconds),
    "gpu_stall": (lambda row: float(row["gpu_stall_s"]), step_seconds),
    "mfu": (lambda row: float(row["mfu"]) * float(row["step_s"]), step_seconds),
    "cost_per_million_clips": (step_seconds, lambda row: float(row["clips"])),
}
"""Objective -> what is summed above and below the line."""

_RATES = frozenset({"clips_per_s", "frames_per_s", "cost_per_million_clips"})
"""Above zero, and twice as much is as far as half as much; all others are shares of something."""


def after_warmup(rows: Sequence[Row], seconds: float) -> list[Row]:
    """Without the steps that began in the first seconds, which wait for the first batch, compile and fill queues."""
    in_turn = sorted(rows, key=lambda row: int(row["step"]))
    began = itertools.accumulate((step_seconds(row) for row in in_turn), initial=0.0)
    return [row for row, at in zip(in_turn, began, strict=False) if at >= seconds]


def figures(
    trainings: Sequence[Sequence[Row]], *, rate_per_hour: float | None = None, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Objective -> `value`, `low`, `high` (95 %) and `n` (steps), of one or several trainings of one job; an objective
    of which the ledgers say nothing is left out."""
    kept = [np.array([_sums(row) for row in rows], dtype=np.float64) for rows in trainings if rows]
    if not kept:
        return {}
    whole_P2 = np.concatenate(kept).sum(axis=0)
    found = {}
    for at, name in enumerate(_PARTS):
        scale = _scale(name, rate_per_hour)
        value = float(_ratio(whole_P2[at : at + 1])[0])
        if math.isfinite(value) and math.isfinite(scale):
            low, high = _interval([rows_N2[:, at] for rows_N2 in kept], is_rate=name in _RATES, seed=seed)
            told = {"value": value, "low": min(low, value), "high": max(high, value)}
            found[name] = {part: scale * one for part, one in told.items()} | {"n": sum(map(len, kept))}
    return found


def _sums(row: Row) -> list[tuple[float, float]]:
    return [(above(row), below(row)) for above, below in _PARTS.values()]


def _scale(name: str, rate_per_hour: float | None) -> float:
    if name != "cost_per_million_clips":
        return 1.0
    return math.nan if rate_per_hour is None else rate_per_hour / SECONDS_PER_HOUR * 1e6


def _interval(trainings: Sequence[Reals], *, is_rate: bool, seed: int) -> tuple[float, float]:
    """Of one figure; each training's rows are what stands above and below the line at each step."""
    if len(trainings) == 1:
        (rows_N2,) = trainings
        return middle(_ratio(rows_N2[_stretches(len(rows_N2), seed=seed)].sum(axis=1)))
    each_T = _ratio(np.stack([rows_N2.sum(axis=0) for rows_N2 in trainings]))
    if is_rate and (each_T > 0).all():
        low, high = student(np.log(each_T))
        return math.exp(low), math.exp(high)
    low, high = student(each_T)
    return max(low, 0.0), min(high, 1.0)


def student(values: Reals, *, sure: float = SURE) -> tuple[float, float]:
    """Where the mean lies that values are drawn around, by how much these few differ."""
    from scipy.special import stdtrit

    count, mean = len(values), float(values.mean())
    aside = float(stdtrit(count - 1, 1 - (1 - sure) / 2)) * float(values.std(ddof=1)) / math.sqrt(count)
    return mean - aside, mean + aside


def _stretches(n: int, *, seed: int) -> Integers:
    """Rows of each resample, (times, about n): stretches that begin anywhere, the end followed by the beginning."""
    long = math.isqrt(n - 1) + 1
    starts_RS = draws(n, RESAMPLES, seed=seed)[:, : -(-n // long)]
    return ((starts_RS[:, :, None] + np.arange(long)) % n).reshape(RESAMPLES, -1)[:, :n]


def _ratio(sums_R2: Reals) -> Reals:
    """What is above over what is below; NaN where nothing is below."""
    above, below = sums_R2[:, 0], sums_R2[:, 1]
    found: Reals = np.divide(above, below, out=np.full(len(sums_R2), np.nan), where=below > 0)
    return found
