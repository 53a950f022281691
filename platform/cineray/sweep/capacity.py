"""How many trials fit beside each other: what each takes and what the cluster has go in, a number and shares come out.

    cores    | trainers A | decode A | trainers B | decode B | evaluation |      two at once, each with its own share
    store    |   ahead of A    |    ahead of B    |  the rest is Ray's   |

Every trial of a sweep gets the same share, whatever it does with it, and keeps it: figures of trials that took what was
left over would say how many others were there. So the share is decided once, by the cluster that the sweep began on
(`Terms`, written down in its folder); on another cluster there are more or fewer trials at once, of the same share, and
where not even one fits the sweep does not go on, unless machines come when they are asked for (`ray_room.py`). Machines
that may only train, or only decode, are counted apart (`machines.py`). On one machine without GPUs trials go one at a
time unless told otherwise, for there trainers compute on the cores that decode.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cineray.errors import UsageError
from cineray.feed.ahead_bytes import most_bytes
from cineray.sweep.config import SweepJob
from cineray.sweep.foreseen import rows_key, rows_of_trial
from cineray.sweep.machines import Machine, Room, room_for
from cineray.sweep.objectives import check_gpus
from cineray.sweep.space import MOST_LOOKED_AT, apart, apply, fields_set
from cineray.train.accelerators import gpus_of_worker
from cineray.train.config import TrainJob

STORE_SHARE = 0.4
"""Of the object stores, what decoded batches may take in all: as for a training alone."""

MOST_ASKED_CPUS = 1024
"""Where a larger object store would need more cores than that, more machines are no answer."""


class NoRoom(UsageError):
    """Not even one trial fits on the machines that are there."""

    decode_cpus: float = 0.0
    """So many cores that decode would bring an object store that is large enough, if others bring as much of it each as
    those that are there. 0: it is no store that is too small, or one that no machines would make large enough."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one trial gets beside its trainers."""

    decode_cpus: float
    """Cores that decode for it."""
    object_store_bytes: int | None = None
    """What may be decoded ahead; None: as for a training alone."""

    def to_dict(self) -> dict[str, Any]:
        """For a record."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Share:
        """The inverse."""
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Terms:
    """On what each trial of a sweep trains, from its first one to its last."""

    share: Share
    train_gpus: float
    """Of a whole trial: who trained on GPUs is not compared with who did not."""

    def to_dict(self) -> dict[str, Any]:
        """For a record."""
        return {"share": self.share.to_dict(), "train_gpus": self.train_gpus}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Terms:
        """The inverse."""
        return cls(Share.from_dict(values["share"]), float(values["train_gpus"]))


@dataclass(frozen=True, slots=True)
class Needs:
    """The most that any trial takes of each resource."""

    train_cpus: float
    train_gpus: float
    decode_cpus: float
    """0: nothing is said, so it follows from what is there."""
    task_cpus: float = 0.0
    """What one decode process reserves: a share holds one at the least."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a cluster can do for a sweep."""

    concurrent: int
    """Trials at once."""
    share: Share
    """Of each of them."""
    limited_by: str
    """What there is too little of for one more: `CPU`, `CPU to train`, `CPU to decode`, `GPU`, `one machine`,
    `share.max_concurrent`, `object store`, `memory of the driver's machine`."""


def most_needed(trials: Iterable[TrainJob], cluster: Mapping[str, float], machines: Sequence[Machine] = ()) -> Needs:
    """What the hungriest of some trials take."""
    labels = [one.labels or {} for one in machines]
    cpus, gpus, decode, task = 0.0, 0.0, 0.0, 0.0
    for trial in trials:
        workers = trial.parallel.most_workers
        cpus = max(cpus, workers * trial.parallel.cpus_per_worker)
        each = gpus_of_worker(trial.parallel, gpus=cluster.get("GPU", 0.0), labels=labels)
        gpus = max(gpus, float(workers * each))
        decode = max(decode, trial.feed.workers * trial.feed.cpus_per_task)
        task = max(task, trial.feed.cpus_per_task)
    return Needs(cpus, gpus, decode, task)


