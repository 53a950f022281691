"""Metrics on a page: what an evaluation's JSON says of them goes in; a table and plots beside their controls come out.

The JSON may be of an older or a newer cineray: what is not there is shown as a dash, what is new does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cineray.report import palette
from cineray.report.content import Cell, Column, Figure, Fold, Grid, Heading, Note, Part, Table
from cineray.report.plots import Estimate, estimates
from cineray.report.wording import UNKNOWN, interval, known, number, percent, whole

BETTER = {"higher": "higher is better", "lower": "lower is better", "like real": "best where real clips are"}
SHARES = frozenset({"fraction", "share"})
"""Units of values from 0 to 1, which are shown in percent."""
_ARROWS = {"higher": "↑", "lower": "↓", "like real": "≈"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A value with its interval over clips."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @classmethod
    def of(cls, told: Any) -> Measured:
        """From JSON; a bare number has no interval."""
        if not isinstance(told, Mapping):
            return cls(value=known(told))
        count = known(told.get("n"))
        return cls(
            value=known(told.get("value")),
            low=known(told.get("low")),
            high=known(told.get("high")),
            n=None if count is None else int(count),
        )

    def cell(self, unit: str = "") -> Cell:
        """The value, its interval below."""
        return Cell(self.text(unit), detail=self.between(unit), tone="quiet" if self.value is None else "")

    def text(self, unit: str = "") -> str:
        """The value; a share in percent."""
        return percent(self.value) if unit in SHARES else number(self.value)

    def between(self, unit: str = "") -> str:
        """The interval; empty where there is none."""
        if unit in SHARES and self.low is not None and self.high is not None:
            return f"{percent(self.low)} to {percent(self.high)}"
        return interval(self.low, self.high)

    def estimate(self, name: str, colour: str) -> Estimate | None:
        """For a plot; None where there is nothing to draw."""
        if self.value is None:
            return None
        return Estimate(name=name, value=self.value, low=self.low, high=self.high, colour=colour)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One metric of an evaluation."""

    name: str
    group: str = ""
    unit: str = ""
    better: str = ""
    own: Measured = field(default_factory=Measured)
    controls: Mapping[str, Measured] = field(default_factory=dict)
    skipped: str = ""
    note: str = ""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Score:
        """From JSON."""
        controls = told.get("controls")
        return cls(
            name=str(told.get("name", "?")),
            group=str(told.get("group") or ""),
            unit=str(told.get("unit") or ""),
            better=str(told.get("better") or ""),
            own=Measured.of(told),
            controls={str(k): Measured.of(v) for k, v in controls.items()} if isinstance(controls, Mapping) else {},
            skipped=str(told.get("skipped") or ""),
            note=str(told.get("note") or ""),
        )

    @property
    def title(self) -> str:
        """The name as people write it."""
        return self.name.replace("_", " ")

    @property
    def unit_text(self) -> str:
        """The unit; a share has none, for it is shown in percent."""
        return "" if self.unit in SHARES else self.unit


