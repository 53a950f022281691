"""`cineray ingest SOURCE --lake LAKE`: options become an `IngestConfig`; the report becomes a table or JSON."""

from __future__ import annotations

from typing import Any, Literal

import typer
from rich.table import Table

from cineray.cli.output import JSON, bytes_text, facts_table, plain, show, words
from cineray.cli.progress import ingest_progress, per_second
from cineray.config import check
from cineray.errors import UsageError
from cineray.ingest import EngineConfig, IngestConfig, IngestReport, check_limit, ingest

SHOWN_REJECTS = 20
Kind = Literal["auto", "folder", "webdataset", "lance", "manifest"]
Level = Literal["header", "packets", "decode"]
Hash = Literal["auto", "full", "header"]
Remux = Literal["auto", "never"]
Engine = Literal["auto", "local", "ray"]


def ingest_command(
    source: str = typer.Argument(help="A folder, tar shards, a .lance table or a manifest; local or remote."),
    lake: str = typer.Option(..., "--lake", "-l", help="The lake's folder or object-store prefix; made if absent."),
    kind: Kind = typer.Option("auto", help="What SOURCE is; auto looks."),
    level: Level = typer.Option("packets", help="How far each video is checked."),
    identity: Hash = typer.Option(
        "auto", "--hash", help="Of all bytes, or of size and header; auto: header of remote MP4."
    ),
    remux: Remux = typer.Option("auto", help="auto: containers without exact seeks are remuxed losslessly."),
    split: list[str] = typer.Option([], metavar="NAME=SHARE", help="A split's share; repeat. Default: the lake's."),
    group_by: str = typer.Option("", help="One split each: video, column:NAME or path:REGEX. Default: the lake's."),
    salt: str = typer.Option("", help="Another salt divides differently. Default: the lake's."),
    change_split_rule: bool = typer.Option(False, "--change-split-rule", help="Let another rule hold for new groups."),
    ignore_given_splits: bool = typer.Option(
        False, "--ignore-given-splits", help="Divide by hash, whatever SOURCE says."
    ),
    max_reject_fraction: float = typer.Option(0.1, help="More rejects than this share ends with exit code 3."),
    seconds_per_video: float = typer.Option(120.0, help="A video that takes longer to check is rejected."),
    memory_per_video: int = typer.Option(2 << 30, help="Bytes of memory that checking one video may take."),
    allow_host: list[str] = typer.Option([], metavar="HOST", help="A loopback or private host to allow; repeat."),
    engine: Engine = typer.Option("auto", help="Where it runs; auto: few videos in this process, many on Ray."),
    workers: int = typer.Option(0, help="Videos checked at once; 0 is one per core."),
    address: str = typer.Option("", help="A Ray cluster's address; without it Ray is embedded."),
    name: str = typer.Option("", help="Also give the version this name."),
    message: str = typer.Option("", "--message", "-m", help="A sentence for the log."),
    as_json: bool | None = JSON,
) -> None:
    """Index what is new or changed in SOURCE, validate it, split it, and make a version of the lake."""
    splits: dict[str, Any] = {
        "fractions": _fractions(split) if split else None,
        "salt": salt or None,
        "group_by": group_by or None,
        "given": "ignore" if ignore_given_splits else "keep",
        "change": change_split_rule,
    }
    config = check(
        IngestConfig,
        {
            "source": source,
            "lake": lake,
            "kind": kind,
            "level": level,
            "hash": identity,
            "remux": remux,
            "splits": splits,
            "max_reject_fraction": max_reject_fraction,
            "seconds_per_video": seconds_per_video,
            "memory_per_video": memory_per_video,
            "allow_hosts": allow_host,
        },
    )
    where = check(EngineConfig, {"engine": engine, "workers": workers, "address": address})
    with ingest_progress() as on_progress:
        report = ingest(config, where, on_progress=on_progress, message=message)
    if name:
        name_version(config.lake, name, report.version.number)
    facts = report.to_dict() | {"name": name or None}
    show(facts, as_json=as_json, table=report_tables(report))
    say_what_was_passed_over(report)
    check_limit(report)


def say_what_was_passed_over(report: IngestReport) -> None:
    """Files that are no videos by their names are left out without a reject; where there is nothing else, say so."""
    passed = ", ".join(f"{'.' + e if e else 'without extension'} {n:,}" for e, n in report.passed_over.items())
    if passed:
        words.print(f"files that are no videos by their names: {plain(passed)}")
    if not report.summary.done and not report.unchanged:
        words.print("[yellow]no videos were found[/] in the source")


def name_version(lake: str, name: str, number: int) -> None:
    """Point a name at a version, moving it if it points elsewhere: `--name` says that this is now what it means."""
    from cineray.lake import Lake

    Lake.open(lake).set_name(name, number, move=True)


def report_tables(report: IngestReport) -> list[Table]:
    """What a person wants to know of an ingest."""
    facts = report.to_dict()
    rejects = report.summary.rejects
    rate = report.summary.done / report.seconds if report.seconds else 0.0
    shown = {
        "version": f"{facts['version']}  ({facts['fingerprint'][:12]})",
        "videos": facts["videos"],
        "added": facts["added"],
        "removed": facts["removed"],
        "unchanged": facts["unchanged"],
        "same bytes again": facts["duplicates"],
        "remuxed": facts["remuxed"],
        "rejected": report.summary.rejected,
        "taken up from a killed run": facts["resumed"],
        "read": f"{bytes_text(facts['bytes_read'])} in {report.seconds:.1f} s, {per_second(rate, 'videos')}",
    }
    optional = ("removed", "same bytes again", "remuxed", "taken up from a killed run")
    tables = [facts_table({k: v for k, v in shown.items() if v or k not in optional})]
    if rejects:
        table = Table(
            title=f"\n{report.summary.rejected} rejected", title_justify="left", box=None, header_style="bold"
        )
        table.add_column("reason", style="red", no_wrap=True)
        table.add_column("video", overflow="fold")
        table.add_column("why", overflow="fold")
        for reject in rejects[:SHOWN_REJECTS]:
            table.add_row(plain(reject["reason"]), plain(reject["name"]), plain(reject["detail"]))
        tables.append(table)
        if len(rejects) > SHOWN_REJECTS:
            words.print(
                f"... and {report.summary.rejected - SHOWN_REJECTS} more rejects; see the version's media table"
            )
    return tables


def _fractions(given: list[str]) -> dict[str, float]:
    fractions = {}
    for item in ",".join(given).split(","):
        name, sign, share = item.partition("=")
        try:
            fractions[name.strip()] = float(share)
        except ValueError:
            sign = ""
        if not sign or not name.strip():
            raise UsageError(f"--split got {item!r}; it wants NAME=SHARE, such as --split train=0.9 --split test=0.1")
    return fractions
