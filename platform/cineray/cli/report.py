"""`cineray report PATH`: one HTML page of a lake, a run, a batch, an evaluation, a comparison, a pipeline check or a
sweep.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import typer

from cineray.cli.output import JSON, bytes_text, facts_table, show
from cineray.report import write_report


def report_command(
    path: str = typer.Argument(
        help="A lake, a run's folder, a batch's folder, an evaluation, a comparison, a pipeline check or a sweep."
    ),
    out: str = typer.Option("", help="The file. Default: in this folder, under the name of what it is of."),
    version: str = typer.Option("latest", "--version", "-v", help="Of a lake: a number, a name, `latest`."),
    clips: int = typer.Option(24, min=0, help="Show at most so many clips."),
    limit_mb: float = typer.Option(24.0, min=0, help="Pictures and clips in the page: at most so many megabytes."),
    as_json: bool | None = JSON,
) -> None:
    """Make one self-contained HTML page: it opens from disk, without a network, also on a phone."""
    made = write_report(path, out, version=version, clips=clips, limit_bytes=round(limit_mb * 1e6))
    facts = {"report": made.path} | {k: v for k, v in dataclasses.asdict(made).items() if k != "path"}
    shown: dict[str, Any] = {
        "report": made.path,
        "of": f"{made.kind}: {made.title}",
        "size": bytes_text(made.size_bytes),
    }
    shown |= {"pictures and clips": made.inlined, "left out": len(made.left_out) or None}
    show(facts, as_json=as_json, table=[facts_table({k: v for k, v in shown.items() if v is not None})])
