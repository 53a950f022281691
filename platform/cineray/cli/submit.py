"""`cineray submit COMMAND JOB --address ADDR`: the same command on a cluster, as a Ray job."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from cineray.cli.job import SETS, read_job
from cineray.cli.output import JSON, bytes_text, facts_table, plain, show, visible, words
from cineray.errors import UsageError

if TYPE_CHECKING:
    from cineray.launch.clients import Cluster
    from cineray.launch.cluster_parts import Part, Parts
    from cineray.launch.compose import Composed, Wish
    from cineray.launch.sending import Sent

ADDRESS: Any = typer.Option(
    ..., "--address", envvar="CINERAY_ADDRESS", help="The cluster's dashboard: http://HOST:8265."
)
_NAMES_SHOWN = 4
_SHOWN_OF_RESULTS = ("version", "videos", "best", "report")
"""Of ingests, sweeps and reports."""


def submit_command(
    context: typer.Context,
    command: str = typer.Argument(help="What to run there: train, ingest, curate, standardise, evaluate, sample, ..."),
    job: str = typer.Argument(help="What the command is given: a job's file, a run, a source."),
    address: str = ADDRESS,
    sets: list[str] = SETS,
    places: str = typer.Option(
        "", envvar="CINERAY_PLACES", help="Where the job's relative places lie for all machines."
    ),
    follow: bool = typer.Option(False, "--follow", "-f", help="Show its logs as they come; end with its exit code."),
    secret: list[str] = typer.Option([], metavar="NAME[@FILE]", help="A variable, or its file, that the nodes have."),
    env: list[str] = typer.Option([], metavar="NAME=VALUE", help="A variable for the job, which anybody may read."),
    only: list[str] = typer.Option([], metavar="PATH", help="Of the project only this folder or file travels; repeat."),
    code: str = typer.Option("here", help="The cineray to run: this one (here), the cluster's (cluster), or a wheel."),
    label: str = typer.Option("", help="Makes another submission of what is otherwise the same job."),
    cluster: str = typer.Option("", metavar="WHERE", help="The cluster's description; it says what its pools are for."),
    cpus: float = typer.Option(0.0, min=0, help="Cores that COMMAND itself takes; with none it runs beside the head."),
    gpus: float = typer.Option(0.0, min=0, help="GPUs that COMMAND itself takes: for evaluate, sample, bench."),
    python: str = typer.Option("python", help="What starts Python on the cluster."),
    other_python: bool = typer.Option(False, "--other-python", help="Accept another version of Python there."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be sent, and ask no cluster."),
    as_json: bool | None = JSON,
) -> None:
    """Run COMMAND JOB on a cluster; options that are not listed here are COMMAND's own. Sending a job again attaches to
    it, tells that it is done, or goes on with it where it failed."""
    from cineray.launch.compose import Wish, compose
    from cineray.launch.references import parse_secret, parse_variable

    wish = Wish(
        command=command,
        job=job,
        sets=tuple(sets),
        rest=tuple(context.args),
        places=places,
        code=code,
        only=tuple(only),
        secrets=tuple(map(parse_secret, secret)),
        environment=dict(map(parse_variable, env)),
        label=label,
        python=python,
        cpus=cpus,
        gpus=gpus,
    )
    refuse_secrets_typed(wish, address)
    composed = compose(wish, read_job)
    check_words(composed.submission.words)
    refuse_secrets_in(composed)
    tell_what_travels(composed)
    composed = placed_by_description(composed, cluster)
    if dry_run:
        tell_what_is_asked(composed)
        _show({**_facts(composed), "status": "not sent"}, as_json=as_json)
        return
    submit(composed, address, follow=follow, other_python=other_python, as_json=as_json)


def submit(composed: Composed, address: str, *, follow: bool, other_python: bool, as_json: bool | None) -> None:
    """Send it to the cluster at `address`, and tell or follow what becomes of it."""
    from cineray.launch.clients import check_versions, is_in_the_open, open_cluster
    from cineray.launch.cluster_parts import parts_of
    from cineray.launch.sending import send

    cluster = open_cluster(address)
    if is_in_the_open(cluster.address):
        words.print(f"[yellow]{cluster.address} is not encrypted[/]: who listens has the token; use a tunnel or https")
    check_versions(cluster.versions(), other_python=other_python)
    if composed.decodes or composed.trains:
        composed = told_for(composed, parts_of(cluster))
    sent = send(cluster, composed.submission, composed.package)
    _tell_sent(sent, cluster)
    told = {"submission_id": sent.submission_id, "attempt": sent.attempt, "how": sent.how, "address": cluster.address}
    facts = _facts(composed) | told
    if follow:
        show_to_its_end(cluster, sent.submission_id, facts, as_json=as_json)
        return
    facts["status"] = cluster.job(sent.submission_id).status
    _show(facts, as_json=as_json)


def _show(facts: Mapping[str, Any], *, as_json: bool | None) -> None:
    """People are spared what there is none of."""
    shown = {name: value for name, value in facts.items() if value not in (None, "", [], {})}
    show(facts, as_json=as_json, table=[facts_table(shown)])


def placed_by_description(composed: Composed, cluster: str) -> Composed:
    """On the parts of the cluster that the description `cluster` names, if there is one."""
    if not cluster or not (composed.decodes or composed.trains):
        return composed
    from cineray.launch.cluster_parts import described_parts

    return told_for(composed, described_parts(cluster))


def told_for(composed: Composed, parts: Parts) -> Composed:
    """On which nodes it decodes and trains is said, and how to have it otherwise."""
    if composed.decodes and not parts.decode.value and parts.decode.why:
        words.print(
            f"[yellow]decodes on all nodes[/]: {plain(parts.decode.why)}; to choose: --set {composed.decodes}=...",
            soft_wrap=True,
        )
    _tell_set(composed.decodes, parts.decode, f"for all nodes: --set {composed.decodes}=")
    _tell_set(composed.trains, parts.train, f"on cores: --set {composed.trains}=0")
    return composed.on(parts)


def _tell_set(field: str, part: Part, otherwise: str) -> None:
    if field and part.value:
        told = f"{field}={part.value}"
        words.print(f"for the cluster: --set {plain(told)}, because {plain(part.why)}; {otherwise}", soft_wrap=True)


def tell_what_is_asked(composed: Composed) -> None:
    """What a dry run cannot know, because it asks no cluster."""
    asked = [f"{composed.decodes}, if it has nodes for decoding"] if composed.decodes else []
    asked += [f"{composed.trains}, if its head says that nodes with GPUs train"] if composed.trains else []
    if asked:
        words.print(
            f"the cluster is asked when it is sent: {'; '.join(asked)} (or --cluster names its description)",
            soft_wrap=True,
        )


def check_words(told: tuple[str, ...]) -> None:
    """Read the command line as it will be read there, so that a wrong option is found here."""
    from cineray.cli.main import app

    command = getattr(typer.main.get_command(app), "commands", {}).get(told[0])
    if command is None:
        raise UsageError(f"this cineray has no command `{told[0]}`, so a cluster would not know it either; update it")
    command.make_context(told[0], list(told[1:])).close()


def refuse_secrets_typed(wish: Wish, address: str) -> None:
    """What was typed is refused before anything reads it, for what reads it may repeat it in a complaint."""
    from cineray.launch.references import refuse_values

    typed = {"--set": wish.sets, "an argument": wish.rest, "the job's place": (wish.job,), "--places": (wish.places,)}
    typed |= {"--env": tuple(wish.environment.values()), "--label": (wish.label,), "--address": (address,)}
    typed |= {"--python": (wish.python,), "--only": wish.only, "--code": (wish.code,)}
    refuse_values([(what, text) for what, texts in typed.items() for text in texts], os.environ, wish.secrets)


def refuse_secrets_in(composed: Composed) -> None:
    """Neither words nor files may hold the value of one of this machine's secrets."""
    from cineray.launch.references import refuse_values

    submission = composed.submission
    files = ((f"the file {one.name}", one.data) for one in composed.package.files)
    refuse_values([*submission.texts(), *files], os.environ, submission.secrets)


