"""A run's figures for Prometheus, through Ray: rows go in, `ray_cineray_train_loss` and the like come out on each
node's metrics port, from where a cluster's Prometheus takes them. Labelled with the run; Ray forgets them at its end.

Gauges hold the figures of the last step and when it was, counters what has added up: `..._seconds_total{cause}` (which
rates are the goodput of), `..._clips_seen_total`, `..._clips_substituted_total`. `cluster/observability` draws them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

from cineray.train.goodput import waited
from cineray.train.run_folder import RunFolder
from cineray.train.sinks import figures


def ray_is_there() -> bool:
    """Is this process part of a Ray?"""
    return bool(ray.is_initialized())


class PrometheusSink:
    """One gauge per figure, made when it first comes; counters from the start."""

    def __init__(self, run: RunFolder) -> None:
        self._tags = {"run": run.run_id}
        self._gauges: dict[str, Gauge] = {}
        self._seconds = self._counter("seconds", "seconds of this attempt by what they were spent on", "cause")
        self._clips = self._counter("clips_seen", "clips learnt from, steps that were done again included")
        self._substituted = self._counter("clips_substituted", "clips that stood in for some that cannot be decoded")
        # A run that never saves is one whose last checkpoint is as old as the attempt.
        self._set("checkpoint_at", time.time())

    def row(self, row: Mapping[str, Any]) -> None:
        """The newest step's figures."""
        self._set("step", float(row["step"]))
        self._set("at", float(row["at"]))
        if float(row.get("checkpoint_s") or 0.0) > 0:
            self._set("checkpoint_at", float(row["at"]))
        for name, value in figures(row).items():
            self._set(name, value)
        self._clips.inc(int(row["clips"]))
        if row.get("substituted"):
            self._substituted.inc(int(row["substituted"]))
        for cause, seconds in seconds_by_cause(row).items():
            if seconds > 0:
                self._seconds.inc(seconds, tags={"cause": cause})

    def judged(self, step: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002 - a gauge has no step
        """The newest validation's."""
        for name, value in metrics.items():
            self._set(name, value)

    def close(self, summary: Mapping[str, Any]) -> None:
        """The last figures stay until the process ends."""
        self._set("goodput", float(summary.get("goodput", 0.0)))

    def _counter(self, name: str, description: str, *tags: str) -> Counter:
        counter = Counter(f"cineray_train_{name}", description=description, tag_keys=("run", *tags))
        counter.set_default_tags(self._tags)
        return counter

    def _set(self, name: str, value: float) -> None:
        plain = "".join(letter if letter.isalnum() else "_" for letter in name)
        if plain not in self._gauges:
            gauge = Gauge(f"cineray_train_{plain}", description=f"{name} of the last step", tag_keys=("run",))
            gauge.set_default_tags(self._tags)
            self._gauges[plain] = gauge
        self._gauges[plain].set(value)


def seconds_by_cause(row: Mapping[str, Any]) -> dict[str, float]:
    """A step's seconds, each counted once: together they are `step_s`."""
    spent = {
        "data": waited(row),
        "checkpoint": float(row.get("checkpoint_s") or 0.0),
        "validation": float(row.get("validation_s") or 0.0),
    }
    whole = float(row["step_s"])
    return spent | {"productive": max(whole - sum(spent.values()), 0.0)}
