"""What a sweep costs beyond its trainings: a trial against the same run alone, early stopping, and what stays behind.

    python jobs/benchmarks/sweep_overhead.py [--quick] [--rounds 3] [--steps 400] [--trials 6]

An embedded Ray that is there before anything is timed, one trial at a time, and a training that takes some seconds.

A trial and the same run alone, in turn; alone means `run_on_ray` on the same Ray, as `cineray train` does it:

    to the first step    from when it was asked for: processes, imports, plan, model, first batch
    steps                from the first step to the last one, judgements and checkpoints within
    to the end           what was last judged is saved, machines are given back, the trial is recorded
    step                 median milliseconds of a step: is training itself slower in a sweep?

Then learning rates from a good one to worse ones under ASHA, which ends the worse ones early. A trial goes on while it
is judged by others, so those steps are for nothing, beside what the ended trial spent before.

At the end: what is left in Ray (placement groups, actors, object store), which processes of trials live, what lies on
the disk.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from measure import median, table, write_page
from pydantic import JsonValue

from cineray.feed import FeedConfig
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.sweep import (
    Asha,
    Fifo,
    FinalistsConfig,
    JudgeConfig,
    ObjectiveSpec,
    SearchConfig,
    SweepFolder,
    SweepJob,
    TrialBudget,
    Variants,
)
from cineray.sweep.ray_sweep import run_sweep
from cineray.telemetry.ray_session import connected
from cineray.testing import make_shapes
from cineray.train import OptimiserConfig, RunFolder, TrainJob, ValidationConfig
from cineray.train.ledger import read_all_rows
from cineray.train.ray_train import run_on_ray

RATES = (6e-3, 1e-3, 1e-4, 1e-5, 3e-3, 1e-6)
"""Learning rates, a good one first: what comes after it is compared with it."""
PARTS = ("to the first step", "steps", "to the end", "whole")
OF_TRIALS = ("RayTrainWorker", "TrainController", "SweptTrial", "MapBatches")
"""What processes of trials are called."""
SETTLE_SECONDS = 30.0
"""A process ends a while after its actor."""


def base(folder: Path) -> TrainJob:
    """Steps of some tens of milliseconds."""
    make_shapes(folder / "videos", videos=32, frames=24, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return TrainJob(
        name="sweep-overhead",
        recipe=Recipe(
            datasets=(DatasetSpec(lake=str(folder / "lake"), split=None),),
            sampling=SamplingSpec(frames=4),
            frame=FrameSpec(height=16, width=16),
            batch_size=16,
            clips_per_visit=4,
        ),
        feed=FeedConfig(driver="ray", workers=2),
        steps=1,
        model=StDiTConfig(size="custom", width=64, depth=2, heads=4, patch=(1, 8, 8)),
        optimiser=OptimiserConfig(warmup_steps=10, schedule="constant"),
        precision="fp32",
        validation=ValidationConfig(clips=32, held_out=0.25, baseline_clips=32),
    )


def sweep_job(base: TrainJob, rates: tuple[float, ...], *, steps: int, scheduler: Fifo | Asha) -> SweepJob:
    """A trial per learning rate."""
    return SweepJob(
        name="overhead",
        base=base,
        space={"rate": Variants(variants={f"{rate:g}": _rates(rate) for rate in rates})},
        objectives=(ObjectiveSpec(name="noisiest_loss"),),
        budget=TrialBudget(steps=steps),
        trials=len(rates),
        search=SearchConfig(kind="grid"),
        scheduler=scheduler,
        judge=JudgeConfig(times=4),
        finalists=FinalistsConfig(most=0),
        keep="best",
    )


def _rates(rate: float) -> dict[str, JsonValue]:
    return {"optimiser.lr": rate, "optimiser.muon_lr": 2 * rate}


# ---- a trial, and the same run alone ---------------------------------------------------------------------------------


def of_run(uri: str, asked: float, ended: float) -> dict[str, float]:
    """Where the seconds from asking to the end went, by the run's own ledger."""
    rows = read_all_rows(RunFolder.open(uri).folder("ledger"))
    marks = [asked, rows[0]["at"], rows[-1]["at"], ended]
    parts = [later - sooner for sooner, later in itertools.pairwise(marks)]
    step = statistics.median(row["step_s"] - row["checkpoint_s"] for row in rows[5:])
    return dict(zip(PARTS, [*parts, ended - asked], strict=True)) | {"step": 1000 * step}


def alone(trial: TrainJob, place: Path) -> dict[str, float]:
    """The trial's very job, without a sweep."""
    asked = time.time()
    run_on_ray(trial, uri=str(place))
    return of_run(str(place), asked, time.time())


def in_a_sweep(sweep: SweepFolder) -> list[dict[str, float]]:
    """Its trials, by the sweep's events."""
    found = []
    for trial in sweep.trials():
        at = {event["event"]: event["at"] for event in sweep.events() if event.get("trial") == trial.number}
        found.append(of_run(trial.run_uri(), at["asked"], at["ended"]))
    return found