def tell_what_travels(composed: Composed) -> None:
    """In words: how much, the largest files, what stays here and why."""
    package = composed.package
    largest = ", ".join(f"{plain(one.name)} {bytes_text(one.size_bytes)}" for one in package.largest())
    travels = f"{bytes_text(package.size_bytes)} in {len(package.files):,} files travel"
    words.print(f"{travels}; the largest: {largest or '-'}", soft_wrap=True)
    for why, names in sorted(package.left_out.items()):
        shown = ", ".join(map(plain, names[:_NAMES_SHOWN])) + (", ..." if len(names) > _NAMES_SHOWN else "")
        words.print(f"{len(names):,} stay here ({why}): {shown}", soft_wrap=True)
    for field in composed.added:
        words.print(f"for the cluster: --set {plain(field)}", soft_wrap=True)


def _facts(composed: Composed) -> dict[str, Any]:
    submission, package = composed.submission, composed.package
    return {
        "submission_id": submission.id_of(1),
        "command": " ".join(("cineray", *submission.words, *(f"--set {one}" for one in submission.of_cluster))),
        "run": submission.run or None,
        "package_bytes": package.size_bytes,
        "package_files": len(package.files),
        "left_out": {why: len(names) for why, names in package.left_out.items()},
        "secrets": [str(secret) for secret in submission.secrets],
    }