def scores_of(told: Any) -> list[Score]:
    """The metrics of a list in JSON; what is no metric is passed over."""
    return [Score.of(one) for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []


def groups_of(scores: Iterable[Score]) -> dict[str, list[Score]]:
    """Metrics by their group, in the order of the list."""
    found: dict[str, list[Score]] = {}
    for score in scores:
        found.setdefault(score.group or "metrics", []).append(score)
    return found


def score_parts(scores: Sequence[Score], own: str = "generated") -> tuple[Part, ...]:
    """All metrics, group by group: a table, and a small plot for each; those of the first group are seen at once."""
    parts: list[Part] = []
    groups = groups_of(score for score in scores if not score.skipped)
    for number_, (name, some) in enumerate(groups.items()):
        if len(groups) > 1:
            parts.append(Heading(text=name))
        parts.append(score_table(some, f"{name}: value, with its 95 % interval below", own=own))
        plots = tuple(_plots(some, own))
        if plots:
            parts += plots if number_ == 0 else [Fold(title=f"Plots of {name} beside the controls", parts=plots)]
    skipped = [score for score in scores if score.skipped]
    if skipped:
        rows = tuple((Cell(one.title), Cell(one.skipped, tone="quiet")) for one in skipped)
        told = "Metrics that were not measured, and why"
        parts.append(Table(caption=told, columns=(Column("metric"), Column("why not")), rows=rows))
    return tuple(parts) or (Note(text="This evaluation holds no metrics."),)


def score_table(scores: Sequence[Score], caption: str, own: str = "generated") -> Table:
    """A row per metric, a column for each control that any of them has."""
    controls = list(dict.fromkeys(name for score in scores for name in score.controls))
    columns = (Column("metric"), Column(own, number=True), *(Column(name, number=True) for name in controls))
    rows = []
    for score in scores:
        told = f"{_ARROWS.get(score.better, '')} {BETTER.get(score.better, '')}".strip()
        name = Cell(score.title, detail=", ".join(part for part in (score.unit_text, told) if part))
        beside = (score.controls.get(control, Measured()).cell(score.unit) for control in controls)
        clips = Cell(whole(score.own.n), tone="quiet")
        rows.append((name, score.own.cell(score.unit), *beside, clips, Cell(score.note)))
    columns = (*columns, Column("clips", number=True), Column("note"))
    return _without_empty_last(Table(caption=caption, columns=columns, rows=tuple(rows)))


def _without_empty_last(table: Table) -> Table:
    """A last column that says nothing is not shown."""
    if any(row[-1].text for row in table.rows):
        return table
    rows = tuple(row[:-1] for row in table.rows)
    return Table(caption=table.caption, columns=table.columns[:-1], rows=rows)


def _plots(scores: Sequence[Score], own: str) -> list[Part]:
    figures = tuple(figure for score in scores if (figure := score_plot(score, own)) is not None)
    return [Grid(figures=figures, small=True)] if figures else []


def score_plot(score: Score, own: str = "generated") -> Figure | None:
    """One metric and its controls, with intervals; None where nothing was measured."""
    found = [score.own.estimate(own, palette.BLUE)]
    others = [name for name in score.controls if name not in palette.CONTROLS]
    for name, control in score.controls.items():
        found.append(control.estimate(name, palette.of_control(name, others.index(name) if name in others else 0)))
    drawn = [one for one in found if one is not None]
    if len(drawn) < 2:
        return None
    told = f"{score.own.text(score.unit)} {score.unit_text}".rstrip()
    told += f" ({score.own.between(score.unit)})" if score.own.low is not None else ""
    beside = "; ".join(f"{name} {control.text(score.unit)}" for name, control in score.controls.items())
    says = f"{told}; {beside}. {BETTER.get(score.better, '').capitalize()}".rstrip(". ") + "."
    title = f"{score.title} {_ARROWS.get(score.better, '')}".strip()
    return estimates(title, says, drawn, share=score.unit in SHARES)


def compared_parts(parts: Mapping[str, Sequence[Score]], counts: Mapping[str, Any], caption: str) -> Table:
    """The same metrics of several parts of the clips, side by side."""
    names = list(dict.fromkeys(score.name for some in parts.values() for score in some if not score.skipped))
    by_part = {part: {score.name: score for score in some} for part, some in parts.items()}
    first = {name: next(some[name] for some in by_part.values() if name in some) for name in names}
    heads = (f"{part.replace('_', ' ')} ({whole(counts.get(part))} clips)" for part in parts)
    rows = tuple(
        (
            Cell(first[name].title, detail=first[name].unit_text),
            *(some[name].own.cell(some[name].unit) if name in some else Cell(UNKNOWN) for some in by_part.values()),
        )
        for name in names
    )
    return Table(caption=caption, columns=(Column("metric"), *(Column(head, number=True) for head in heads)), rows=rows)
