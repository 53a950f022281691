"""What a curation left out of a version, and why: a lake's version goes in; sections, a verdict and a tile come out.

All figures are those of the version's own rows (`curate/review.py`): rules alone and together, which clips each names,
copies and cuts. Lists are cut at a stated length and name the command that gives the whole, so that a page of a million
clips is no larger than one of a thousand.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cineray.curate.homes import CURATION_LAYER
from cineray.curate.review import LeftOut, Review, curation_of, review
from cineray.curate.rules import DUPLICATE, RuleCount, counts
from cineray.lake import Lake, Version
from cineray.report import palette
from cineray.report.content import Cell, Column, Commands, Note, Part, Section, Table, Tile, Verdict
from cineray.report.embed import Embedder
from cineray.report.lake_edges import copies_parts, cut_parts, edge_parts, sets_of_copies
from cineray.report.lake_measures import measure_parts
from cineray.report.lake_pictures import Pictures
from cineray.report.lake_strips import names_of
from cineray.report.plots import counts as counts_plot
from cineray.report.wording import UNKNOWN, number, percent, plural, seconds_text, whole

MOST_NAMED = 400
"""Clips that are listed by name, shared out evenly among the rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curation:
    """What a lake's page says of its curation; empty where there was none."""

    sections: tuple[Section, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    tiles: tuple[Tile, ...] = ()


def curation(lake: Lake, version: Version, embed: Embedder, *, clips: int) -> Curation:
    """All of it. Of each kind of picture at most `clips` are shown."""
    made_by = curation_of(lake, version)
    if made_by is None:
        return Curation()
    told = review(lake, version, made_by)
    removed = counts(told.table, told.reasons)
    sets = sets_of_copies(lake, told)
    kept = {video_id: kept for members in sets.values() for video_id, kept in members.items()}
    ids = [told.table.listed[told.video_V[one.draft]].video_id for one in named(told)]
    names = names_of(lake, version, [*ids, *(kept[video_id] for video_id in ids if video_id in kept)])
    with Pictures(lake, version, embed) as pictures:
        sections = (
            Section(title="Left out", lead=_LEFT_OUT, parts=_left_out(lake, told, removed, names, kept)),
            Section(title="At the edge of each rule", lead=_EDGE, parts=edge_parts(lake, told, pictures, clips)),
            Section(title="Copies", lead=_copies_lead(made_by), parts=copies_parts(lake, told, sets, pictures, clips)),
            Section(title="Cuts", lead=_cuts_lead(made_by), parts=cut_parts(lake, told, pictures, clips)),
            Section(title="Measures", lead=_MEASURES, parts=measure_parts(told)),
        )
    gone = int((~told.kept).sum())
    share = percent(gone / len(told.kept)) if len(told.kept) else UNKNOWN
    tile = Tile(name="left out", value=whole(gone), detail=f"clips, {share} of {len(told.kept):,}")
    return Curation(
        sections=tuple(section for section in sections if section.parts),
        verdicts=(Verdict(text=_verdict(told, removed), about="Curation"),),
        tiles=(tile,),
    )


_LEFT_OUT = (
    "Alone: what a rule would remove if it were the only one. Together: clips whose row names it, because it is the "
    "first that holds. Only it: what would come back without it."
)
_EDGE = (
    "The clips that a rule only just left out, and those that it only just kept: is its threshold where you want it? "
    "Kept by this rule; another may have left it out."
)
_MEASURES = (
    "Of all clips that there could be (grey), and of those that are left (blue): what is grey only was left out. A "
    "column that says something of a video counts once for each of its clips."
)


def _copies_lead(made_by: Version) -> str:
    told = "Videos that show the same. They share a group, and so a split"
    best = (made_by.processing.get("duplicates") or {}).get("keep") == "best"
    return f"{told}; what another that is kept shows as well is left out." if best else f"{told}."


def _cuts_lead(made_by: Version) -> str:
    held = (made_by.processing.get("cuts") or {}).get("at") == "scenes"
    return (
        f"Where scenes begin{'; no clip crosses a boundary' if held else ''}. The pictures are the last two frames "
        "before a boundary and the first two after it."
    )


def _verdict(told: Review, removed: Sequence[RuleCount]) -> str:
    kept, drafts = int(told.kept.sum()), len(told.kept)
    length = f"{seconds_text(told.seconds[told.kept].sum())} of {seconds_text(told.seconds.sum())}"
    said = f"{plural(kept, 'clip')} of {drafts:,} {'are' if kept != 1 else 'is'} left ({length})"
    most = sorted((rule for rule in removed if rule.first), key=lambda rule: -rule.first)[:4]
    if not most:
        return f"{said}; nothing was left out."
    return f"{said}. Left out most: {', '.join(f'{rule.name} {rule.first:,}' for rule in most)}."


def named(told: Review) -> list[LeftOut]:
    """The clips that are listed by name: of each rule as many, as far as there is room."""
    rules = [told.examples.get(reason.name, []) for reason in told.reasons]
    each = MOST_NAMED // max(1, sum(bool(rule) for rule in rules))
    return [one for rule in rules for one in sorted(rule, key=lambda one: one.draft)[:each]]


def _left_out(
    lake: Lake, told: Review, removed: Sequence[RuleCount], names: Mapping[str, str], kept: Mapping[str, str]
) -> tuple[Part, ...]:
    by_rule = {rule.name: float(rule.first) for rule in removed if rule.first}
    parts: list[Part] = [_rules_table(told, removed)]
    if by_rule:
        says = f"{plural(int(sum(by_rule.values())), 'clip')}, each counted by the rule that its row names."
        parts.append(counts_plot("Clips left out, by rule", says, by_rule, unit="clips", colour=palette.RED))
        parts.append(_list(told, names, kept))
    else:
        parts.append(Note(text="Nothing was left out.", tone="good"))
    where = shlex.quote(lake.uri)
    lines = [("All that was left out, as rows", f"cineray lake query {where} --from {CURATION_LAYER} --limit 0")]
    if names:
        lines.append(
            ("All that is known of one video", f"cineray lake explain {where} {shlex.quote(min(names.values()))}")
        )
    return (*parts, Commands(lines=tuple(lines)))


def _rules_table(told: Review, removed: Sequence[RuleCount]) -> Table:
    rows = [
        (
            Cell(rule.name, detail=rule.told),
            *(Cell(f"{value:,}", tone="" if value else "quiet") for value in (rule.alone, rule.first, rule.only)),
            Cell(seconds_text(rule.seconds), tone="" if rule.seconds else "quiet"),
        )
        for rule in removed
    ]
    gone = ~told.kept
    rows.append(
        (
            Cell("all of them"),
            Cell(""),
            Cell(f"{int(gone.sum()):,}"),
            Cell(""),
            Cell(seconds_text(told.seconds[gone].sum())),
        )
    )
    heads = ("alone", "together", "only it", "length")
    columns = (Column("rule"), *(Column(head, number=True) for head in heads))
    return Table(
        caption="Clips that each rule removes, in the order in which they are asked", columns=columns, rows=tuple(rows)
    )


def _list(told: Review, names: Mapping[str, str], kept: Mapping[str, str]) -> Table:
    rows = tuple(_row(told, one, names, kept) for one in named(told))
    gone = int((~told.kept).sum())
    caption = plural(gone, "clip") if len(rows) == gone else f"{len(rows):,} of {gone:,} clips, some of each rule"
    columns = (
        Column("video"),
        Column("from, s", number=True),
        Column("to, s", number=True),
        Column("rule"),
        Column("figures"),
    )
    return Table(caption=f"Left out: {caption}", columns=columns, rows=rows, search="Search: a name, a rule")


def _row(told: Review, one: LeftOut, names: Mapping[str, str], kept: Mapping[str, str]) -> tuple[Cell, ...]:
    draft = told.table.drafts[one.draft]
    video_id = told.table.listed[draft.video].video_id
    also = ", ".join(str(rule) for rule in one.told.get("also") or ())
    start, end = told.span_seconds(one.draft)
    return (
        Cell(names.get(video_id, video_id[:16]), detail=video_id[:16]),
        Cell(number(start)),
        Cell(number(end)),
        Cell(str(one.told["rule"]), detail=f"also {also}" if also else ""),
        Cell(_figures(one.told, names.get(kept.get(video_id, ""), ""))),
    )


def _figures(told: Mapping[str, Any], kept: str) -> str:
    if told["rule"] == DUPLICATE and kept:
        return f"kept is {kept}"
    if told.get("detail"):
        return f"{told.get('reason', '')}: {told['detail']}"
    figures = told.get("figures") or {}
    return ", ".join(
        f"{name} {number(value) if isinstance(value, float) else value}" for name, value in figures.items()
    )