def side_by_side(folder: Path, base: TrainJob, *, rounds: int, steps: int) -> tuple[str, list[SweepFolder]]:
    """The table: the first trial of a sweep tells the job that is run alone next."""
    costs: dict[str, list[dict[str, float]]] = {"a trial of a sweep": [], "the same run alone": []}
    sweeps = []
    for number in range(rounds):
        place = str(folder / f"fifo-{number}")
        run_sweep(sweep_job(base, (1e-3, 2e-3), steps=steps, scheduler=Fifo()), uri=place)
        sweeps.append(SweepFolder.open(place))
        costs["a trial of a sweep"] += in_a_sweep(sweeps[-1])
        for again, trial in enumerate(sweeps[-1].trials()):
            costs["the same run alone"].append(alone(trial.job(), folder / f"alone-{number}-{again}"))
    names = [*PARTS, "step"]
    rows = [
        [way, *(f"{median([cost[name] for cost in all_of_it]):.1f}" for name in names)]
        for way, all_of_it in costs.items()
    ]
    count = len(costs["the same run alone"])
    told = f"Seconds (of a step: milliseconds), medians of {count} of each, {steps} steps judged four times.\n\n"
    return told + table(["", *names], rows), sweeps


# ---- early stopping --------------------------------------------------------------------------------------------------


def stopped_early(folder: Path, base: TrainJob, rates: tuple[float, ...], *, steps: int) -> tuple[str, SweepFolder]:
    """What trials that ASHA ended had cost, and what they cost after they were judged for the last time."""
    told = run_sweep(sweep_job(base, rates, steps=steps, scheduler=Asha(first=0.25)), uri=str(folder / "asha"))
    sweep = SweepFolder.open(str(folder / "asha"))
    rows: list[list[object]] = []
    spent: dict[str, float] = defaultdict(float)
    for trial, facts in zip(sweep.trials(), told["trials"], strict=True):
        ledger = read_all_rows(RunFolder.open(trial.run_uri()).folder("ledger"))
        whole = ledger[-1]["training_seconds"]
        spent[facts["state"]] += whole
        loss = facts["objectives"]["noisiest_loss"]["value"]
        row = [facts["number"], trial.values["rate"], facts["state"], f"{loss:.4f}", facts["step"], len(ledger)]
        rows.append([*row, f"{whole:.1f}", f"{max(0.0, whole - facts['seconds']):.1f}"])
    in_all, done = sum(spent.values()), sum(trial["state"] == "done" for trial in told["trials"])
    text = (
        f"Of {in_all:.1f} training seconds, trials that were ended early spent {spent['stopped']:.1f} "
        f"({100 * spent['stopped'] / in_all:.0f} %); all of them whole would have taken about "
        f"{spent['done'] / done * len(rates):.1f}.\n\n"
    )
    header = ["trial", "rate", "state", "loss", "judged at step", "steps done", "seconds", "of these after it"]
    return text + table(header, rows), sweep


# ---- what stays behind -----------------------------------------------------------------------------------------------


def left_behind(sweeps: list[SweepFolder]) -> str:
    """In Ray by the sweeps' own checks; processes and bytes as they are."""
    rows: list[list[object]] = []
    for sweep in sweeps:
        leaks: Mapping[str, Any] = [event for event in sweep.events() if event["event"] == "leaks"][-1]
        place = Path(sweep.uri)
        size = _bytes_of(place / "trials")
        trials = list(sweep.trials())
        kept = sum(1 for trial in trials if any(Path(trial.run_uri()).glob("checkpoints/*")))
        row = [leaks["placement_groups"], leaks["actors"], leaks["store_bytes"], leaks["disk_bytes"]]
        rows.append([place.name, *row, f"{kept} of {len(trials)}", f"{size / 2**20:.2f}"])
    left = ["placement groups", "actors", "store bytes", "disk bytes"]
    header = ["sweep", *left, "runs with checkpoints", "MiB of trials"]
    ends = time.monotonic() + SETTLE_SECONDS
    while (alive := _alive()) and time.monotonic() < ends:
        time.sleep(1)
    told = f" ({', '.join(sorted(alive))})" if alive else ""
    return f"{table(header, rows)}\n\nProcesses of trials that live after all of it: {len(alive)}{told}."


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _alive() -> list[str]:
    """Processes of trials below this one."""
    return [name for process in psutil.Process().children(recursive=True) if (name := _of_a_trial(process))]


def _of_a_trial(process: psutil.Process) -> str:
    """Its name, if it is one."""
    try:
        words = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
    return words.split("(")[0].strip() if any(name in words for name in OF_TRIALS) else ""


def main() -> None:
    """Measure, print the tables and write the page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="some minutes, no page")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--steps", type=int, default=400)
    words.add_argument("--trials", type=int, choices=range(2, len(RATES) + 1), default=len(RATES), help="under ASHA")
    told = words.parse_args()
    rounds, steps, trials = (1, 100, 3) if told.quick else (told.rounds, told.steps, told.trials)
    with tempfile.TemporaryDirectory() as made, connected(num_cpus=len(os.sched_getaffinity(0)) + 1):
        folder = Path(made)
        job = base(folder)
        beside, sweeps = side_by_side(folder, job, rounds=rounds, steps=steps)
        print(beside, flush=True)
        early, last = stopped_early(folder, job, RATES[:trials], steps=steps)
        behind = left_behind([*sweeps, last])
    busy = f"Meanwhile {os.getloadavg()[2]:.1f} processes wanted the cores, of which a training's are two or three."
    text = f"{busy}\n\n## A trial and the same run alone\n\n{beside}\n\n## Early stopping by ASHA\n\n{early}\n\n"
    text += f"## What stays behind\n\n{behind}"
    if told.quick:
        print(text)
    else:
        command = f"python jobs/benchmarks/sweep_overhead.py --rounds {rounds} --steps {steps} --trials {trials}"
        write_page("sweep_overhead", "What a sweep costs beyond its trainings", command, text)


if __name__ == "__main__":
    main()