def capacity_of(
    job: SweepJob,
    needs: Needs,
    cluster: Mapping[str, float],
    *,
    one_machine: bool,
    machines: Sequence[Machine] = (),
) -> Capacity:
    """`cluster`: Ray's resources in all (`CPU`, `GPU`, `object_store_memory`). `one_machine`: an embedded Ray, which
    trainers compute beside. `machines`: those that it is made of; empty: not known."""
    check_gpus(job, needs.train_gpus)
    left = _room(job, needs, cluster, machines, one_machine=one_machine)
    wanted = decode_wanted(job, needs)
    fits = _fits(job, needs, wanted, left, one_machine=one_machine)
    store, ahead = _for_all(cluster), 0
    if store and job.share.object_store_bytes is None:
        most = min(fits.values())
        ahead = ahead_demanded(job, enough=store // max(1, int(most)) if math.isfinite(most) else 0)
        fits["object store"] = store // ahead if ahead else math.inf  # in whole bytes, as they are shared out
    limit = min(fits, key=lambda name: fits[name])
    if fits[limit] < 1:
        error = _no_room(needs, wanted, left) if limit != "object store" else _no_store(ahead, store)
        error.decode_cpus = _with_store(left, ahead, store)
        raise error
    concurrent = int(fits[limit])
    own, together = left.decode_cpus / concurrent, left.cpus / concurrent - needs.train_cpus
    decode = wanted if job.share.decode_cpus or needs.decode_cpus else _even(min(own, together))
    return Capacity(concurrent, Share(decode, _store(job, cluster, concurrent)), limit)


def decode_wanted(job: SweepJob, needs: Needs) -> float:
    """Cores that decode for a trial, at the least."""
    # A core per core that trains is a modest feed; where GPUs are fewer, each trial gets more than that.
    return job.share.decode_cpus or max(needs.decode_cpus or max(1.0, needs.train_cpus), needs.task_cpus)


def ahead_demanded(job: SweepJob, *, enough: int) -> int:
    """The most bytes ahead that the feed of any trial demands, of those whose share is the sweep's to decide. A plan is
    only opened where more than `enough` may come of it."""
    possible: dict[str, tuple[int, TrainJob]] = {}
    for values in apart(job.space, ("parallel", "feed", "recipe", "seed")):
        if "feed.ahead_bytes" in fields_set(job.space, values):
            continue  # it has its own, which was looked at before (foreseen.py)
        trial = apply(job.base, job.space, values)
        workers, steps = trial.parallel.most_workers, trial.feed.prefetch_steps
        possible[rows_key(trial)] = most_bytes(trial.recipe, world=workers, prefetch_steps=steps), trial
    found = 0
    for most, trial in sorted(possible.values(), key=lambda one: -one[0])[:MOST_LOOKED_AT]:
        if most <= max(found, enough):
            return max(found, most)  # all that follow are smaller
        found = max(found, rows_of_trial(trial).least_bytes(trial.parallel.most_workers))
    return found


def capacity_by(
    terms: Terms,
    job: SweepJob,
    needs: Needs,
    cluster: Mapping[str, float],
    *,
    one_machine: bool,
    machines: Sequence[Machine] = (),
) -> Capacity:
    """The same of a sweep that was begun before, maybe on another cluster: how many trials fit, each with the share
    that those before it had."""
    if needs.train_gpus != terms.train_gpus:
        raise UsageError(_other_terms(f"{terms.train_gpus:g} GPUs each", f"here a trial gets {needs.train_gpus:g}"))
    share, left = terms.share, _room(job, needs, cluster, machines, one_machine=one_machine)
    fits = _fits(job, needs, share.decode_cpus, left, one_machine=one_machine)
    store = cluster.get("object_store_memory", 0)
    if share.object_store_bytes and store:
        # Of the whole store: it is a little larger or smaller each time that Ray starts.
        fits["object store"] = _times(store, share.object_store_bytes)
    limit = min(fits, key=lambda name: fits[name])
    if fits[limit] < 1:
        cpus = needs.train_cpus + share.decode_cpus
        told = f"{cpus:g} CPUs each, {share.decode_cpus:g} of them to decode, {needs.train_gpus:g} GPUs"
        if share.object_store_bytes:
            told += f" and {share.object_store_bytes / 1e9:.3g} GB of the object store"
        here = f"beside evaluations this cluster has {_told(left)}, and {store / 1e9:.3g} GB of it"
        error = NoRoom(_other_terms(told, here))
        error.decode_cpus = _with_store(left, share.object_store_bytes or 0, store)
        raise error
    return Capacity(int(fits[limit]), share, limit)


def _with_store(left: Room, wanted: float, there: float) -> float:
    """Cores that decode, by which there would be as much of the object store."""
    cpus = math.ceil(left.decode_cpus * wanted / there) if 0 < there < wanted else 0
    return float(cpus) if cpus <= MOST_ASKED_CPUS else 0.0


def _other_terms(had: str, here: str) -> str:
    return (
        f"the sweep's trials had {had}, and {here}. Trials that get something else could not be compared with those: "
        "go on where there is as much (--address), or begin a new sweep here"
    )


def _room(
    job: SweepJob, needs: Needs, cluster: Mapping[str, float], machines: Sequence[Machine], *, one_machine: bool
) -> Room:
    """Finished trials are evaluated beside those that train. One machine does it in between."""
    beside = job.judge.evaluate is not None and not one_machine
    return room_for(
        job.base,
        machines or [Machine(cpus=float(cluster.get("CPU", 0)), gpus=float(cluster.get("GPU", 0)))],
        on_gpus=needs.train_gpus > 0,
        taken_cpus=job.judge.evaluate_cpus if beside else 0.0,
        taken_gpus=job.judge.evaluate_gpus if beside else 0.0,
    )


def _fits(job: SweepJob, needs: Needs, decode: float, left: Room, *, one_machine: bool) -> dict[str, float]:
    """By each thing that limits them: trials at once, if each decodes with so many cores."""
    fits = {
        "CPU": _times(left.cpus, needs.train_cpus + decode),
        "CPU to train": _times(left.train_cpus, needs.train_cpus),
        "CPU to decode": _times(left.decode_cpus, decode),
        "GPU": _times(left.gpus, needs.train_gpus),
        "memory of the driver's machine": left.actors,
    }
    if one_machine and not needs.train_gpus:
        fits["one machine"] = job.share.max_concurrent or 1
    if job.share.max_concurrent is not None:
        fits["share.max_concurrent"] = job.share.max_concurrent
    return fits


def _times(there: float, each: float) -> float:
    return math.inf if each <= 0 else math.floor(there / each + 1e-9)


def _even(cpus: float) -> float:
    """Whole cores: decode processes are counted by them."""
    return float(math.floor(cpus + 1e-9)) if cpus >= 1 else cpus


def _store(job: SweepJob, cluster: Mapping[str, float], concurrent: int) -> int | None:
    if job.share.object_store_bytes is not None:
        return job.share.object_store_bytes
    return _for_all(cluster) // concurrent or None


def _for_all(cluster: Mapping[str, float]) -> int:
    """Bytes of the object stores that trials share."""
    return int(STORE_SHARE * cluster.get("object_store_memory", 0))


def _told(left: Room) -> str:
    found = f"{left.cpus:g} CPUs and {left.gpus:g} GPUs"
    if left.is_apart:
        found += (
            f", where trainers may be (base.parallel.labels, GPUs) {left.train_cpus:g} CPUs, where decoding may be "
            f"(base.feed.decode_subcluster) {left.decode_cpus:g}"
        )
    return found


def _no_room(needs: Needs, decode: float, left: Room) -> NoRoom:
    if needs.train_gpus > left.gpus:
        way = "Add machines with GPUs, or train on cores, base.parallel.gpus_per_worker=0"
    else:
        way = "Lower base.parallel.workers, base.parallel.cpus_per_worker or share.decode_cpus, or add machines"
    return NoRoom(
        f"a trial takes {needs.train_cpus:g} CPUs and {needs.train_gpus:g} GPUs to train, and {decode:g} CPUs to "
        f"decode; beside evaluations the cluster has {_told(left)}. {way}"
    )


def _no_store(ahead: int, store: int) -> NoRoom:
    return NoRoom(
        f"the feed of a trial takes {ahead:,} bytes of decoded batches at the least, in its ranks' hands and at work, "
        f"and trials may have {store:,} of the object store in all. Lower feed.prefetch_steps, feed.task_seconds or "
        "the recipe's batch_size (base, or what space sets of them), or give Ray a larger object store or more machines"
    )
