"""`cineray train JOB`: from a job to a trained model in a run's folder; `cineray train RUN` goes on with one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from cineray.cli.job import JOB, SETS, read_job
from cineray.cli.output import JSON, facts_table, show
from cineray.errors import UsageError

if TYPE_CHECKING:
    from cineray.train.config import LearningJob

_SHOWN_METRICS = 6


def train_command(
    job: str = JOB,
    sets: list[str] = SETS,
    run: str = typer.Option("", help="Where the run is made, or lies. Default: a new folder in the job's runs."),
    address: str = typer.Option("", help="The Ray cluster to train on. Default: $RAY_ADDRESS, or one on this machine."),
    as_json: bool | None = JSON,
) -> None:
    """Train what JOB describes; a run that is given as JOB or lies at --run goes on from its newest checkpoint."""
    facts = trained(job, sets, run, address)
    show(facts, as_json=as_json, table=train_tables(facts))


def trained(job: str, sets: list[str], run: str = "", address: str = "") -> dict[str, Any]:
    """Train, and return what `--json` prints of it."""
    told, uri = _told(job, sets, run)
    from cineray.evaluate.side import make_samples
    from cineray.train.progress import ProgressLine

    line = ProgressLine(told.steps, budget_seconds=told.budget.seconds)
    if address and told.feed.driver != "ray":
        raise UsageError(
            f"--address is {address} but feed.driver is {told.feed.driver}, which trains in this process; add "
            "--set feed.driver=ray, or leave --address out"
        )
    if told.feed.driver == "ray":
        from cineray.train.ray_train import run_on_ray

        return run_on_ray(told, uri=uri, address=address, sinks=[line], sample=make_samples)
    from cineray.train.local_run import run_local

    return run_local(told, uri=uri, sinks=[line], sample=make_samples)


def _told(where: str, sets: list[str], run: str) -> tuple[LearningJob, str]:
    """The job, and where its run is or will be; empty for a new place."""
    from cineray.sweep.config import SweepJob
    from cineray.train.config import LearningJob
    from cineray.train.run_folder import is_run

    job = read_job(where, sets)
    if not isinstance(job, LearningJob):
        if isinstance(job, SweepJob):
            raise UsageError(
                f"{where} is a SweepJob, which says many trainings; start them with: cineray sweep {where}"
            )
        raise UsageError(
            f"{where} is a {type(job).__name__}, which says which batches are made and not what learns from them; "
            "wanted a TrainJob or a TrainVaeJob"
        )
    if not is_run(where):
        return job, run
    if run and run != where:
        raise UsageError(f"JOB is the run {where} and --run names {run}; leave --run out to go on with the run")
    return job, where


def train_tables(facts: dict[str, Any]) -> list[Table]:
    """What a person wants to know of a training."""
    metrics = dict(list(facts["metrics"].items())[:_SHOWN_METRICS])
    shown = {
        "run": facts["run"],
        "steps": f"{facts['step']:,} in {facts['attempts']} attempt{'s' if facts['attempts'] != 1 else ''}",
        "loss": _number(facts["loss"], "{:.4g}"),
        "clips per second": _number(facts["clips_per_s"], "{:,.1f}"),
        "waiting for data": _number(facts["data_wait_fraction"], "{:.1%}"),
        "MFU": _number(facts["mfu"], "{:.1%}"),
        "goodput": _number(facts["goodput"], "{:.0%}"),
        **{name: f"{value:.4g}" for name, value in metrics.items()},
        **({"latents": facts["latents"]["sentence"]} if facts.get("latents") else {}),
        **({"samples of steps": facts["samples"]["steps"]} if facts.get("samples") else {}),
        "verdict": facts["verdict"],
    }
    return [facts_table(shown)]


def _number(value: float | None, form: str) -> str:
    """What could not be measured is said to be so."""
    return "not known" if value is None or math.isnan(value) else form.format(value)
