"""What was measured, of all clips that there could be and of those that are left. A review goes in; plots leave.

Columns that rules name come first, with the rules' thresholds; the others are folded away. A column that is the same
for all clips is a row of the table and no plot.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cineray.curate.edges import thresholds
from cineray.curate.review import CLIP_SECONDS, Review
from cineray.report.content import Cell, Column, Figure, Fold, Grid, Part, Table
from cineray.report.palette import BLUE, GREY
from cineray.report.plots import Axes, bars, before_after
from cineray.report.wording import UNKNOWN, number, percent, plural

MOST_COLUMNS = 120
_MOST_KINDS = 12
Reals = npt.NDArray[np.float64]


def measure_parts(told: Review) -> tuple[Part, ...]:
    """A table of all columns, and their plots."""
    if not len(told.kept):
        return ()
    named = dict.fromkeys(name for reason in told.reasons for name in reason.figures)
    others = [name for name in (CLIP_SECONDS, *sorted({*told.measured, *told.shares})) if name not in named]
    columns = [*named, *others][:MOST_COLUMNS]
    drawn = {name: figure for name in columns if (figure := _figure(told, name)) is not None}
    rules = tuple(drawn[name] for name in named if name in drawn)
    rest = (*(drawn[name] for name in others if name in drawn), *_words(told))
    parts: list[Part] = [Grid(figures=rules, small=True)] if rules else []
    if rest:
        title = f"{plural(len(rest), 'other measure')}, which no rule names" if rules else plural(len(rest), "measure")
        parts.append(Fold(title=title, parts=(Grid(figures=rest, small=True),)))
    table = _table(told, columns)
    return (*parts, Fold(title=f"All of {plural(len(columns), 'column')} as a table", parts=(table,)))


def _figure(told: Review, name: str) -> Figure | None:
    values = told.values(name)
    known = np.isfinite(values)
    before, after = values[known], values[known & told.kept]
    if not len(before) or before.min() == before.max():
        return None
    limits = tuple(
        (reason.name, at) for reason in told.reasons for column, at in thresholds(reason.told) if column == name
    )
    says = f"{len(before):,} clips measured, {len(after):,} left; in the middle {_middle(before)} and {_middle(after)}."
    says += "".join(f" The rule {rule} turns at {number(at)}." for rule, at in limits)
    return before_after(name, says, before, after, limits=limits)


def _words(told: Review) -> tuple[Figure, ...]:
    figures = []
    for name, found in sorted(told.words.items()):
        if len(found) > 1:
            most = sorted(found, key=lambda kind: (-found[kind][0], kind))[:_MOST_KINDS]
            groups = {
                "measured": [float(found[kind][0]) for kind in most],
                "left": [float(found[kind][1]) for kind in most],
            }
            says = f"{plural(len(found), 'kind')}" + (
                f", the {_MOST_KINDS} most usual" if len(found) > _MOST_KINDS else ""
            )
            axes = Axes(whole_y=True)
            figures.append(bars(name, f"{says}.", groups, most, axes, colours=(GREY, BLUE), height_px=240))
    return tuple(figures)


def _table(told: Review, columns: list[str]) -> Table:
    rows = []
    for name in columns:
        values = told.values(name)
        known = np.isfinite(values)
        before, after = values[known], values[known & told.kept]
        spread = f"{number(before.min())} to {number(before.max())}" if len(before) else UNKNOWN
        share = percent(len(before) / len(values))
        rows.append((Cell(name), Cell(share), Cell(spread), Cell(_middle(before)), Cell(_middle(after))))
    heads = ("known of", "from and to", "middle, all", "middle, left")
    return Table(
        caption="Each column over all clips that there could be, and its middle over those that are left",
        columns=(Column("column"), *(Column(head, number=True) for head in heads)),
        rows=tuple(rows),
    )


def _middle(values: Reals) -> str:
    return number(np.median(values)) if len(values) else UNKNOWN
