"""How a sweep's trials went: its record goes in; learning curves over seconds and cost, what each trial's time went
into, and clips of the Pareto set side by side come out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cineray.report import palette
from cineray.report.content import Cell, Column, Figure, Film, FilmRow, FilmTable, Fold, Grid, Note, Part, Table, Tone
from cineray.report.embed import Embedder
from cineray.report.plots import Axes, Series
from cineray.report.sweep_choice import COST
from cineray.report.sweep_plots import curves, lying_stack
from cineray.report.sweep_record import Objective, SweepRecord, Trial, rank
from cineray.report.wording import UNKNOWN, known, number, percent, seconds_text

_NAMED = 6
"""Learning curves with a name and a colour; the others are grey."""
_MOST_COLUMNS = 6
_MOST_BARS = 40
_BOUND_TONES: dict[str, Tone] = {"compute": "good", "data": "warn", "": "quiet"}


# ---- learning --------------------------------------------------------------------------------------------------------


def learning_parts(record: SweepRecord) -> tuple[Part, ...]:
    """The objectives that are known while training, over seconds; then over cost, and over steps."""
    known_early = [one for one in record.objectives if one.is_quality and _looks(record, one.name) > 1]
    if not known_early:
        return (Note(text="No trial was judged more than once, so there are no curves."),)
    over_seconds = [_curves(record, one, "seconds", "seconds of training") for one in known_early]
    parts: list[Part] = [Grid(figures=tuple(figure for figure in over_seconds if figure))]
    others = [("step", "steps"), ("clips", "clips")]
    others = [("cost", _cost_name(record)), *others] if _has_costs(record) else others
    more = tuple(
        figure for one in known_early[:1] for key, name in others if (figure := _curves(record, one, key, name))
    )
    if more:
        title = f"The same over {'cost, ' if _has_costs(record) else ''}steps and clips"
        parts.append(Fold(title=title, parts=(Grid(figures=more),)))
    return tuple(parts)


def _looks(record: SweepRecord, name: str) -> int:
    return max((len(_xy(trial, "seconds", name)[0]) for trial in record.trials), default=0)


def _has_costs(record: SweepRecord) -> bool:
    return any(known(look.get("cost")) for trial in record.trials for look in trial.curve)


def _cost_name(record: SweepRecord) -> str:
    cost = next((one for one in record.objectives if one.name == "cost"), None)
    found = cost or Objective(name="cost", unit=record.currency, label=COST)
    return found.head


def _xy(trial: Trial, x: str, y: str) -> tuple[list[float], list[float]]:
    pairs = [(known(look.get(x)), known(look.get(y))) for look in trial.curve]
    return [a for a, b in pairs if None not in (a, b)], [b for a, b in pairs if None not in (a, b)]  # type: ignore[misc]


def _curves(record: SweepRecord, one: Objective, key: str, name: str) -> Figure | None:
    """The Pareto set and the best by this objective have names; the best is always in the same colour."""
    drawn = {trial.number: _xy(trial, key, one.name) for trial in record.trials}
    shown = [trial for trial in record.trials if drawn[trial.number][0]]
    if not shown:
        return None
    named = list(dict.fromkeys(trial.number for trial in [*record.pareto, *rank(shown, one)]))[:_NAMED]
    colours = [palette.BLUE, palette.GREEN, palette.PURPLE, palette.TEAL, palette.OCHRE, palette.PINK]
    series, others = [], []
    for number_ in named:
        trial = next((some for some in shown if some.number == number_), None)
        if trial is not None:
            x, y = drawn[number_]
            colour = palette.ORANGE if trial.best else colours.pop(0)
            label = f"{trial.name} (the best)" if trial.best else trial.name
            series.append(Series(name=label, x=x, y=y, colour=colour))
    for trial in shown:
        if trial.number not in named:
            x, y = drawn[trial.number]
            others.append(Series(name=trial.name, x=x, y=y))
    says = f"{one.better.capitalize()}. {_ahead(record, one)}" if key == "seconds" else f"{one.better.capitalize()}."
    title = f"{one.title[:1].upper()}{one.title[1:]} over {name.partition(',')[0]}"
    return curves(title, says.strip(), series, others, Axes(x=name, y=one.title, share=one.share))


def _ahead(record: SweepRecord, one: Objective) -> str:
    ranked = rank(record.trials, one)
    if not ranked:
        return ""
    return f"After its time, {ranked[0].name} is ahead with {one.text(ranked[0].value(one.name))}."


# ---- where the time went ---------------------------------------------------------------------------------------------


def time_parts(record: SweepRecord) -> tuple[Part, ...]:
    """Each trial's seconds by cause, and what bounds it."""
    trials = [trial for trial in record.trials if any(trial.seconds_by_cause.values())]
    if not trials:
        return (Note(text="No trial has a ledger yet."),)
    shown = trials[:_MOST_BARS]
    names = [f"{trial.name} (best)" if trial.best else trial.name for trial in shown]
    causes = [*palette.CAUSES, *sorted({c for trial in shown for c in trial.seconds_by_cause} - set(palette.CAUSES))]
    layers = {}
    for cause in causes:
        label, colour = palette.CAUSES.get(cause, (cause.replace("_", " "), palette.GREY))
        layers[label] = ([trial.seconds_by_cause.get(cause, 0.0) for trial in shown], colour)
    says = "Seconds of each trial's life: what is not computing is what a better recipe, or more decoding, could win."
    if len(trials) > len(shown):
        says += f" The first {len(shown)} of {len(trials)} trials."
    bars = lying_stack("What each trial's time went into", says, names, layers, unit="seconds")
    return (bars, _bounds(trials))


