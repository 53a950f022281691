"""What a trial costs: what it takes of machines and their prices go in, money per hour and a sweep's bill come out.

A trial pays the share of a machine that nobody else can use because of it: the larger one of its share of the cores and
its share of the GPUs. Who takes all GPUs of a machine pays for its cores too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cineray.errors import UsageError
from cineray.sweep.config import NodePrice, PricesConfig
from cineray.train.config import TrainJob

SECONDS_PER_HOUR = 3600


def rate_per_hour(trial: TrainJob, prices: PricesConfig) -> float:
    """What an hour of a trial costs, with its trainers and the cores that decode for it (`feed.workers`)."""
    train = prices.nodes[prices.train]
    decode = prices.nodes[prices.decode or prices.train]
    workers = trial.parallel.most_workers
    gpus = float(workers * gpus_per_worker(trial, train))
    if gpus and not train.gpus:
        raise UsageError(
            f"a trial trains on {gpus:g} GPUs, and a machine of type {prices.train} has none; name another type "
            "(prices.train), or say its GPUs (prices.nodes)"
        )
    cpus = workers * trial.parallel.cpus_per_worker
    decode_cpus = max(1, trial.feed.workers) * trial.feed.cpus_per_task
    if decode is train:
        return train.per_hour * machines(train, cpus=cpus + decode_cpus, gpus=gpus)
    return train.per_hour * machines(train, cpus=cpus, gpus=gpus) + decode.per_hour * machines(decode, cpus=decode_cpus)


def gpus_per_worker(trial: TrainJob, node: NodePrice) -> int:
    """What a trainer takes of such a machine; where the job leaves it open, a GPU if there is one."""
    given = trial.parallel.gpus_per_worker
    return int(node.gpus > 0) if given is None else given


def machines(node: NodePrice, *, cpus: float, gpus: float = 0.0) -> float:
    """How many machines of a type that is, in parts."""
    return max(cpus / node.cpus, gpus / node.gpus if gpus else 0.0)


def cost_of(seconds: float, rate: float | None) -> float:
    """Money for some seconds; NaN without prices."""
    return float("nan") if rate is None else seconds * rate / SECONDS_PER_HOUR


def bill_of(trials: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What a sweep's trials, as its result tells them, come to. `training`: their seconds of training, which is what
    `cost` and a budget count; `whole`: their lives with starts, judgements and checkpoints, and the finalists' seconds
    alone. Without the evaluations at the end; empty without prices."""
    priced = [(float(one["rate_per_hour"]), one) for one in trials if one["rate_per_hour"] is not None]
    if not priced:
        return {}
    return {
        "training": math.fsum(cost_of(float(one["spent_seconds"]), rate) for rate, one in priced),
        "whole": math.fsum(cost_of(_life_seconds(one), rate) for rate, one in priced),
    }


def _life_seconds(trial: Mapping[str, Any]) -> float:
    """By its last report or by its newest run, whichever knows more: a report comes before the last checkpoint, and one
    that failed early has none."""
    alone = trial["alone"] or {}
    life = max(float(trial["wall_seconds"] or 0.0), math.fsum(trial["seconds_by_cause"].values()))
    return life + float(alone.get("seconds", 0.0)) * int(alone.get("repeats", 0))
