"""`cineray demo`: from nothing to a version: small videos are made, ingested and shown. What `make demo` runs."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import typer

from cineray.cli.ingest import report_tables
from cineray.cli.lake import version_tables
from cineray.cli.output import JSON, show, words
from cineray.cli.progress import ingest_progress
from cineray.errors import UsageError
from cineray.ingest import IngestConfig, ingest
from cineray.lake import Lake

MARKER = ".cineray-demo"


def demo(
    out: Path = typer.Option(Path("demo-out"), help="Where the videos and the lake go; made anew each time."),
    videos: int = typer.Option(24, min=4, help="How many videos of moving shapes to make."),
    as_json: bool | None = JSON,
) -> None:
    """Make a few videos of moving shapes, ingest them, and show the version that comes of it."""
    from cineray.testing import broken_videos, make_shapes

    folder = fresh_folder(out)
    began = time.monotonic()
    made = make_shapes(folder / "videos", videos=videos)
    broken = broken_videos(folder / "videos")
    words.print(
        f"made {len(made)} videos of moving shapes and {len(broken)} broken files in {folder / 'videos'} "
        f"({time.monotonic() - began:.1f} s)"
    )
    config = IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake"), max_reject_fraction=0.5)
    with ingest_progress() as on_progress:
        report = ingest(config, on_progress=on_progress, message="the demo's moving shapes")
    shown = Lake.open(config.lake).show(report.version)
    tables = [*report_tables(report), *version_tables(shown, title="\nthe version that it made")]
    show({"ingest": report.to_dict(), "version": shown, "lake": config.lake}, as_json=as_json, table=tables)
    words.print(
        f"\nlook closer:\n  cineray lake query {config.lake} --columns label,captions,num_frames,variable_rate\n"
        f"  cineray lake verify {config.lake} --media hash\n  cineray lake log {config.lake}",
        markup=False,
        soft_wrap=True,
    )


def fresh_folder(out: Path) -> Path:
    """An empty folder for the demo; one that the demo made before is emptied, anything else is left alone."""
    if out.exists() and any(out.iterdir()):
        if not (out / MARKER).exists():
            raise UsageError(f"--out {out} is not empty and was not made by the demo; name another folder")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text("made by `cineray demo`, which empties this folder when it is run again\n")
    return out
