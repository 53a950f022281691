"""Room for trials on a cluster that has shrunk: what trials take goes in, and the machines that it lacks come.

    not even one trial fits (`capacity.py`), and the head says that machines come when they are asked for
        -> what each trial takes is asked for as a placement group, and Ray's autoscaler starts machines for it
        -> it is held until the cluster was looked at again, and is the trials' then

The machines that are there when a sweep begins decide each trial's share. So room is asked for as many trials as the
job lets be at work at once (`share.max_concurrent`), and for one where it does not say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ray.util import placement_group, placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

from cineray.feed.job import SAYS_DECODE, SUBCLUSTER
from cineray.sweep.config import SweepJob
from cineray.sweep.machines import Machine
from cineray.sweep.search import trials_of
from cineray.train.accelerators import SAYS as SAYS_TRAIN
from cineray.train.accelerators import gpus_of_worker
from cineray.train.config import TrainJob
from cineray.train.stop import StopRequest

SETTLE_SECONDS = 300.0
"""Where a part of the room has come, and no more for so long, the cluster gives no more."""
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Bundle:
    """What lies on one machine."""

    resources: Mapping[str, float]
    labels: Mapping[str, str]
    """That the machine has."""


Bundles = Sequence[Bundle]


def come_when_asked(machines: Iterable[Machine]) -> bool:
    """Does a machine's label say that there are pools, whatever is in them now? It is the head's, in `cluster/`."""
    return any({SAYS_DECODE, SAYS_TRAIN} & (one.labels or {}).keys() for one in machines)


def rooms_for(
    job: SweepJob, trials: Iterable[TrainJob], decode_cpus: float, machines: Sequence[Machine]
) -> list[Bundles]:
    """A room per trial that may be at work at once, each for the hungriest one; evaluations go with the first."""
    labels, gpus = [one.labels or {} for one in machines], math.fsum(one.gpus for one in machines)

    def of_worker(trial: TrainJob) -> dict[str, float]:
        each = gpus_of_worker(trial.parallel, gpus=gpus, labels=labels)
        return {"GPU": float(each), "CPU": trial.parallel.cpus_per_worker}

    def hunger(trial: TrainJob) -> list[float]:
        return [trial.parallel.most_workers * amount for amount in of_worker(trial).values()]

    trial = max(trials, key=hunger)
    part = trial.feed.decode_subcluster
    decode = Bundle({"CPU": 1.0}, {SUBCLUSTER: part} if part else {})
    rest = decode_cpus - math.floor(decode_cpus)
    room = [Bundle(_some(of_worker(trial)), trial.trainer_labels)] * trial.parallel.most_workers
    room += [decode] * math.floor(decode_cpus) + ([Bundle({"CPU": rest}, decode.labels)] if rest else [])
    beside = _some({"CPU": job.judge.evaluate_cpus, "GPU": job.judge.evaluate_gpus})
    evaluation = [Bundle(beside, {})] if job.judge.evaluate is not None else []
    count = min(job.share.max_concurrent or 1, trials_of(job))
    return [room + evaluation, *[room] * (count - 1)]


def _some(resources: Mapping[str, float]) -> dict[str, float]:
    """Without what is zero, which Ray refuses."""
    return {name: amount for name, amount in resources.items() if amount}


@contextmanager
def held(rooms: Sequence[Bundles], *, stop: StopRequest, say: Callable[[str], None]) -> Iterator[None]:
    """Inside, there is room; less where the cluster gives no more, and none where it was told to stop. For ever, where
    nothing comes: `cineray doctor` says what waits."""
    groups = [
        placement_group(
            [dict(one.resources) for one in room],
            name=f"cineray-room-{number}",
            bundle_label_selector=[dict(one.labels) for one in room],
        )
        for number, room in enumerate(rooms, start=1)
    ]
    try:
        say(
            f"there is no room for a trial; it is asked for, {len(rooms)} times {_told(rooms[0])}, and waited for. "
            "What waits, and why, says `cineray doctor --address`"
        )
        _wait(groups, stop)
        yield
    finally:
        for group in groups:
            remove_placement_group(group)


def _wait(groups: Sequence[PlacementGroup], stop: StopRequest) -> None:
    there, since = 0, time.monotonic()
    while not stop.reason:
        now = sum(placement_group_table(group).get("state") == "CREATED" for group in groups)
        if now > there:
            there, since = now, time.monotonic()
        if there == len(groups) or (there and time.monotonic() - since > SETTLE_SECONDS):
            return
        time.sleep(_LOOK_SECONDS)


def _told(room: Bundles) -> str:
    """`2 CPU and 1 GPU`."""
    names = sorted({name for one in room for name in one.resources})
    return " and ".join(f"{math.fsum(one.resources.get(name, 0.0) for one in room):g} {name}" for name in names)
