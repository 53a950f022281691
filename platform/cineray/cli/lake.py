"""`cineray lake ...`: look at a lake's versions, name them, ask them, check them, and take them elsewhere."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from cineray.cli.output import JSON, bytes_text, facts_table, plain, show, show_lines, words
from cineray.errors import UsageError
from cineray.ingest import whoami
from cineray.lake import Lake, unpack_text
from cineray.telemetry.typed import typed

app = typer.Typer(
    help="Look at a lake's versions, name them, ask them, check them, take them elsewhere.", no_args_is_help=True
)

LAKE = typer.Argument(help="The lake's folder or object-store prefix.")
REF = typer.Option("latest", "--version", "-v", help="A number, a name, `latest`, or the start of a fingerprint.")


@app.command("log")
def log_command(
    lake: str = LAKE, limit: int = typer.Option(50, help="At most so many."), as_json: bool | None = JSON
) -> None:
    """Every version, newest first: who made it, when, by which command, and what it added."""
    rows = [row for row, _ in zip(Lake.open(lake).log(), range(limit), strict=False)]
    columns = ["version", "parent", "created_at", "author", "videos", "rejected", "tags", "command"]
    show_lines([_readable(row) for row in rows] if _for_people(as_json) else rows, as_json=as_json, columns=columns)


@app.command("show")
def show_command(lake: str = LAKE, version: str = REF, as_json: bool | None = JSON) -> None:
    """One version: what it holds, what made it, and its fingerprint."""
    facts = Lake.open(lake).show(version)
    show(facts, as_json=as_json, table=version_tables(facts))


@app.command("diff")
def diff_command(
    lake: str = LAKE,
    a: str = typer.Argument(help="The earlier version."),
    b: str = typer.Argument("latest", help="The later version."),
    limit: int = typer.Option(20, help="Name at most so many rows of each kind."),
    as_json: bool | None = JSON,
) -> None:
    """What changed between two versions: rows added, removed and changed in each table, and the splits."""
    found = Lake.open(lake).diff(a, b, limit=limit)
    table = Table(box=None, header_style="bold", title=f"version {found.a} -> {found.b}", title_justify="left")
    for column in ("table", "added", "removed", "changed", "such as"):
        table.add_column(column, overflow="fold")
    for name, change in found.tables.items():
        keys = [*change.added_keys, *change.removed_keys, *change.changed_keys][:3]
        table.add_row(name, *(plain(n) for n in (change.added, change.removed, change.changed)), plain(keys))
    facts = {"same data": found.same_data, "splits": {k: f"{a} -> {b}" for k, (a, b) in found.splits.items()}}
    show(found.to_json(), as_json=as_json, table=[table, facts_table(facts)])


@app.command("tag")
def tag_command(
    lake: str = LAKE,
    name: str = typer.Argument("", help="The name; without it, all names are listed."),
    version: str = REF,
    move: bool = typer.Option(False, "--move", help="Let a name that points elsewhere point here."),
    remove: bool = typer.Option(False, "--remove", help="Take the name away; the version stays."),
    as_json: bool | None = JSON,
) -> None:
    """Give a version a name (`train-2026-11`), move or remove one, or list them all."""
    opened = Lake.open(lake)
    if remove and move:
        raise UsageError("--remove and --move are both given; a name is either taken away or moved")
    if remove and not name:
        raise UsageError("--remove wants the name to remove: cineray lake tag LAKE NAME --remove")
    if remove:
        opened.remove_name(name, author=whoami())
    elif name:
        opened.set_name(name, version, move=move, author=whoami())
    rows = [{"name": key, "version": number} for key, number in sorted(opened.names().items())]
    show_lines(rows, as_json=as_json, columns=["name", "version"])


@app.command("query")
def query_command(
    lake: str = LAKE,
    filter: str = typer.Option("", "--filter", "-f", help="SQL: \"codec = 'h264' AND motion_speed > 0.1\"."),
    columns: str = typer.Option("", "--columns", "-c", help="Columns, separated by commas."),
    table: str = typer.Option("media", "--from", help="The table: media, places, clips or layers/NAME."),
    limit: int = typer.Option(20, help="At most so many rows; 0 for all."),
    version: str = REF,
    as_json: bool | None = JSON,
) -> None:
    """Rows that match an SQL filter. Reads tables only, never a video."""
    wanted = wanted_by_name(columns) or _usual_columns(table, as_json)
    found = Lake.open(lake).query(version, filter or None, wanted, limit or None, table)
    rows = [{k: _printable(v) for k, v in row.items()} for batch in found.to_batches() for row in batch.to_pylist()]
    names = found.column_names
    if not wanted_by_name(columns) and _for_people(as_json) and table == "media":
        rows, names = (
            [_short(row) for row in rows],
            ["video", "file", "state", "codec", "size", "num_frames", "seconds", "label"],
        )
    show_lines(rows, as_json=as_json, columns=names)
    words.print(
        f"{found.num_rows} row{'' if found.num_rows == 1 else 's'}"
        + (f" (limited to {limit})" if limit and found.num_rows == limit else "")
    )


@app.command("verify")
def verify_command(
    lake: str = LAKE,
    version: str = REF,
    media: str = typer.Option("stat", help="none, stat (sizes and tags of every place) or hash (every byte)."),
    as_json: bool | None = JSON,
) -> None:
    """Check that all that a version names exists and hashes right. Exit code 1 when something does not."""
    report = Lake.open(lake).verify(version, media=media)
    problems = [{"what": p.what, "reason": p.reason, "detail": p.detail} for p in report.problems]
    facts = {"version": report.version, "ok": report.ok, "checked": report.checked, "notes": list(report.notes)}
    tables = [facts_table(facts)]
    if problems:
        table = Table(box=None, header_style="bold")
        for column in ("reason", "what", "detail"):
            table.add_column(column, overflow="fold")
        for problem in problems:
            table.add_row(*(plain(problem[column]) for column in ("reason", "what", "detail")))
        tables.append(table)
    show(facts | {"problems": problems}, as_json=as_json, table=tables)
    raise typer.Exit(0 if report.ok else 1)


@app.command("gc")
def gc_command(
    lake: str = LAKE,
    delete: bool = typer.Option(False, "--delete", help="Remove it; without this, only say what would be removed."),
    older_than_hours: float = typer.Option(168.0, help="Leave alone what is younger."),
    as_json: bool | None = JSON,
) -> None:
    """Find (and with --delete remove) what no version, name or running reader needs."""
    report = Lake.open(lake).gc(dry_run=not delete, older_than_seconds=older_than_hours * 3600)
    rows = [(g.kind, bytes_text(g.size_bytes), g.uri, g.reason) for g in report.garbage]
    table = Table(box=None, header_style="bold")
    for column in ("kind", "size", "what", "why"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    done = "removed" if delete else "would remove"
    facts = {done: f"{len(rows)} things, {bytes_text(report.size_bytes)}", "versions kept": len(report.kept_versions)}
    facts |= {"held by": list(report.held_by)} if report.held_by else {}
    show(report.to_json(), as_json=as_json, table=[*([table] if rows else []), facts_table(facts)])


@app.command("retire")
def retire_command(lake: str = LAKE, version: str = typer.Argument(help="The version to let go of.")) -> None:
    """Let go of a version: it stays in the log, and gc may remove what only it needs."""
    Lake.open(lake).retire(version)
    words.print(f"version {version} is retired; `cineray lake gc {shlex.quote(lake)}` shows what that frees")


@app.command("export")
def export_command(
    lake: str = LAKE,
    out: str = typer.Argument(help="Where the Parquet files go."),
    version: str = REF,
    as_json: bool | None = JSON,
) -> None:
    """A version as Parquet files and its manifest, readable without cineray."""
    written = Lake.open(lake).export(version, out)
    show({"out": out, "files": written}, as_json=as_json)


@app.command("import")
def import_command(
    lake: str = LAKE,
    source: str = typer.Argument(help="An export."),
    replace: bool = typer.Option(False, "--replace", help="Let it replace what the lake's latest version holds."),
    as_json: bool | None = JSON,
) -> None:
    """An export as the next version of a lake, which is made if absent: the same rows, the same fingerprint."""
    made = Lake.open_or_create(lake).import_(source, author=whoami(), replace=replace)
    show({"version": made.number, "fingerprint": made.fingerprint, "counts": dict(made.counts)}, as_json=as_json)


@app.command("annotate")
def annotate_command(
    lake: str = LAKE,
    layer: str = typer.Argument(help="The layer's name: captions, boxes, masks, audio, events, scores, or your own."),
    rows: Path = typer.Argument(
        help="JSONL, CSV or Parquet: video_id or uri, value; and start_pts, end_pts, frame, clip_id."
    ),
    author: str = typer.Option("", help="Who or what made these annotations; the user by default."),
    message: str = typer.Option("", "--message", "-m", help="A sentence for the log."),
    as_json: bool | None = JSON,
) -> None:
    """Add rows to an annotation layer, as a new version. Media is never rewritten."""
    from cineray.ingest import annotate

    made = annotate(Lake.open(lake), layer, rows, author=author or whoami(), command=typed(), message=message)
    show(
        {"version": made.number, "fingerprint": made.fingerprint, "rows": made.counts[f"layers/{layer}"]},
        as_json=as_json,
    )


def version_tables(facts: dict[str, Any], title: str = "") -> list[Table]:
    """What a person wants to know of a version."""
    shown = {
        "version": f"{facts['version']}  ({facts['fingerprint'][:12]})",
        "names": facts["tags"],
        "made": f"{facts['created_at'][:19].replace('T', ' ')} UTC by {facts['author']}",
        "source": facts["source"],
        "videos": f"{facts['videos']:,}",
        "length": f"{facts['frames']:,} frames, {facts['hours'] * 60:,.1f} minutes, {bytes_text(facts['bytes'])}",
        "codecs": facts["codecs"],
        "clips per split": facts["splits"],
        "layers": facts["layers"],
        "rejected": facts["rejected"],
    }
    return [facts_table({key: value for key, value in shown.items() if value not in ({}, [], "")}, title)]


def _usual_columns(table: str, as_json: bool | None) -> list[str] | None:
    if not _for_people(as_json) or table != "media":
        return None
    return ["video_id", "state", "uri", "codec", "width", "height", "num_frames", "duration_seconds", "label", "reason"]


def wanted_by_name(columns: str) -> list[str]:
    """The columns that a person asked for."""
    return [name.strip() for name in columns.split(",") if name.strip()]


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A media row in the width of a terminal: ids by their start, places by their last two parts."""
    ready = row["state"] == "ready"
    return {
        "video": row["video_id"].removeprefix("rejected-")[:12],
        "file": (row["uri"] or "").rsplit("/", 1)[-1],
        "state": row["state"] if ready else row["reason"],
        "codec": row["codec"],
        "size": f"{row['width']}x{row['height']}" if ready else None,
        "num_frames": row["num_frames"],
        "seconds": row["duration_seconds"],
        "label": row["label"],
    }


def _for_people(as_json: bool | None) -> bool:
    return sys.stdout.isatty() if as_json is None else not as_json


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    program, _, rest = row["command"].partition(" ")
    return row | {"created_at": row["created_at"][:16].replace("T", " "), "command": f"{Path(program).name} {rest}"}


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return unpack_text(value)
    return value.hex() if isinstance(value, bytes) else value
