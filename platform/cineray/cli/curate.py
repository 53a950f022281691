"""`cineray curate JOB` and `cineray lake explain LAKE VIDEO`: what was left out, and why; tables or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.table import Table

from cineray.cli.output import JSON, bytes_text, facts_table, plain, show, words
from cineray.cli.progress import counted_progress
from cineray.config import check, load_job
from cineray.errors import UsageError

if TYPE_CHECKING:
    from cineray.curate import CurateJob, CurateReport

SHOWN_UNREADABLE = 20
SHOWN_SPANS = 6
LONGEST_TEXT = 60
Engine = Literal["auto", "local", "ray"]


def curate_command(
    job: str = typer.Argument(help="A Python file with a function job() that returns a CurateJob, or its YAML."),
    sets: list[str] = typer.Option([], "--set", help="Replace a field: --set cuts.shortest_seconds=2; repeat."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Measure, and say what each rule removes; make no version."),
    sheets: Path | None = typer.Option(None, help="A folder for contact sheets of the clips at each rule's edge."),
    engine: Engine = typer.Option("auto", help="Where it runs; auto: few videos in this process, many on Ray."),
    workers: int = typer.Option(0, help="Videos looked at at once; 0 is one per core."),
    address: str = typer.Option("", help="A Ray cluster's address; without it Ray is embedded."),
    gpus: float = typer.Option(0.0, help="GPUs of each actor that runs the job's networks; 0 runs them on CPUs."),
    actors: int = typer.Option(1, help="On Ray: how many run networks side by side."),
    name: str = typer.Option("", help="Also give the version this name."),
    message: str = typer.Option("", "--message", "-m", help="A sentence for the log."),
    as_json: bool | None = JSON,
) -> None:
    """Measure a lake's videos, cut them into scenes, leave out what rules name, and make a version of what is left."""
    from cineray.curate import CURATE_KINDS, CurateEngine, CurateJob, check_limit, curate
    from cineray.ingest import whoami

    if name and dry_run:
        raise UsageError("--name and --dry-run are both given; a dry run makes no version that could have a name")
    told = load_job(job, CURATE_KINDS, sets)
    if not isinstance(told, CurateJob):
        raise UsageError(f"{job} is a {type(told).__name__}; wanted a job() that returns a CurateJob")
    where = check(
        CurateEngine, {"engine": engine, "workers": workers, "address": address, "gpus": gpus, "actors": actors}
    )
    with counted_progress("videos") as tell:
        report = curate(
            told,
            where,
            author=whoami(),
            dry_run=dry_run,
            message=message,
            on_progress=lambda progress: tell(progress.stage, progress.done, progress.total),
        )
    if name:
        from cineray.cli.ingest import name_version

        name_version(told.lake, name, report.version.number)
    drawn = _sheets(report, told, sheets) if sheets else []
    facts = report.to_dict() | {"job": told.name, "name": name or None, "sheets": drawn}
    show(facts, as_json=as_json, table=curate_tables(report))
    if dry_run:
        words.print("this was a dry run: no version was made; what was measured is kept for the next run")
    check_limit(report)


def _sheets(report: CurateReport, job: CurateJob, folder: Path) -> list[str]:
    from cineray.curate.sheets import write_sheets

    drawn = [str(path) for path in write_sheets(report, job, folder)]
    many = "1 contact sheet" if len(drawn) == 1 else f"{len(drawn)} contact sheets"
    words.print(plain(f"{many} of what is at the edge: {folder}"))
    return drawn


def curate_tables(report: CurateReport) -> list[Table]:
    """What a person wants to know of a curation."""
    shown = {
        "of version" if report.dry_run else "version": f"{report.version.number}  ({report.version.fingerprint[:12]})",
        "videos": _looked_at(report),
        "clips": f"{report.clips:,} (there were {report.clips_before:,})",
        "left out": f"{report.left_out:,}",
        "length": f"{_length(report.seconds_kept)} of {_length(report.seconds_of_clips)}",
        "sets of duplicates": report.duplicate_sets,
        "moved to another split": len(report.moved),
        "wait for the next run": report.waiting,
        "took": f"{report.seconds:,.1f} s",
    }
    optional = ("left out", "sets of duplicates", "moved to another split", "wait for the next run")
    tables = [facts_table({key: value for key, value in shown.items() if value not in (0, "0") or key not in optional})]
    tables.append(_rules_table(report))
    if report.unreadable:
        tables.append(_unreadable_table(report))
    return tables


def _rules_table(report: CurateReport) -> Table:
    table = Table(title="\nleft out by", title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("rule", no_wrap=True)
    for column in ("alone", "together", "only it", "length"):
        table.add_column(column, justify="right")
    table.add_column("when", overflow="fold")
    for rule in report.rules:
        numbers = (f"{rule.alone:,}", f"{rule.first:,}", f"{rule.only:,}", _length(rule.seconds))
        table.add_row(plain(rule.name), *numbers, plain(rule.told))
    table.add_row("all", "", f"{report.left_out:,}", "", _length(sum(rule.seconds for rule in report.rules)), "")
    return table


def _looked_at(report: CurateReport) -> str:
    known = report.videos - report.looked_at
    if not report.looked_at:
        return f"{report.videos:,}, of which all was known"
    return f"{report.videos:,}, all looked at" if known <= 0 else f"{report.videos:,}, of which {known:,} were known"


def _length(seconds: float) -> str:
    """In the unit that fits: 0.7 s, 12.5 min, 30.2 h."""
    for unit, size, most in (("s", 1, 120), ("min", 60, 7200)):
        if seconds < most:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds / 3600:,.1f} h"