def _bounds(trials: Sequence[Trial]) -> Table:
    rows = tuple(
        (
            Cell(trial.name, detail="the best" if trial.best else ""),
            Cell(trial.bound or UNKNOWN, tone=_BOUND_TONES.get(trial.bound, "")),
            Cell(percent(trial.data_wait)),
            Cell(number(trial.curve[-1].get("clips_per_s") if trial.curve else None)),
            Cell(percent(trial.curve[-1].get("mfu") if trial.curve else None)),
            Cell(seconds_text(sum(trial.seconds_by_cause.values()))),
            Cell(trial.verdict),
        )
        for trial in trials
    )
    heads = ("waiting for data", "clips per second, in the sweep", "MFU", "whole time")
    columns = (Column("trial"), Column("bound by"), *(Column(head, number=True) for head in heads), Column("in words"))
    return _without_unknown(Table(caption="What bounds each trial", columns=columns, rows=rows))


def _without_unknown(table: Table) -> Table:
    """A column in which nothing is known is not shown."""
    kept = [at for at in range(len(table.columns)) if any(row[at].text not in ("", UNKNOWN) for row in table.rows)]
    rows = tuple(tuple(row[at] for at in kept) for row in table.rows)
    return Table(caption=table.caption, columns=tuple(table.columns[at] for at in kept), rows=rows)


# ---- clips -----------------------------------------------------------------------------------------------------------


def clip_parts(record: SweepRecord, embed: Embedder, *, clips: int) -> tuple[Part, ...]:
    """What the Pareto set's trials make of the same prompts and instants: a row per prompt, a column per trial."""
    trials = [trial for trial in record.pareto if trial.samples][:_MOST_COLUMNS]
    if not trials:
        return ()
    by_trial = {trial.number: {str(one.get("name")): one for one in trial.samples} for trial in trials}
    names = list(dict.fromkeys(name for told in by_trial.values() for name in told))[:clips]
    rows = tuple(_clip_row(record, name, trials, by_trial, embed) for name in names)
    columns = tuple(_head(record, trial) for trial in trials)
    return (
        FilmTable(caption=f"{len(rows)} prompts, each with the same noise and instants", columns=columns, rows=rows),
    )


def _clip_row(
    record: SweepRecord,
    name: str,
    trials: Sequence[Trial],
    by_trial: Mapping[int, Mapping[str, Mapping[str, Any]]],
    embed: Embedder,
) -> FilmRow:
    told = [by_trial[trial.number].get(name) for trial in trials]
    films = tuple(
        Film(source=embed.file(record.uri, str(one["file"])), name=f"{name} by {trial.name}")
        if one is not None and one.get("file")
        else None
        for trial, one in zip(trials, told, strict=True)
    )
    about: Mapping[str, Any] = next((one for one in told if one is not None), {})
    return FilmRow(name=str(about.get("label") or name), detail=str(about.get("caption") or ""), films=films)


def _head(record: SweepRecord, trial: Trial) -> str:
    quality = record.quality
    value = trial.value(quality.name) if quality else None
    reached = f", {quality.text(value)}" if quality and value is not None and math.isfinite(value) else ""
    return f"{trial.name}{', the best' if trial.best else ''}{reached}"
