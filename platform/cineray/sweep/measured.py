"""What a training does per second when the cluster is all its own: ledgers go in, figures with intervals come out.

Steps one after the other are alike (one window of the plan, one visit, one garbage collection), so they are not drawn
one by one: the bootstrap draws stretches of them, as long as the root of their number, from trainings that are drawn
first. Without the second, trainings of which one met a slow minute would look as sure as a thousand steps do. Of one
training there is nothing to draw from: its interval is that within it, and whoever shows it says so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cineray.evaluate.intervals import Integers, Reals, draws, middle
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
    drawn_RP2 = _resampled(kept, seed)
    found = {}
    for at, name in enumerate(_PARTS):
        scale = _scale(name, rate_per_hour)
        value = _ratio(whole_P2[at : at + 1])[0]
        if math.isfinite(value) and math.isfinite(scale):
            low, high = middle(_ratio(drawn_RP2[:, at]))
            told = {"value": value, "low": low, "high": high}
            found[name] = {part: scale * float(one) for part, one in told.items()} | {"n": sum(map(len, kept))}
    return found


def _sums(row: Row) -> list[tuple[float, float]]:
    return [(above(row), below(row)) for above, below in _PARTS.values()]


def _scale(name: str, rate_per_hour: float | None) -> float:
    if name != "cost_per_million_clips":
        return 1.0
    return math.nan if rate_per_hour is None else rate_per_hour / SECONDS_PER_HOUR * 1e6


def _resampled(trainings: list[Reals], seed: int) -> Reals:
    """The sums of each resample: as many trainings as there are, each of stretches of its rows."""
    sums_RP2 = np.zeros((RESAMPLES, len(_PARTS), 2))
    which_RT = draws(len(trainings), RESAMPLES, seed=seed)
    for place in range(len(trainings)):
        for number, rows in enumerate(trainings):
            drawn = np.flatnonzero(which_RT[:, place] == number)
            stretches = _stretches(len(rows), seed=seed, stream=1 + place * len(trainings) + number)[drawn]
            # How often each row was drawn, so that no resample's rows are ever copied out.
            counts = np.zeros((len(drawn), len(rows)))
            np.add.at(counts, (np.arange(len(drawn))[:, None], stretches), 1)
            sums_RP2[drawn] += np.einsum("rn,npk->rpk", counts, rows)
    return sums_RP2


def _stretches(n: int, *, seed: int, stream: int) -> Integers:
    """Rows of each resample, (times, about n): stretches that begin anywhere, the end followed by the beginning."""
    long = math.isqrt(n - 1) + 1
    starts_RS = draws(n, RESAMPLES, seed=seed, stream=stream)[:, : -(-n // long)]
    return ((starts_RS[:, :, None] + np.arange(long)) % n).reshape(RESAMPLES, -1)[:, :n]


def _ratio(sums_R2: Reals) -> Reals:
    """What is above over what is below; NaN where nothing is below."""
    above, below = sums_R2[:, 0], sums_R2[:, 1]
    found: Reals = np.divide(above, below, out=np.full(len(sums_R2), np.nan), where=below > 0)
    return found
