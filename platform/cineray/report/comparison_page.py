"""The page of a comparison: its `comparison.json` goes in, a `Page` comes out: what differs beyond noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cineray.report import palette
from cineray.report.content import (
    Cell,
    Column,
    Facts,
    Figure,
    Grid,
    Heading,
    Note,
    Page,
    Part,
    Section,
    Table,
    Tile,
    Verdict,
)
from cineray.report.plots import Estimate, estimates
from cineray.report.scores import BETTER, Measured, Score
from cineray.report.values import pairs_of
from cineray.report.wording import interval, known, moment, number, plural

Told = Mapping[str, Any]


def comparison_page(where: str, told: Told) -> Page:
    """All of it."""
    found = [one for one in told.get("metrics") or () if isinstance(one, Mapping)]
    sure = [one for one in found if one.get("beyond_noise")]
    names = side_name(told.get("a")), side_name(told.get("b"))
    rest = {key: value for key, value in told.items() if key not in ("metrics", "a", "b", "verdict", "format")}
    return Page(
        subject="Comparison",
        title=f"{names[0]} against {names[1]}",
        where=where,
        made_at=f"made {moment(told.get('made_at'))}",
        verdicts=(Verdict(text=str(told.get("verdict") or _verdict(found, sure))),),
        tiles=(
            Tile(name="metrics", value=str(len(found))),
            Tile(name="differ beyond noise", value=str(len(sure))),
            *(Tile(name=f"better in {side}", value=str(sum(_which(one) == side for one in sure))) for side in "AB"),
        ),
        sections=(
            Section(
                title="Differences",
                lead="B less A, with 95 % intervals over the same prompts and seeds; with 0 inside it is noise.",
                parts=(_table(found), *_plots(found)),
            ),
            Section(title="Record", parts=_record(told, rest)),
        ),
    )


def side_name(side: Any) -> str:
    """How one side is called."""
    if not isinstance(side, Mapping):
        return str(side or "?").rstrip("/").rpartition("/")[2] or str(side)
    if side.get("name"):
        return str(side["name"])
    name = str(side.get("job") or side.get("run_id") or side.get("run") or "?")
    step = known(side.get("checkpoint"))
    return f"{name}, step {step:,.0f}" if step is not None else name


def _verdict(found: list[Told], sure: list[Told]) -> str:
    if not sure:
        return f"Nothing differs beyond noise, in {plural(len(found), 'metric')}."
    names = ", ".join(str(one.get("name", "?")).replace("_", " ") for one in sure[:4])
    more = f" and {len(sure) - 4} more" if len(sure) > 4 else ""
    return f"{len(sure)} of {plural(len(found), 'metric')} differ beyond noise: {names}{more}."


def _which(one: Told) -> str:
    """The better side; empty where it is not known."""
    told = one.get("winner")
    if isinstance(told, str):
        return told.upper()
    difference, better = known(one.get("difference")), _score(one, "b").better
    if difference is None or difference == 0 or better not in ("higher", "lower"):
        return ""
    return "B" if (difference > 0) == (better == "higher") else "A"


def _score(one: Told, side: str) -> Score:
    told = one.get(side)
    return Score.of(told) if isinstance(told, Mapping) else Score(name=str(one.get("name", "?")), own=Measured.of(told))


def _table(found: list[Told]) -> Part:
    if not found:
        return Note(text="The two have no metric in common.")
    rows = []
    for one in found:
        a, b = _score(one, "a"), _score(one, "b")
        name = Cell(a.title, detail=", ".join(part for part in (b.unit_text, BETTER.get(b.better, "")) if part))
        rows.append((name, a.own.cell(a.unit), b.own.cell(b.unit), _change(one, b.unit), _judged(one)))
    numbers = (Column(title, number=True) for title in ("A", "B", "B less A"))
    columns = (Column("metric"), *numbers, Column("beyond noise?"))
    return Table(caption="Each metric of both, and the difference", columns=columns, rows=tuple(rows))


def _change(one: Told, unit: str) -> Cell:
    """B less A, with its sign; of shares in points, for percent of a difference could mean two things."""
    apart = Measured.of({"value": one.get("difference"), "low": one.get("low"), "high": one.get("high")})
    value, between = (text.replace("%", "points") for text in (apart.text(unit), apart.between(unit)))
    return Cell(f"{'+' if (apart.value or 0) > 0 else ''}{value}", detail=between)


def _judged(one: Told) -> Cell:
    note = str(one.get("note") or "")
    if known(one.get("difference")) is None:
        return Cell("not known", detail=note, tone="quiet")
    if not one.get("beyond_noise"):
        return Cell("no", detail=note, tone="quiet")
    which = _which(one)
    return Cell(f"yes, {which} is better" if which else "yes", detail=note)


def _plots(found: list[Told]) -> tuple[Part, ...]:
    figures = tuple(figure for one in found if (figure := _plot(one)) is not None)
    return (Grid(figures=figures, small=True),) if figures else ()


def _plot(one: Told) -> Figure | None:
    difference = known(one.get("difference"))
    if difference is None:
        return None
    name = str(one.get("name", "?")).replace("_", " ")
    colour = (
        {"A": palette.BLUE, "B": palette.ORANGE}.get(_which(one), palette.PURPLE)
        if one.get("beyond_noise")
        else palette.GREY
    )
    low, high = known(one.get("low")), known(one.get("high"))
    judged = "More than noise." if one.get("beyond_noise") else "No more than noise."
    says = f"{number(difference)}, {interval(low, high) or 'no interval'}. {judged}"
    drawn = [Estimate(name="B less A", value=difference, low=low, high=high, colour=colour)]
    return estimates(name, says, drawn, zero=True)


def _record(told: Told, rest: Told) -> tuple[Part, ...]:
    parts: list[Part] = [Facts(pairs=pairs_of(rest))] if rest else []
    for side in ("a", "b"):
        own = told.get(side)
        if isinstance(own, Mapping):
            parts += [Heading(text=side.upper(), detail=side_name(own)), Facts(pairs=pairs_of(own))]
    return tuple(parts)
