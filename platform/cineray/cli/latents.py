"""`cineray latents JOB`: encode what a training job will show before it runs. Its steps then read latents, and no
video; validation clips and baselines are not in the store, so the lake's videos must still be there when it trains.

Of a sweep's job, what all of its trials will show: each sampling, size and autoencoder into a store of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import typer

from cineray.cli.job import JOB, SETS, data_job, read_job
from cineray.cli.output import JSON, bytes_text, facts_table, show, words
from cineray.config import override
from cineray.errors import UsageError

if TYPE_CHECKING:
    from cineray.train.config import TrainJob
    from cineray.train.latents_cost import Made


def latents_command(
    job: str = JOB,
    sets: list[str] = SETS,
    steps: int = typer.Option(0, min=0, help="Of the first so many steps; 0: of latents.steps, or all of the job's."),
    quick: bool = typer.Option(False, "--quick", help="Of a sweep's job: with its own `quick` settings."),
    engine: Literal["local", "ray"] = typer.Option("ray", help="In this process, or in Ray's workers."),
    workers: int = typer.Option(0, min=0, help="ray: tasks at once; 0 is as many as there is room for."),
    gpus_per_task: float = typer.Option(
        0.0, min=0.0, help="ray: the share of a GPU that a task takes; 0 encodes on CPUs."
    ),
    address: str = typer.Option("", help="A Ray cluster's address; without it Ray is embedded."),
    as_json: bool | None = JSON,
) -> None:
    """Fill a job's store with the latents of its steps: what is there is left alone, so a killed run goes on. Of a
    sweep's job: the stores of all trials.

    Training then decodes no video for its steps; validation clips and baselines are still decoded.
    """
    if engine == "local":
        _check_unused({"--workers": workers, "--gpus-per-task": gpus_per_task, "--address": address})
    how = {"workers": workers, "gpus_per_task": gpus_per_task, "address": address}
    jobs, sweep = _jobs(job, sets, quick=quick)
    made = [_made(one, steps, engine, how) for one in jobs]
    if not sweep:
        show(made[0], as_json=as_json, table=[facts_table(_shown(made[0]))])
        return
    tables = [facts_table(_shown(facts)) for facts in made]
    show({"sweep": sweep, "stores": made}, as_json=as_json, table=tables)


def _jobs(where: str, sets: list[str], *, quick: bool) -> tuple[list[TrainJob], str]:
    """The trainings whose latents are wanted, and the sweep that they are of, if they are."""
    from cineray.sweep.config import SweepJob
    from cineray.train.latents_job import check_wants_latents

    job = read_job(where, [] if quick else sets)
    if not isinstance(job, SweepJob):
        if quick:
            raise UsageError(f"--quick is given and {where} is no sweep's job, which has `quick` settings; remove it")
        return [check_wants_latents(data_job(where, sets))], ""
    from cineray.sweep.judging import definite
    from cineray.sweep.made_before import jobs_made_before

    told = override(job, [*job.quick, *sets]) if quick else job
    return jobs_made_before(definite(told)), told.name


def _made(job: TrainJob, steps: int, engine: str, how: dict[str, Any]) -> dict[str, Any]:
    """Fill one store, and say what that took."""
    from cineray.train.latents_job import prepare

    began, on_gpu = time.perf_counter(), how["gpus_per_task"] > 0 if engine == "ray" else None
    prepared = prepare(job, range(steps or job.latents.made_steps(job.steps)), on_gpu=on_gpu)
    with _progress(prepared.wanted.distinct - prepared.wanted.present) as tell:
        made = prepared.make(engine, on_made=tell, **how)
    return {
        "job": job.name,
        "store": job.latents.store,
        "fingerprint": prepared.spec.fingerprint,
        "steps": len(prepared.steps),
        "draws": prepared.wanted.draws,
        "distinct": prepared.wanted.distinct,
        "present": prepared.wanted.present,
        "second_epoch_hit_rate": prepared.hit_rate,
        **{name: value for name, value in asdict(made).items() if name not in ("clips", "seconds")},
        "bytes_per_clip": prepared.bytes_per_clip,
        "worker_seconds": made.seconds,
        "seconds": time.perf_counter() - began,
    }


def _check_unused(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value:
            raise UsageError(
                f"{name} is {value} but --engine is local, which is this process alone; choose --engine ray, or leave "
                f"{name} out"
            )


def _shown(facts: dict[str, Any]) -> dict[str, Any]:
    rate = facts["encoded"] / facts["seconds"] if facts["seconds"] else 0.0
    size = facts["bytes_per_clip"] * facts["distinct"]
    return {
        "store": facts["store"],
        "clips of these steps": f"{facts['draws']:,}, {facts['distinct']:,} of them different",
        "there already": facts["present"],
        "encoded": f"{facts['encoded']:,} in {facts['seconds']:.1f} s, {rate:,.1f} clips/s",
        "substituted": facts["substituted"],
        "size": f"{bytes_text(facts['bytes_per_clip'])} a clip, {bytes_text(size)} in all",
        "found again in a second epoch": f"{100 * facts['second_epoch_hit_rate']:.0f} %",
    }


@contextmanager
def _progress(clips: int) -> Iterator[Callable[[Made], None]]:
    """The live line; silent where nobody is watching."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=words, transient=True) as bar:
        line = bar.add_task("encoding", total=clips)
        yield lambda made: bar.advance(line, made.encoded)