def _unreadable_table(report: CurateReport) -> Table:
    table = Table(title=f"\n{report.unreadable} unreadable", title_justify="left", box=None, header_style="bold")
    for column in ("reason", "video", "why"):
        table.add_column(column, overflow="fold", no_wrap=column == "reason")
    for one in report.unreadable_named[:SHOWN_UNREADABLE]:
        table.add_row(plain(one["reason"]), plain(one["video"]), plain(one["detail"]))
    return table


def explain_command(
    lake: str = typer.Argument(help="The lake's folder or object-store prefix."),
    video: str = typer.Argument(help="Its id (8 digits are enough), its uri, its name, or the end of either."),
    version: str = typer.Option("latest", "--version", "-v", help="A number, a name, or a fingerprint's start."),
    as_json: bool | None = JSON,
) -> None:
    """All that is known of one video, and what became of it. Reads tables only, never the video."""
    from cineray.curate.explain import explain
    from cineray.lake import Lake

    opened = Lake.open(lake)
    facts = explain(opened, opened.resolve(version), video)
    show(facts, as_json=as_json, table=explain_tables(facts))


def explain_tables(facts: dict[str, Any]) -> list[Table]:
    """What a person wants to know of a video."""
    from cineray.curate.explain import place_text

    media = facts["media"]
    shown = {
        "video": facts["video_id"],
        "became": facts["became"],
        "why": facts["detail"],
        "places": [place_text(place) for place in facts["places"]],
        "video stream": f"{media.get('codec')} {media.get('width')} x {media.get('height')}"
        if media.get("codec")
        else "",
        "frames": media.get("num_frames"),
        "seconds": media.get("duration_seconds"),
        "label": facts["label"],
        "captions": [*facts["captions"], *dict.fromkeys(one["caption"] for one in facts["annotated"])],
        "columns": facts["columns"],
        "copies": [f"{one['place']}{', kept' * one['kept']}" for one in facts["copies"].get("videos", ())],
        "encoded": _encoded_text(facts["encoding"]),
        "layers": facts["layers"],
    }
    tables = [facts_table({key: value for key, value in shown.items() if value not in (None, "", [], {})})]
    rows = [{**one, "what": f"clip in {one['split']}"} for one in facts["clips"]]
    rows += [{**one, "what": f"left out: {one['rule']}"} for one in facts["left_out"]]
    if rows:
        tables.append(_spans_table(rows))
    if facts["quality"]:
        tables.append(_measured_table(facts["quality"]))
    spans = {name: _spans_text(found) for name, found in facts["spans"].items() if found}
    return [*tables, *([facts_table(spans, "\nwhen, in seconds")] if spans else [])]


def _encoded_text(told: Mapping[str, Any]) -> str:
    """What standardising made of it."""
    if not told:
        return ""
    sizes = " from ".join(bytes_text(told[name]) for name in ("bytes_after", "bytes_before"))
    return f"{told['psnr_db']:.1f} dB, {sizes}"


def _measured_table(quality: Mapping[str, Any]) -> Table:
    """By the names that rules use; what could not be known is one line, and a signature is for machines."""
    table = Table(title="\nmeasured", title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    told = {name: value for name, value in quality.items() if value is not None and not _is_long(value)}
    for name, value in told.items():
        table.add_row(plain(name), plain(value))
    if unknown := [name for name, value in quality.items() if value is None]:
        table.add_row("not known", plain(unknown))
    return table


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and len(value) > LONGEST_TEXT


def _spans_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="\nclips", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in ("from", "to", "what", "because", "figures"):
        table.add_column(column, overflow="fold", justify="right" if column in ("from", "to") else "left")
    for row in sorted(rows, key=lambda row: row["start_pts"]):
        seconds = [f"{row[name]:.3f}" for name in ("start_seconds", "end_seconds")]
        table.add_row(*seconds, plain(row["what"]), plain(row.get("because") or ""), plain(_figures(row)))
    return table


def _figures(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a rule looked at; of a copy, which one is kept instead."""
    kept = {"kept": str(row["kept"])[:12]} if row.get("kept") else {}
    return {**(row.get("figures") or {}), **kept}


def _spans_text(spans: list[dict[str, Any]]) -> str:
    told = [f"{one['start_seconds']:.3f} to {one['end_seconds']:.3f}" for one in spans[:SHOWN_SPANS]]
    return ", ".join(told) + (f" and {len(spans) - SHOWN_SPANS} more" if len(spans) > SHOWN_SPANS else "")
