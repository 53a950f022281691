"""What a sweep found: its record goes in; the Pareto set as a table and plots, all trials as parallel coordinates and a
table, and what mattered come out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from cineray.report import palette
from cineray.report.content import Cell, Column, Figure, Fold, Grid, Note, Part, Table, Tone
from cineray.report.plots import Axes
from cineray.report.scores import Measured
from cineray.report.sweep_finalists import finalist_parts
from cineray.report.sweep_plots import Dimension, Group, Path, Point, paths, place_between, shares, trade_off
from cineray.report.sweep_record import (
    ENDED_EARLY,
    IN_SWEEP,
    Objective,
    Parameter,
    Reading,
    SweepRecord,
    Trial,
    rank,
    short,
)
from cineray.report.values import text_of
from cineray.report.wording import UNKNOWN, known, number, percent, plural, seconds_text

_STATE_TONES: dict[str, Tone] = {
    "stopped": "quiet",
    "data-bound": "warn",
    "failed": "bad",
    "lost": "bad",
}
_CLIPS = Objective(name="clips_per_s", unit="clips/s", label="clips per second")
_GROUPS = (
    ("the best", palette.ORANGE, True),
    ("Pareto set", palette.BLUE, True),
    ("other trials", palette.TEAL, False),
    ("not the whole budget", palette.GREY, False),
)
COST = "cost to train"
_UNEVEN = 0.03
"""More or less of a budget than this is said."""
_MOST_DIMENSIONS = 12
_MOST_CHOICES = 5
"""Of a dimension that has names: with more, only the first and the last are written out."""


# ---- the trade-off ---------------------------------------------------------------------------------------------------


def choice_parts(record: SweepRecord) -> tuple[Part, ...]:
    """Quality against what it takes, and the trials that nothing else beats in everything."""
    if not any(trial.readings for trial in record.trials):
        return (Note(text="No trial has reached a figure that it could be judged by.", tone="warn"),)
    figures = tuple(figure for against in _takes(record) if (figure := _against(record, against)) is not None)
    parts: list[Part] = [Grid(figures=figures)] if figures else []
    if record.pareto:
        told = "as good in every objective and better in one" if len(record.objectives) > 1 else "better"
        parts.append(trial_table(record, record.pareto, f"The Pareto set: no other trial is {told}"))
        parts += finalist_parts(record)
    told = _how_chosen(record)
    if not parts:
        return (Note(text="Fewer than two trials can be compared: see which figures they lack below.", tone="warn"),)
    return (*parts, Note(text=told)) if told else tuple(parts)


def _how_chosen(record: SweepRecord) -> str:
    """Why the best is not simply the first by the first objective."""
    steps = []
    for one, other in pairwise(record.objectives):
        if one.tolerance > 0:
            within = f"Trials within {number(100 * one.tolerance)} % of the best {one.title}"
            steps.append(f"{within} count as equal, and {other.title} decides.")
    return " ".join(["How the best was chosen.", *steps]) if steps and record.best else ""


def _takes(record: SweepRecord) -> list[Objective]:
    """What quality is shown against: the other objectives, clips per second, and cost where it is known."""
    quality = record.quality
    found = [one for one in record.objectives if one is not quality]
    names = {one.name for one in found}
    if "clips_per_s" not in names:
        found.append(_CLIPS)
    if "cost" not in names and any(trial.cost for trial in record.trials):
        found.append(Objective(name="cost", smaller=True, unit=record.currency, label=COST))
    return found


def _against(record: SweepRecord, x: Objective) -> Figure | None:
    y = record.quality
    points = {trial.number: point for trial in record.trials if y and (point := _point(trial, x, y)) is not None}
    if y is None or len(points) < 2:
        return None
    kept = [trial for trial in record.trials if trial.number in points]
    groups = [
        Group(name=name, colour=colour, labelled=labelled, points=[points[trial.number] for trial in some])
        for name, colour, labelled in _GROUPS
        if (some := [trial for trial in kept if _group(trial) == name])
    ]
    alone = any(reading.alone for trial in kept if (reading := trial.reading(x.name)) is not None)
    whole = [points[trial.number] for trial in kept if trial.whole]
    mixed = len({point.filled for point in whole}) > 1
    front = front_of([(point.x, point.y) for point in whole], x_smaller=x.smaller, y_smaller=y.smaller)
    says = f"Better is {'down' if y.smaller else 'up'} and to the {'left' if x.smaller else 'right'}."
    line = f"the dotted line{', by the figures that are drawn, of either kind' if mixed else ''}"
    says += f" No trial with the whole budget lies beyond {line}." if len(front) > 1 else ""
    says += " Bars are 95 % intervals." if any(point.x_ends or point.y_ends for point in points.values()) else ""
    says += f" Filled: {x.title} measured again, alone; rings: {record.beside}." if alone else ""
    axes = Axes(x=x.head, y=y.head, share=y.share)
    return trade_off(f"{_sentence(y.title)} against {x.title}", says, groups, axes, front, x_smaller=x.smaller)


def _group(trial: Trial) -> str:
    if trial.best or trial.pareto:
        return "the best" if trial.best else "Pareto set"
    return "other trials" if trial.whole else "not the whole budget"


def _point(trial: Trial, x: Objective, y: Objective) -> Point | None:
    at, up = trial.value(x.name), trial.value(y.name)
    if x.name == "cost" and at is None:
        at = trial.cost
    if at is None or up is None:
        return None
    reading = trial.reading(x.name)
    ended = "" if trial.whole else f"|{trial.state}: had less than the whole budget"
    return Point(
        name=str(trial.number),
        x=at,
        y=up,
        x_ends=_ends(reading),
        y_ends=_ends(trial.readings.get(y.name)),
        filled=reading is not None and reading.alone,
        said=f"{trial.name}: {x.title} {x.said(at)}, {y.title} {y.said(up)}|{trial.told_values()}{ended}",
    )


def _ends(reading: Reading | None) -> tuple[float, float] | None:
    measured = reading.measured if reading is not None else Measured()
    return None if measured.low is None or measured.high is None else (measured.low, measured.high)


def front_of(points: Sequence[tuple[float, float]], *, x_smaller: bool, y_smaller: bool) -> list[tuple[float, float]]:
    """Of points in the plane those that no other beats in both, in the order of x."""

    def key(point: tuple[float, float]) -> tuple[float, float]:
        return (point[0] if x_smaller else -point[0], point[1] if y_smaller else -point[1])

    found: list[tuple[float, float]] = []
    reached = math.inf
    for point in sorted(points, key=key):  # from the best x on: a point counts when its y is better than all before
        if key(point)[1] < reached:
            reached = key(point)[1]
            found.append(point)
    return sorted(found)


# ---- tables ----------------------------------------------------------------------------------------------------------


def trial_table(record: SweepRecord, trials: Sequence[Trial], caption: str, *, whole: bool = False) -> Table:
    """A row per trial: its figures, each with its interval and how it was measured, and its values.

    `whole`: of all trials, with how each ended; there only what was measured alone is marked.
    """
    names = [parameter.name for parameter in record.parameters]
    names = list(dict.fromkeys([*names, *(name for trial in trials for name in trial.values)]))
    heads = [Column(one.head, number=True) for one in record.objectives]
    heads += [Column("trained for", number=True)] * whole + [Column(short(name)) for name in names]
    rows = []
    for trial in trials:
        cells = [Cell(trial.name, detail=_standing(trial, whole=whole), tone=_STATE_TONES.get(trial.state, ""))]
        cells += [reading_cell(trial, one, otherwise="" if whole else IN_SWEEP) for one in record.objectives]
        cells += [Cell(seconds_text(trial.seconds), detail=_steps(trial), tone=_evenness(trial))] * whole
        cells += [Cell(text_of(trial.values[name]) if name in trial.values else UNKNOWN) for name in names]
        rows.append(tuple(cells))
    return Table(caption=caption, columns=(Column("trial"), *heads), rows=tuple(rows))


def _standing(trial: Trial, *, whole: bool) -> str:
    if trial.best:
        return "the best"
    return ("Pareto set" if trial.pareto else trial.state) if whole else ""


def reading_cell(trial: Trial, objective: Objective, *, otherwise: str = IN_SWEEP) -> Cell:
    """One figure, and below it its interval and which figure it is."""
    reading = trial.readings.get(objective.name)
    if reading is None or reading.measured.value is None:
        return Cell(UNKNOWN, tone="quiet")
    return Cell(objective.text(reading.measured.value), detail=reading.said(objective.unit, otherwise))


def _steps(trial: Trial) -> str:
    told = [] if trial.step is None else [plural(trial.step, "step")]
    told += [plural(trial.generations, "generation")] if trial.generations > 1 else []
    return ", ".join([*told, *([f"{percent(trial.budget_share)} of its budget"] if _evenness(trial) else [])])


def _evenness(trial: Trial) -> Tone:
    """Had it, of all that had their whole budget, noticeably more or less than that?"""
    return "warn" if trial.whole and abs((trial.budget_share or 1.0) - 1) > _UNEVEN else ""


# ---- all trials ------------------------------------------------------------------------------------------------------


def trial_parts(record: SweepRecord) -> tuple[Part, ...]:
    """Parallel coordinates, who ended early and why, and the table of all."""
    drawn = _parallel(record)
    caption = f"All trials; what is not marked as alone was measured {record.beside}"
    table = trial_table(record, record.trials, caption, whole=True)
    ended = _ended_early(record)
    folded = Fold(title=f"All {plural(len(record.trials), 'trial')}", parts=(table,))
    return tuple(part for part in (drawn, ended, folded) if part is not None)


def _ended_early(record: SweepRecord) -> Table | None:
    rows = tuple(
        (
            Cell(trial.name),
            Cell(trial.state, tone=_STATE_TONES.get(trial.state, "")),
            Cell(seconds_text(trial.seconds)),
            Cell(trial.why),
        )
        for trial in record.trials
        if trial.state in ENDED_EARLY
    )
    columns = (Column("trial"), Column("how"), Column("trained for", number=True), Column("why"))
    return Table(caption="Trials that ended before their budget did", columns=columns, rows=rows) if rows else None


def _parallel(record: SweepRecord) -> Figure | None:
    """Each trial as a line through its values to what it reached; colours by thirds of the first objective."""
    quality = record.quality
    if quality is None:
        return None
    ranked = rank((trial for trial in record.trials if trial.whole), quality)
    varied = [one for one in record.parameters if len(one.values) != 1]  # `--quick` may leave one value of several
    rows = [_row_of_parameter(record, one) for one in varied[:_MOST_DIMENSIONS]]
    rows += [_row_of_objective(record, one) for one in record.objectives if rank(record.trials, one)]
    if len(ranked) < 2 or len(rows) < 2:
        return None
    third = math.ceil(len(ranked) / 3)
    others = [trial for trial in record.trials if trial.readings and trial not in ranked]
    groups: dict[str, tuple[Sequence[Trial], str, float]] = {
        "not the whole budget": (others, palette.GREY, 1.0),
        "worst third": (ranked[2 * third :], palette.RED, 1.5),
        "middle third": (ranked[third : 2 * third], palette.PURPLE, 1.5),
        "best third": (ranked[:third], palette.BLUE, 2.0),
        "the best": ([trial for trial in ranked if trial.best], palette.ORANGE, 4.0),
    }
    drawn = {
        name: ([_path(one, rows) for one in some], colour, width)
        for name, (some, colour, width) in groups.items()
        if some
    }
    says = f"A line is a trial; thirds by {quality.title}. Where blue lines meet, a value was good; the rows of "
    says += "objectives are turned so that better is to the right."
    return paths("Which values went with what", says, [row.dimension for row in rows], drawn)


class _Row:
    """A dimension, and where each trial stands in it."""

    def __init__(self, dimension: Dimension, places: dict[int, float]) -> None:
        self.dimension, self.places = dimension, places


def _row_of_parameter(record: SweepRecord, parameter: Parameter) -> _Row:
    told = {trial.number: trial.values[parameter.name] for trial in record.trials if parameter.name in trial.values}
    if parameter.low is not None and parameter.high is not None:
        low, high, log = parameter.low, parameter.high, parameter.log
        places = {n: place_between(known(v), low, high, log=log) for n, v in told.items()}
        middle = math.sqrt(low * high) if log else (low + high) / 2
        ticks = [(0.0, number(low)), (0.5, number(middle)), (1.0, number(high))]
        return _Row(Dimension(name=short(parameter.name), ticks=ticks), places)
    names = [text_of(value) for value in parameter.values] or sorted({text_of(value) for value in told.values()})
    at = {name: place_between(float(i), 0.0, len(names) - 1.0) for i, name in enumerate(names)}
    ticks = [(place, name) for name, place in at.items()]
    ticks = ticks if len(ticks) <= _MOST_CHOICES else [ticks[0], ticks[-1]]
    return _Row(
        Dimension(name=short(parameter.name), ticks=ticks), {n: at.get(text_of(v), math.nan) for n, v in told.items()}
    )


def _row_of_objective(record: SweepRecord, one: Objective) -> _Row:
    told = {trial.number: value for trial in record.trials if (value := trial.value(one.name)) is not None}
    least, most = (min(told.values()), max(told.values())) if told else (0.0, 0.0)
    left, right = (most, least) if one.smaller else (least, most)
    ticks = [(0.0, one.text(left)), (1.0, one.text(right))] if left != right else [(0.5, one.text(left))]
    return _Row(Dimension(name=one.title, ticks=ticks), {n: place_between(v, left, right) for n, v in told.items()})


def _path(trial: Trial, rows: Sequence[_Row]) -> Path:
    return Path(
        places=[row.places.get(trial.number, math.nan) for row in rows],
        said=f"{trial.name}|{trial.told_values()}",
    )


# ---- what mattered ---------------------------------------------------------------------------------------------------


def importance_parts(record: SweepRecord) -> tuple[Part, ...]:
    """For each objective, by which parameters the better half of the trials differs from all of them."""
    titles = {one.name: one.title for one in record.objectives}
    figures = []
    for name, parameters in record.part("importance").items():
        told = parameters if isinstance(parameters, Mapping) else {}
        found = {short(str(key)): share for key, value in told.items() if (share := known(value)) is not None}
        if found:
            most = max(found, key=lambda key: found[key])
            says = f"{_sentence(most)} tells them apart most: {percent(found[most])}."
            figures.append(
                shares(_sentence(titles.get(str(name), str(name).replace("_", " "))), says, found, palette.TEAL)
            )
    return (Grid(figures=tuple(figures)),) if figures else ()


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
