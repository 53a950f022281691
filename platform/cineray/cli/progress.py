"""The live line of long work on a terminal: speed, time left, rejects. Silent where nobody is watching."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cineray.cli.output import words
from cineray.ingest import Progress as IngestProgress


@contextmanager
def ingest_progress() -> Iterator[Callable[[IngestProgress], None]]:
    """Gives the function that an ingest tells its progress to."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[red]{task.fields[rejects]}[/]"),
    )
    with Progress(*columns, console=words, transient=True) as bar:
        line = bar.add_task("listing", total=None, rate="", rejects="")

        def tell(progress: IngestProgress) -> None:
            done = progress.done
            elapsed = bar.tasks[line].elapsed or 0.0
            bar.update(
                line,
                description=progress.stage,
                total=progress.total,
                completed=done.done,
                rate=per_second(done.done / elapsed, "videos") if elapsed > 0 else "",
                rejects=f"{done.rejected} rejected" if done.rejected else "",
            )

        yield tell


def per_second(rate: float, noun: str) -> str:
    """`351 videos/s`, `0.4 videos/s`."""
    return f"{rate:,.{0 if rate >= 10 else 1}f} {noun}/s"


@contextmanager
def counted_progress(noun: str) -> Iterator[Callable[[str, int, int], None]]:
    """Gives the function that counted work tells its stage, how much is done and how much there is to."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(noun),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=words, transient=True) as bar:
        line = bar.add_task("starting", total=None)
        yield lambda stage, done, total: bar.update(line, description=stage, completed=done, total=total)
