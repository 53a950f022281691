"""What was found out of a sweep's best trials after it: its record goes in; a table of what each does per second alone,
and a table of how sure it is that the best is better come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cineray.report.content import Cell, Column, Note, Part, Table
from cineray.report.sweep_record import Objective, SweepRecord, Trial, objects_of
from cineray.report.wording import UNKNOWN, known, number

_MEASURED = (
    Objective(name="clips_per_s", unit="clips/s", label="clips per second"),
    Objective(name="frames_per_s", unit="frames/s", label="frames per second"),
    Objective(name="data_wait", unit="share", smaller=True, label="waiting for data"),
    Objective(name="gpu_stall", unit="share", smaller=True, label="GPU stall"),
    Objective(name="mfu", unit="share", label="MFU"),
    Objective(name="cost_per_million_clips", smaller=True, label="cost of a million clips"),
    Objective(name="seconds", unit="s", smaller=True, label="training seconds"),
    Objective(name="cost", smaller=True, label="cost to train"),
)
"""What an objective is called that nobody chose by."""


def finalist_parts(record: SweepRecord) -> tuple[Part, ...]:
    """Both tables, where there is something in them."""
    return (*_alone(record), *_compared(record))


# ---- alone -----------------------------------------------------------------------------------------------------------


def _alone(record: SweepRecord) -> tuple[Part, ...]:
    trials = [trial for trial in _in_order(record) if trial.alone]
    told = {one.name: one for one in (*_MEASURED, *record.objectives)}
    names = [name for name in told if any(name in trial.alone for trial in trials)]
    if not trials or not names:
        return ()
    rows = tuple((_name(trial), *(_figure(trial, told[name]) for name in names)) for trial in trials)
    columns = (Column("trial"), *(Column(told[name].head, number=True) for name in names))
    caption = "Finalists, each measured again with the cluster to itself; intervals are of 95 %"
    return (Table(caption=caption, columns=columns, rows=rows),)


def _in_order(record: SweepRecord) -> list[Trial]:
    return sorted(record.trials, key=lambda trial: (not trial.best, not trial.pareto, trial.number))


def _name(trial: Trial) -> Cell:
    return Cell(trial.name, detail="the best" if trial.best else "Pareto set" if trial.pareto else "")


def _figure(trial: Trial, one: Objective) -> Cell:
    reading = trial.alone.get(one.name)
    if reading is None or reading.measured.value is None:
        return Cell(UNKNOWN, tone="quiet")
    return Cell(one.text(reading.measured.value), detail=reading.said(one.unit).replace(", alone", ""))


# ---- clip by clip ----------------------------------------------------------------------------------------------------


def _compared(record: SweepRecord) -> tuple[Part, ...]:
    told = record.part("comparisons")
    pairs = [one for one in objects_of(told.get("pairs")) if known(one.get("difference")) is not None]
    best = next((trial for trial in record.trials if trial.number == told.get("best")), None)
    if not pairs or best is None:
        return ()
    by_place = {(one.get("trial"), one.get("objective")): one for one in pairs}
    objectives = [one for one in record.objectives if any(name == one.name for _, name in by_place)]
    trials = [trial for trial in _in_order(record) if any(number_ == trial.number for number_, _ in by_place)]
    if not objectives or not trials:
        return ()
    rows = tuple(
        (_name(trial), *(_difference(by_place.get((trial.number, one.name)), one) for one in objectives))
        for trial in trials
    )
    table = Table(
        caption=f"Held against {best.name}, the best, clip by clip: each trial's figure less that one's",
        columns=(Column("trial"), *(Column(one.title) for one in objectives)),
        rows=rows,
    )
    return (table, Note(text=_how(told, pairs)))


def _how(told: Mapping[str, Any], pairs: list[Mapping[str, Any]]) -> str:
    """In one paragraph: what is sure, by which means, and what it does not say."""
    sure = sum(one.get("is_sure") is True for one in pairs)
    trials, objectives = known(told.get("trials")), known(told.get("objectives"))
    found = "None is" if not sure else f"{sure} is" if sure == 1 else f"{sure} are"
    text = (
        f"{found} beyond chance on the judged clips. Both trials answered the same clips, noise and noise levels; "
        "intervals draw the clips again, for each pair by itself."
    )
    if trials is not None:
        by = f", by each of {number(objectives)} objectives," if objectives is not None and objectives > 1 else ""
        text += (
            f" The best of {number(trials)} trials was chosen by these same clips, and p takes that into account: it "
            f"is how often{by} of as many trials that are all alike the one that seems best seems as far from another."
        )
    note = str(told.get("note") or "")
    return f"{text} {note[:1].upper()}{note[1:]}{'.' if note else ''}".strip()


def _difference(pair: Mapping[str, Any] | None, one: Objective) -> Cell:
    if pair is None:
        return Cell(UNKNOWN, tone="quiet")
    between = f"{_signed(pair.get('low'), one)} to {_signed(pair.get('high'), one)}"
    is_sure = pair.get("is_sure") is True
    worse = "worse" if pair.get("better") == "best" else "better"
    said = f"surely {worse}" if is_sure else "within chance"
    by_chance = known(pair.get("p_corrected"))
    by_chance = known(pair.get("p")) if by_chance is None else by_chance
    text = f"{_signed(pair.get('difference'), one)}{' points' if one.share else ''} ({between})"
    detail = f"{said}: p {number(by_chance, 2)}, {number(pair.get('clips'))} clips"
    return Cell(text, detail=detail, tone="" if is_sure else "quiet")


def _signed(value: Any, one: Objective) -> str:
    """With its sign; of a share in points of percent."""
    found = known(value)
    if found is None:
        return UNKNOWN
    text = f"{abs(100 * found):.1f}" if one.share else number(abs(found))
    sign = "" if found == 0 else "+" if found > 0 else "\u2212"
    return sign + text
