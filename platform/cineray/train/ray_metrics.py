"""A run's figures as Prometheus gauges, through Ray: rows go in, `cineray_train_loss` and the like come out on each
node's metrics port, from where a cluster's Prometheus takes them. Labelled with the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.util.metrics import Gauge

from cineray.train.run_folder import RunFolder
from cineray.train.sinks import figures


def ray_is_there() -> bool:
    """Is this process part of a Ray?"""
    return bool(ray.is_initialized())


class PrometheusSink:
    """One gauge per figure, made when it first comes."""

    def __init__(self, run: RunFolder) -> None:
        self._tags = {"run": run.run_id}
        self._gauges: dict[str, Gauge] = {}

    def row(self, row: Mapping[str, Any]) -> None:
        """The newest step's figures."""
        self._set("step", float(row["step"]))
        for name, value in figures(row).items():
            self._set(name, value)

    def judged(self, step: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002 - a gauge has no step
        """The newest validation's."""
        for name, value in metrics.items():
            self._set(name, value)

    def close(self, summary: Mapping[str, Any]) -> None:
        """The last figures stay until the process ends."""
        self._set("goodput", float(summary.get("goodput", 0.0)))

    def _set(self, name: str, value: float) -> None:
        plain = "".join(letter if letter.isalnum() else "_" for letter in name)
        if plain not in self._gauges:
            gauge = Gauge(f"cineray_train_{plain}", description=f"{name} of the last step", tag_keys=("run",))
            gauge.set_default_tags(self._tags)
            self._gauges[plain] = gauge
        self._gauges[plain].set(value)
