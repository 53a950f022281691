"""How long a run under Ray Train stands still when one of its workers is killed, and where that time goes.

    python jobs/benchmarks/restart_time.py [--quick] [--kills 5]

An embedded Ray, two workers and a very small model, so that nothing but restarting takes time. A worker is killed with
SIGKILL at some step; from then on, by the run's own record:

    started      the loss is noticed, all workers are ended, new processes import torch and are connected
    built        model, optimisers, devices
    restored     the newest checkpoint is verified and loaded
    first step   the first new step is done: the feed has planned and decoded anew
    caught up    the step that was reached before is reached again; depends on how often the run saves

On several machines Ray may notice later: a worker's death is known at once, that of a machine after missed heartbeats.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from measure import median, table, write_page

from cineray.errors import Interrupted
from cineray.feed import FeedConfig
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train import CheckpointConfig, ParallelConfig, RunFolder, TrainJob, ValidationConfig
from cineray.train.ledger import read_all_rows
from cineray.train.ray_train import run_on_ray

MARKS = ("started", "built", "restored", "first step", "caught up")
_STEPS_BETWEEN = 150


def made_job(folder: Path) -> TrainJob:
    """Steps of milliseconds, for ever."""
    make_shapes(folder / "videos", videos=12, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    recipe = Recipe(
        datasets=(DatasetSpec(lake=str(folder / "lake"), split=None),),
        sampling=SamplingSpec(frames=4),
        frame=FrameSpec(height=16, width=16),
        batch_size=4,
        clips_per_visit=4,
    )
    return TrainJob(
        name="restart-time",
        recipe=recipe,
        feed=FeedConfig(driver="ray"),
        steps=1_000_000,
        model=StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8)),
        precision="fp32",
        validation=ValidationConfig(every_steps=0),
        checkpoint=CheckpointConfig(every_steps=100),
        parallel=ParallelConfig(workers=2),
    )


class Killer:
    """A sink that kills a worker when the run has got on, so many times; then it presses Ctrl-C."""

    def __init__(self, kills: int) -> None:
        self.left, self.at_step = kills, _STEPS_BETWEEN
        self.killed_at: list[float] = []

    def row(self, row: Mapping[str, Any]) -> None:
        if row["step"] < self.at_step:
            return
        self.at_step = row["step"] + _STEPS_BETWEEN
        if not self.left:
            os.kill(os.getpid(), signal.SIGINT)
            return
        self.left -= 1
        self.killed_at.append(time.time())
        a_train_worker().kill()

    def judged(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing is judged."""

    def close(self, summary: Mapping[str, Any]) -> None:
        """Nothing to close."""


def a_train_worker() -> psutil.Process:
    """Of this process's Ray."""
    children = psutil.Process().children(recursive=True)
    return next(child for child in children if "TrainWorker" in " ".join(child.cmdline()))


def seconds_after(run: RunFolder, killed_at: float, attempt: int) -> dict[str, float]:
    """When the attempt after the kill came to each mark."""
    events = {event["event"]: event["at"] for event in run.events() if event["attempt"] == attempt}
    rows = [row for row in read_all_rows(run.folder("ledger")) if row["attempt"] == attempt]
    before = max(row["step"] for row in read_all_rows(run.folder("ledger")) if row["attempt"] == attempt - 1)
    marks = [events["begin"], events["built"], events["restored"], rows[0]["at"]]
    marks.append(next(row["at"] for row in rows if row["step"] >= before))
    return {name: at - killed_at for name, at in zip(MARKS, marks, strict=True)}


def main() -> None:
    """Kill, look at the record, print the table and write the page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="half a minute: one kill, no page")
    words.add_argument("--kills", type=int, default=5)
    told = words.parse_args()
    killer = Killer(1 if told.quick else told.kills)
    with tempfile.TemporaryDirectory() as made:
        run_uri = str(Path(made) / "run")
        try:
            run_on_ray(made_job(Path(made)), uri=run_uri, sinks=[killer])
        except Interrupted as over:
            print(over)
        run = RunFolder.open(run_uri)
        costs = [seconds_after(run, at, number + 2) for number, at in enumerate(killer.killed_at)]
    rows = [[name, *(f"{one([cost[name] for cost in costs]):.1f}" for one in (median, min, max))] for name in MARKS]
    busy = f"{os.getloadavg()[1]:.1f} processes wanted the cores, of which this run's are two or three"
    text = f"Seconds after SIGKILL, of {len(costs)} kills; meanwhile {busy}.\n\n" + table(
        ["", "median", "least", "most"], rows
    )
    if told.quick:
        print(text)
    else:
        write_page(
            "restart_time",
            "From a killed worker to the next step",
            "python jobs/benchmarks/restart_time.py",
            text,
        )


if __name__ == "__main__":
    main()
