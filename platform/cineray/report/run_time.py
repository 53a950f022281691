"""Where a run's seconds went: its ledger goes in; a stacked plot over time, throughput and causes come out."""

from __future__ import annotations

import math
import statistics

from cineray.report import palette
from cineray.report.content import Cell, Column, Figure, Grid, Note, Part, Table
from cineray.report.ledger_time import by_span, stretches
from cineray.report.plots import Axes, Series, lines, stack
from cineray.report.run_curves import moving_mean
from cineray.report.run_record import RunRecord, column
from cineray.report.wording import number, percent, seconds_text
from cineray.train.goodput import fractions

_MINUTES, _HOURS = (60.0, "minutes"), (3600.0, "hours")


def time_parts(record: RunRecord) -> tuple[Part, ...]:
    """All of it."""
    if not record.rows:
        return (Note(text="No step is in the ledger yet."),)
    return (_over_time(record), Grid(figures=_throughput(record)), _causes(record))


def _over_time(record: RunRecord) -> Figure:
    ends, shares = by_span(list(stretches(record.events, record.all_rows)))
    unit, name = _HOURS if ends and ends[-1] > 2 * 3600 else _MINUTES
    layers = {palette.CAUSES[cause][0]: (values, palette.CAUSES[cause][1]) for cause, values in shares.items()}
    largest = list(fractions(record.goodput["seconds"]))[:3]
    told = ", ".join(f"{percent(share)} {palette.CAUSES[cause][0]}" for cause, share in largest if share > 0)
    return stack(
        "The ledger: what the time went into",
        f"Of the run's whole life: {told}.",
        [end / unit for end in ends],
        layers,
        Axes(x=f"{name} since the run began", share=True),
    )


def _throughput(record: RunRecord) -> tuple[Figure, ...]:
    steps, rows = column(record.rows, "step"), record.rows
    smooth = max(len(steps) // 60, 1)
    rate, seconds = column(rows, "clips_per_s"), column(rows, "step_s")
    middle = statistics.median([value for value in rate if math.isfinite(value)] or [math.nan])
    clips = Series(name="clips per second", x=steps, y=moving_mean(rate, smooth), colour=palette.BLUE)
    took = [
        Series(name="step", x=steps, y=moving_mean(seconds, smooth), colour=palette.BLUE),
        Series(
            name="waiting for data",
            x=steps,
            y=moving_mean(column(rows, "data_wait_s"), smooth),
            colour=palette.ORANGE,
        ),
    ]
    figures = [
        lines(
            "Throughput",
            f"{number(middle)} clips per second is usual.",
            [clips],
            Axes(x="step", y="clips per second", whole_y=True),
            height_px=260,
        ),
        lines(
            "Seconds per step",
            f"{number(statistics.median(seconds))} s is usual.",
            took,
            Axes(x="step", y="seconds", whole_y=True),
            height_px=260,
        ),
    ]
    mfu = column(rows, "mfu")
    if any(math.isfinite(value) for value in mfu):
        used = Series(name="MFU", x=steps, y=moving_mean(mfu, smooth), colour=palette.GREEN)
        says = "The share of the devices' arithmetic that the model used."
        figures.append(lines("MFU", says, [used], Axes(x="step", share=True, whole_y=True), height_px=260))
    return tuple(figures)


def _causes(record: RunRecord) -> Table:
    seconds = record.goodput["seconds"]
    rows = tuple(
        (Cell(palette.CAUSES[cause][0]), Cell(seconds_text(seconds[cause])), Cell(percent(share)))
        for cause, share in fractions(seconds)
        if seconds[cause] > 0
    )
    columns = (Column("cause"), Column("time", number=True), Column("share", number=True))
    return Table(caption="The run's whole life by cause, all attempts together", columns=columns, rows=rows)
