"""The page of a pipeline check: its folder and `pipeline.json` go in, a `Page` comes out: the same clips through two
recipes, what changed, and what nobody asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cineray.report import palette
from cineray.report.content import (
    Cell,
    Column,
    Facts,
    Figure,
    Film,
    Fold,
    Gallery,
    Grid,
    Note,
    Page,
    Part,
    Section,
    Table,
    Tile,
    Tone,
    Verdict,
)
from cineray.report.embed import Embedder
from cineray.report.plots import Axes, bars
from cineray.report.values import pairs_of
from cineray.report.wording import interval, known, number, percent, plural, whole

Told = Mapping[str, Any]

_TONES: dict[str, Tone] = {"red flag": "bad", "change": "warn", "same": "good"}


def pipeline_page(folder: str, told: Told, embed: Embedder, *, clips: int) -> Page:
    """All of it."""
    findings = _rows(told.get("findings"))
    flags = sum(one.get("severity") == "red flag" for one in findings)
    return Page(
        subject="Pipeline check",
        title=folder.rstrip("/").rpartition("/")[2] or "Pipeline check",
        where=folder,
        verdicts=(Verdict(text=str(told.get("verdict") or ""), tone="bad" if flags else "good"),),
        tiles=_tiles(told, flags),
        sections=(
            Section(
                title="Findings",
                lead="A change is what the recipes say. A red flag is what nobody asked for, and a model would learn.",
                parts=_findings(findings),
            ),
            Section(
                title="Clips",
                lead="A on the left, B on the right, by one clock.",
                parts=_clips(folder, told, embed, clips),
            ),
            Section(
                title="Measures",
                lead="Of the clips as each recipe gives them: evenness of times, repeats, jumps, flicker, sharpness.",
                parts=_measures(_rows(told.get("measures"))),
            ),
            Section(
                title="Pixels",
                lead="One part changed at a time, at the same instants: how many of 255 levels apart.",
                parts=_pixels(told.get("pixels")),
            ),
            Section(title="Record", parts=_record(told)),
        ),
    )


def _rows(told: Any) -> list[Told]:
    return [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []


def _tiles(told: Told, flags: int) -> tuple[Tile, ...]:
    rejected, alone = len(told.get("rejected") or ()), len(told.get("without_partner") or ())
    differ = ", ".join(map(str, told.get("differ_in") or ())) or "nothing"
    return (
        Tile(name="red flags", value=str(flags), tone="bad" if flags else "good"),
        Tile(name="clips", value=whole(told.get("clips")), detail=f"matched by {told.get('matched_by') or 'clip id'}"),
        Tile(name="the recipes differ in", value=differ),
        Tile(name="without partner", value=str(alone), detail=f"{rejected} could not be decoded"),
    )


def _findings(findings: list[Told]) -> tuple[Part, ...]:
    if not findings:
        return (Note(text="Nothing was found.", tone="good"),)
    rows = []
    for one in findings:
        severity = str(one.get("severity", "?"))
        judged = Cell(severity, tone=_TONES.get(severity, ""))
        rows.append((Cell(str(one.get("part", "?"))), judged, Cell(str(one.get("text", "")))))
    columns = (Column("part"), Column("what it is"), Column("finding"))
    return (Table(caption=plural(len(rows), "finding"), columns=columns, rows=tuple(rows)),)


def _clips(folder: str, told: Told, embed: Embedder, most: int) -> tuple[Part, ...]:
    samples = _rows(told.get("samples"))[:most]
    films = tuple(
        Film(source=embed.file(folder, str(one.get("file", ""))), name=f"A and B: {str(one.get('name', '?'))[:12]}")
        for one in samples
    )
    sheet = told.get("contact_sheet")
    parts: list[Part] = [Gallery(films=films, wide=True)] if films else []
    if sheet:
        source = embed.file(folder, str(sheet))
        parts.append(Fold(title="Frame by frame, with the difference", parts=(_sheet(source),)))
    return tuple(parts) or (Note(text="No clips were written."),)


def _sheet(source: str) -> Part:
    return Gallery(films=(Film(source=source, name="A, B, and where they differ"),), wide=True)


def _measures(measures: list[Told]) -> tuple[Part, ...]:
    rows = []
    for one in measures:
        told = interval(one.get("low"), one.get("high"))
        beyond = Cell("yes", tone="warn") if one.get("beyond_noise") else Cell("no", tone="quiet")
        name = Cell(str(one.get("name", "?")).replace("_", " "), detail=str(one.get("says") or ""))
        values = (Cell(number(one.get("a"))), Cell(number(one.get("b"))), Cell(number(one.get("difference")), told))
        rows.append((name, *values, beyond))
    if not rows:
        return (Note(text="Nothing was measured."),)
    numbers = (Column(title, number=True) for title in ("A", "B", "B less A"))
    columns = (Column("measure"), *numbers, Column("beyond noise?"))
    return (Table(caption="Means over clips, with 95 % intervals of pairs", columns=columns, rows=tuple(rows)),)


def _pixels(told: Any) -> tuple[Part, ...]:
    parts = {str(k): v for k, v in told.items() if isinstance(v, Mapping)} if isinstance(told, Mapping) else {}
    if not parts:
        return (Note(text="The recipes differ in nothing that changes pixels at the same instants."),)
    rows, figures = [], []
    for name, one in parts.items():
        shift = " ".join(f"{known(channel) or 0.0:+.2f}" for channel in one.get("shift_rgb") or ())
        told_levels = Cell(number(one.get("levels")), interval(one.get("low"), one.get("high")))
        worst = one.get("worst") or {}
        cells = (told_levels, Cell(shift), Cell(percent(one.get("same_frames"))), Cell(str(worst.get("clip", ""))))
        rows.append((Cell(name), *cells))
        figures += _per_clip(name, one.get("per_clip"))
    heads = (Column("levels of 255", number=True), Column("shift of red, green, blue"), Column("same frames"))
    columns = (Column("only this changed"), *heads, Column("worst clip"))
    table = Table(caption="Pixels at the same instants", columns=columns, rows=tuple(rows))
    return (table, Grid(figures=tuple(figures))) if figures else (table,)


def _per_clip(name: str, told: Any) -> list[Figure]:
    levels = {str(k): known(v) or 0.0 for k, v in told.items()} if isinstance(told, Mapping) else {}
    if not levels:
        return []
    says = f"{plural(len(levels), 'clip')}, of which {sum(v > 0 for v in levels.values())} differ."
    axes = Axes(y="levels of 255", whole_y=True)
    names = [clip[:12] for clip in levels]
    colours = (palette.ORANGE,)
    return [bars(f"Pixels per clip: {name}", says, {name: list(levels.values())}, names, axes, colours=colours)]


def _record(told: Told) -> tuple[Part, ...]:
    shown = {"findings", "measures", "pixels", "samples", "contact_sheet", "verdict", "names", "differ_in"}
    return (Facts(pairs=pairs_of({key: value for key, value in told.items() if key not in shown})),)
