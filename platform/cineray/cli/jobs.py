"""`cineray jobs list|status|logs|stop`: the jobs of a cluster, those of plain `ray job submit` too."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import typer

from cineray.cli.output import JSON, facts_table, show, show_lines, visible, wants_json, words
from cineray.cli.submit import ADDRESS, show_to_its_end
from cineray.errors import CinerayError

app = typer.Typer(no_args_is_help=True, help="Look at a cluster's jobs: list, status, logs, stop.")
_LINES_SHOWN = 20
ID: Any = typer.Argument(metavar="ID", help="A submission's id, or a beginning of it that no other has.")


@app.command("list")
def jobs_list(address: str = ADDRESS, as_json: bool | None = JSON) -> None:
    """All jobs that were submitted, the newest first."""
    from cineray.launch.clients import open_cluster
    from cineray.launch.outcome import job_row

    rows = [job_row(job, time.time()) for job in open_cluster(address).jobs()]
    show_lines(rows, as_json=as_json, columns=("submission_id", "status", "command", "attempt", "seconds", "run"))


@app.command("status")
def jobs_status(submission_id: str = ID, address: str = ADDRESS, as_json: bool | None = JSON) -> None:
    """One job: its state, its run, how it ended and its result."""
    from cineray.launch.clients import open_cluster
    from cineray.launch.outcome import job_row, result_of

    cluster = open_cluster(address)
    job = cluster.job(submission_id)
    facts = job_row(job, time.time()) | {"package": job.told.get("package"), "secrets": job.told.get("secrets")}
    if job.status == "SUCCEEDED":
        result = result_of([cluster.logs(job.submission_id)])
        facts |= {"verdict": result.get("verdict")} | ({"result": result} if wants_json(as_json) else {})
    elif job.message:
        facts["message"] = "\n".join(job.message.splitlines()[-_LINES_SHOWN:])  # Ray puts the end of the log there
    facts = {name: value for name, value in facts.items() if value not in (None, "")}
    show(facts, as_json=as_json, table=[facts_table(for_people(facts))])


@app.command("logs")
def jobs_logs(
    submission_id: str = ID,
    address: str = ADDRESS,
    follow: bool = typer.Option(False, "--follow", "-f", help="As they come, until the job ends; with its exit code."),
    as_json: bool | None = JSON,
) -> None:
    """What a job has printed."""
    from cineray.launch.clients import open_cluster
    from cineray.launch.outcome import job_row

    cluster = open_cluster(address)
    job = cluster.job(submission_id)
    if follow:
        show_to_its_end(cluster, job.submission_id, job_row(job, time.time()), as_json=as_json)
    else:
        sys.stdout.write(visible(cluster.logs(job.submission_id).expandtabs(1)))


def for_people(facts: Mapping[str, Any]) -> dict[str, Any]:
    """When it began, as one reads it; and how a job that cineray did not send was started, which else its run tells."""
    shown = {name: value for name, value in facts.items() if value not in (None, "")}
    if "started" in shown:
        shown["started"] = f"{datetime.fromtimestamp(shown['started']).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    if "command" in shown:
        shown.pop("entrypoint", None)
    return shown


@app.command("stop")
def jobs_stop(
    submission_id: str = ID,
    address: str = ADDRESS,
    wait: float = typer.Option(330.0, min=0.0, help="Seconds to wait for its end; 0: only tell it to stop."),
    as_json: bool | None = JSON,
) -> None:
    """Tell a job to stop: it saves first, and has minutes for that. Sent again, it goes on."""
    from cineray.launch.clients import open_cluster
    from cineray.launch.follow import wait_for_end
    from cineray.launch.outcome import job_row

    cluster = open_cluster(address)
    job = cluster.job(submission_id)
    if not job.has_ended:
        cluster.stop(job.submission_id)
        words.print(f"{job.submission_id} was told to stop")
        job = wait_for_end(cluster, job.submission_id, seconds=wait, tell=words.print)
    row = job_row(job, time.time())
    show(row, as_json=as_json, table=[facts_table(for_people(row))])
    if wait and not job.has_ended:
        raise CinerayError(
            f"{job.submission_id} has not ended after {wait:.0f} s; the cluster kills it in the end. Look at "
            f"`cineray jobs logs {job.submission_id} --address {cluster.address}`"
        )
