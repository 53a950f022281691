"""`cineray sweep JOB`: from a space of jobs to the one to take; `cineray sweep SWEEP` goes on with a sweep.

What is printed is what `sweep-result.json` holds, without the curves; the page of it lies in the sweep's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from cineray.cli.job import SETS, SWEEP_JOB, job_kinds
from cineray.cli.output import JSON, show
from cineray.config import load_job, override
from cineray.errors import UsageError

if TYPE_CHECKING:
    from cineray.sweep import SweepJob

LONG = frozenset({"curve", "seconds_by_cause", "samples"})
"""Of each trial; in `sweep-result.json`, and not in what is printed."""


def sweep_command(
    job: str = SWEEP_JOB,
    sets: list[str] = SETS,
    quick: bool = typer.Option(False, "--quick", help="Lay the job's own `quick` settings over it: small, but real."),
    sweep: str = typer.Option("", help="Where the sweep is made, or lies. Default: a new folder in the job's sweeps."),
    address: str = typer.Option("", help="The Ray cluster to use. Default: $RAY_ADDRESS, or one on this machine."),
    as_json: bool | None = JSON,
) -> None:
    """Try what JOB's space allows, and say what to take: by quality, speed and cost, at equal time for every trial."""
    facts = swept(job, sets, quick=quick, sweep=sweep, address=address)
    from cineray.cli.sweep_table import sweep_tables

    show(facts, as_json=as_json, table=sweep_tables(facts))


def swept(where: str, sets: list[str], *, quick: bool = False, sweep: str = "", address: str = "") -> dict[str, Any]:
    """Sweep, make the page of it, and return what `--json` prints."""
    from cineray.cli.sweep_live import SweepLive
    from cineray.report import write_report
    from cineray.storage import join_uri
    from cineray.sweep.ray_sweep import run_sweep

    job, uri = _told(where, sets, quick=quick, sweep=sweep)
    found = run_sweep(job, uri=uri, address=address, watchers=[SweepLive(job)])
    page = write_report(found["sweep"], join_uri(found["sweep"], "report.html"))
    return printed(found, page.path)


def printed(found: Mapping[str, Any], report: str) -> dict[str, Any]:
    """The result without what only plots need."""
    trials = [{name: value for name, value in trial.items() if name not in LONG} for trial in found["trials"]]
    return {**found, "trials": trials, "report": report}


def _told(where: str, sets: list[str], *, quick: bool, sweep: str) -> tuple[SweepJob, str]:
    """The job, and where its sweep is or will be; empty for a new place."""
    from cineray.sweep.config import SweepJob
    from cineray.sweep.folder import SweepFolder, is_sweep

    if is_sweep(where):
        _check_unchanged(where, sets, quick=quick, sweep=sweep)
        return SweepFolder.open(where).job(), where
    job = load_job(where, job_kinds())
    if not isinstance(job, SweepJob):
        raise UsageError(
            f"{where} is a {type(job).__name__}, which is one job and not a space of them; wanted a SweepJob, with a "
            "base, a space, objectives and a budget"
        )
    if quick and not job.quick:
        raise UsageError(f"--quick is given but {where} has no quick settings; leave it out, or give the job `quick`")
    return override(job, [*(job.quick if quick else ()), *sets]), sweep


def _check_unchanged(where: str, sets: list[str], *, quick: bool, sweep: str) -> None:
    """A sweep goes on as it began: trials by another job could not be compared with those that it has."""
    given = [*(f"--set {text}" for text in sets), *(["--quick"] if quick else [])]
    if given:
        raise UsageError(
            f"JOB is the sweep {where}, whose trials are comparable because its job does not change, and {given[0]} is "
            f"given; leave it out, or begin a new sweep: cineray sweep {where}/sweep.yaml {given[0]}"
        )
    if sweep and sweep != where:
        raise UsageError(f"JOB is the sweep {where} and --sweep names {sweep}; leave --sweep out to go on with it")
