"""`cineray ingest SOURCE --lake LAKE`: options become an `IngestConfig`; the report becomes a table or JSON."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table

from cineray.cli.output import JSON, bytes_text, facts_table, plain, show, words
from cineray.cli.progress import ingest_progress
from cineray.config import check
from cineray.errors import UsageError
from cineray.ingest import EngineConfig, IngestConfig, IngestReport, check_limit, ingest

SHOWN_REJECTS = 20


def ingest_command(
    source: str = typer.Argument(help="A folder, tar shards, a .lance table or a manifest; local or remote."),
    lake: str = typer.Option(..., "--lake", "-l", help="The lake's folder or object-store prefix; made if absent."),
    kind: str = typer.Option("auto", help="auto, folder, webdataset, lance or manifest."),
    level: str = typer.Option("packets", help="How far each video is checked: header, packets or decode."),
    identity: str = typer.Option("auto", "--hash", help="auto, full (all bytes) or header (of remote MP4 and MOV)."),
    remux: str = typer.Option("auto", help="auto: containers without exact seeks are remuxed losslessly; never."),
    split: list[str] = typer.Option([], help="A split's share, such as train=0.9; repeat, to sum to 1."),
    group_by: str = typer.Option("video", help="What never lies in two splits: video, column:NAME or path:REGEX."),
    salt: str = typer.Option("cineray", help="Another salt divides the groups differently."),
    ignore_given_splits: bool = typer.Option(False, help="Divide all videos by hash, whatever the source says."),
    max_reject_fraction: float = typer.Option(0.1, help="More rejects than this share ends with exit code 3."),
    seconds_per_video: float = typer.Option(120.0, help="A video that takes longer to check is rejected."),
    memory_per_video: int = typer.Option(2 << 30, help="Bytes of memory that checking one video may take."),
    allow_host: list[str] = typer.Option([], help="A loopback or private host that https places may name; repeat."),
    engine: str = typer.Option("auto", help="auto, local (this process) or ray."),
    workers: int = typer.Option(0, help="Videos checked at once; 0 is one per core."),
    address: str = typer.Option("", help="A Ray cluster's address; without it Ray is embedded."),
    name: str = typer.Option("", help="Also give the version this name."),
    message: str = typer.Option("", "--message", "-m", help="A sentence for the log."),
    as_json: bool | None = JSON,
) -> None:
    """Index what is new or changed in SOURCE, validate it, split it, and make a version of the lake."""
    splits: dict[str, Any] = {"salt": salt, "group_by": group_by, "given": "ignore" if ignore_given_splits else "keep"}
    if split:
        splits["fractions"] = _fractions(split)
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
    check_limit(report)


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
        "unchanged": facts["unchanged"],
        "same bytes again": facts["duplicates"],
        "remuxed": facts["remuxed"],
        "rejected": report.summary.rejected,
        "taken up from a killed run": facts["resumed"],
        "read": f"{bytes_text(facts['bytes_read'])} in {report.seconds:.1f} s, {rate:,.0f} videos/s",
    }
    optional = ("same bytes again", "remuxed", "taken up from a killed run")
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
