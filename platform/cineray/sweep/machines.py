"""Where what a trial takes may lie: a cluster's machines go in; how much there is for trainers and decoding comes out.

    trainers     machines with the job's labels (`parallel.labels`) that do not decode for it, where that is apart; with
                 GPUs, where a trial trains on some
    decoding     machines of the job's part of the cluster (`feed.decode_subcluster`), or all
    the trials   an actor each on the driver's own machine, of which only the memory counts

A core that only decodes is of no use to a trainer: what is apart is counted apart, and also together, where it is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cineray.feed.job import SUBCLUSTER
from cineray.train.config import TrainJob

ACTOR_BYTES = 500_000_000
"""Of the process that drives a trial's training, and of what it starts beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One of a cluster."""

    cpus: float
    gpus: float = 0.0
    labels: Mapping[str, str] | None = None
    """None: not known, so nothing is kept off it."""
    memory_bytes: float = 0.0
    """0: not known."""
    is_drivers: bool = False
    """Does the sweep's driver run on it?"""

    def suits(self, wanted: Mapping[str, str]) -> bool:
        """Has it these labels, and none that is barred (`!x`)? `in(x,y)` is for Ray to read, and counts as met."""
        labels = self.labels
        if labels is None:
            return True
        return all(
            "(" in value or (labels.get(name) == value.removeprefix("!")) != value.startswith("!")
            for name, value in wanted.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What there is for trials."""

    cpus: float
    """Of machines that train or decode."""
    train_cpus: float
    decode_cpus: float
    gpus: float
    actors: float
    """Trials that the driver's machine has memory for."""

    @property
    def is_apart(self) -> bool:
        """Do some machines only train, or only decode?"""
        return min(self.train_cpus, self.decode_cpus) < self.cpus


def machines_of(nodes: Iterable[Mapping[str, Any]], driver: str) -> list[Machine]:
    """Of Ray's list of nodes those that live; `driver`: the id of the one that the driver runs on."""
    return [
        Machine(
            cpus=float(node["Resources"].get("CPU", 0)),
            gpus=float(node["Resources"].get("GPU", 0)),
            labels=dict(node.get("Labels") or {}),
            memory_bytes=float(node["Resources"].get("memory", 0)),
            is_drivers=node["NodeID"] == driver,
        )
        for node in nodes
        if node["Alive"]
    ]


def room_for(
    base: TrainJob, machines: Iterable[Machine], *, on_gpus: bool, taken_cpus: float = 0.0, taken_gpus: float = 0.0
) -> Room:
    """For trials like `base`. What is taken may be taken anywhere: first where it is in nobody's way."""
    machines = list(machines)
    subcluster = base.feed.decode_subcluster
    train = [one for one in machines if one.suits(base.trainer_labels) and (one.gpus or not on_gpus)]
    decode = [one for one in machines if one.suits({SUBCLUSTER: subcluster} if subcluster else {})]
    either = [one for one in machines if one in train or one in decode]
    left_cpus = _cpus(machines) - taken_cpus
    left_gpus = math.fsum(one.gpus for one in machines) - taken_gpus
    memory = math.fsum(one.memory_bytes for one in machines if one.is_drivers)
    return Room(
        cpus=min(_cpus(either), left_cpus),
        train_cpus=min(_cpus(train), left_cpus),
        decode_cpus=min(_cpus(decode), left_cpus),
        gpus=min(math.fsum(one.gpus for one in train), left_gpus),
        actors=max(1, math.floor(memory / ACTOR_BYTES)) if memory else math.inf,
    )


def _cpus(machines: Iterable[Machine]) -> float:
    return math.fsum(one.cpus for one in machines)