def _tell_sent(sent: Sent, cluster: Cluster) -> None:
    said = {
        "sent": f"sent as {sent.submission_id}",
        "attached": f"{sent.submission_id} is at work already; nothing was sent",
        "finished": f"{sent.submission_id} has succeeded already; nothing was sent. Its label or content makes another",
    }[sent.how]
    if sent.before:
        goes_on = "looks again at what lies there now" if sent.before == "SUCCEEDED" else "goes on"
        said += f", attempt {sent.attempt}: the one before it ended as {sent.before}, and this one {goes_on}"
    words.print(said, soft_wrap=True)
    if sent.how != "finished":
        for verb in ("logs --follow", "status", "stop"):
            words.print(f"  cineray jobs {verb} {sent.submission_id} --address {cluster.address}", soft_wrap=True)


def show_to_its_end(cluster: Cluster, submission_id: str, facts: Mapping[str, Any], *, as_json: bool | None) -> None:
    """Logs to stderr as they come, the result to stdout, and the job's exit code."""
    from cineray.launch.follow import follow, wait_for_end
    from cineray.launch.outcome import LogEnd, exit_code

    end = LogEnd()
    with left_alone(submission_id, cluster.address):
        for piece in follow(cluster, submission_id, _say):
            end.add(piece)
            _write(piece)
        job = wait_for_end(cluster, submission_id, seconds=60.0)
    code, result = exit_code(job), end.result() if job.status == "SUCCEEDED" else {}
    seconds = round((job.ended or time.time()) - job.started, 1) if job.started else None
    told = {**facts, "status": job.status, "exit_code": code, "seconds": seconds, "verdict": result.get("verdict")}
    told["result"] = result
    show(told, as_json=as_json, table=[_end_table(told)])
    if code:
        if job.status == "FAILED" and job.exit_code is None:
            words.print(visible(job.message), markup=False, soft_wrap=True)  # it never came to print anything itself
        raise typer.Exit(code)


def _end_table(told: Mapping[str, Any]) -> Table:
    names = ("submission_id", "run", "status", "exit_code", "seconds", "verdict")
    shown = {name: told[name] for name in names if told.get(name) is not None}
    result = told["result"]
    shown |= {name: result[name] for name in _SHOWN_OF_RESULTS if isinstance(result.get(name), str | int)}
    return facts_table(shown)


@contextmanager
def left_alone(submission_id: str, address: str) -> Iterator[None]:
    """Ctrl-C ends the following and not the job; that is said."""
    try:
        yield
    except KeyboardInterrupt:
        words.print(
            f"the job goes on; to stop it: cineray jobs stop {submission_id} --address {address}", soft_wrap=True
        )
        raise


def _say(text: str) -> None:
    words.print(visible(text), markup=False, soft_wrap=True)


def _write(piece: str) -> None:
    sys.stderr.write(visible(piece.expandtabs(1)))
    sys.stderr.flush()
