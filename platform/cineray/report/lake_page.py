"""The page of a lake's version: what it holds, what its clips look like, what was left out and why, and who made it."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from itertools import islice
from typing import Any

from cineray.curate.review import lineage
from cineray.lake import Lake, Version
from cineray.report import palette
from cineray.report.content import (
    Cell,
    Column,
    Commands,
    Facts,
    Fold,
    Grid,
    Note,
    Page,
    Part,
    Section,
    Table,
    Text,
    Tile,
    Verdict,
)
from cineray.report.embed import Embedder
from cineray.report.lake_curation import Curation, curation
from cineray.report.lake_standardised import standardised_section
from cineray.report.lake_strips import strip_parts
from cineray.report.lake_tallies import MOST_REJECTS, Tallies, tally
from cineray.report.plots import Axes, bars, counts, histogram
from cineray.report.values import pairs_of
from cineray.report.wording import bytes_text, clipped, moment, number, percent, plural, seconds_text, whole

_TOP = 8
_MOST_VERSIONS = 40
_MOST_LABELS = 24


def lake_page(uri: str, ref: str, embed: Embedder, *, clips: int) -> Page:
    """All of it."""
    lake = Lake.open(uri)
    version = lake.resolve(ref)
    facts, found = lake.show(version.number), tally(lake, version)
    curated = curation(lake, version, embed, clips=clips)
    splits = {
        str(split or ""): int(count) for split, count in sorted(facts["splits"].items(), key=lambda pair: -pair[1])
    }
    tags = f" ({', '.join(facts['tags'])})" if facts["tags"] else ""
    sections = (
        Section(title="Clips", lead=_CLIPS, parts=strip_parts(lake, version, splits, found.sizes, embed, clips=clips)),
        Section(title="Splits", lead="No group of videos lies in two of them.", parts=_splits(splits, found)),
        Section(title="Videos", parts=_videos(found)),
        *curated.sections,
        standardised_section(lake, version),
        Section(title="Rejects", lead=_REJECTS, parts=_rejects(found)),
        Section(title="Versions", lead="From this one back to the first.", parts=(_lineage(lake, version),)),
        Section(title="Record", lead="What made this version; it never changes.", parts=_record(uri, facts)),
    )
    return Page(
        subject="Lake version",
        title=f"{uri.rstrip('/').rpartition('/')[2] or uri}, version {version.number}{tags}",
        where=uri,
        made_at=f"made {moment(facts['created_at'])} by {facts['author']}",
        verdicts=(Verdict(text=_verdict(found, curated), tone="warn" if found.reasons else "good"), *curated.verdicts),
        tiles=(*_tiles(facts, found), *curated.tiles),
        sections=tuple(section for section in sections if section.parts),
    )


_CLIPS = (
    "Some of each split, from all labels evenly: frames at even distances over the whole clip, as a model sees them."
)
_REJECTS = "Files that could not be taken in at all."


def _verdict(found: Tallies, curated: Curation) -> str:
    rejected = sum(found.reasons.values())
    # Curation says by itself how much of them is left to train on.
    what = "" if curated.verdicts else " to train on"
    good = f"{plural(found.videos, 'video')}{what}, {seconds_text(found.seconds)} of film"
    if not rejected:
        return f"{good}; nothing was rejected."
    told = ", ".join(f"{reason} {many:,}" for reason, many in found.reasons.most_common(4))
    share = percent(rejected / (rejected + found.videos))
    return f"{good}; {plural(rejected, 'file was', 'files were')} rejected ({share}): {told}."


def _tiles(facts: dict[str, Any], found: Tallies) -> tuple[Tile, ...]:
    rejected = sum(found.reasons.values())
    return (
        Tile(name="videos", value=whole(found.videos), detail=f"{whole(facts['clips'])} clips"),
        Tile(name="length", value=seconds_text(found.seconds), detail=f"{whole(found.frames)} frames"),
        Tile(name="size", value=bytes_text(found.size_bytes)),
        Tile(name="variable rate", value=whole(found.variable), detail="videos, sampled in true time"),
        Tile(name="with captions", value=whole(found.captioned), detail=f"{whole(found.with_audio)} with sound"),
        Tile(
            name="rejected", value=whole(rejected), detail="files, each with a reason", tone="warn" if rejected else ""
        ),
    )


def _splits(splits: dict[str, int], found: Tallies) -> tuple[Part, ...]:
    total = sum(splits.values()) or 1
    rows = tuple(
        (Cell(split or "(none)"), Cell(f"{many:,}"), Cell(percent(many / total))) for split, many in splits.items()
    )
    columns = (Column("split"), Column("clips", number=True), Column("share", number=True))
    parts: list[Part] = [Table(caption="Clips by split", columns=columns, rows=rows)]
    by_label: Counter[str] = Counter()
    for (_, label), many in found.labels.items():
        by_label[label] += many
    if set(by_label) - {""}:
        parts.append(_labels(splits, found, by_label))
    return tuple(parts)


def _labels(splits: dict[str, int], found: Tallies, by_label: Counter[str]) -> Part:
    shown = [label for label, _ in by_label.most_common(_MOST_LABELS)]
    groups = {split or "(none)": [float(found.labels[split, label]) for label in shown] for split in splits}
    rest = len(by_label) - len(shown)
    told = f"{plural(len(by_label), 'label')}" + (f", the {len(shown)} most usual are shown" if rest else "")
    names = [label or "(none)" for label in shown]
    return bars("Clips by label and split", f"{told}.", groups, names, Axes(y="clips", whole_y=True), height_px=340)


def _videos(found: Tallies) -> tuple[Part, ...]:
    if not found.videos:
        return (Note(text="This version holds no video to train on."),)
    lengths = found.lengths.values
    middle = sorted(lengths)[len(lengths) // 2] if lengths else 0.0
    figures = (
        [histogram("Length", f"Half are longer than {number(middle)} s.", lengths, unit="seconds")] if lengths else []
    )
    for title, tallied, unit, colour in (
        ("Frames per second", found.rates, "videos", palette.GREEN),
        ("Size in pixels, upright", found.sizes, "videos", palette.PURPLE),
        ("Codec", found.codecs, "videos", palette.TEAL),
        ("Container", found.containers, "videos", palette.OCHRE),
    ):
        most, rest = tallied.most_common(_TOP), len(tallied) - _TOP
        says = f"The {_TOP} most usual of {len(tallied):,}." if rest > 0 else f"{plural(len(tallied), 'kind')}."
        figures.append(counts(title, says, dict(most), unit=unit, colour=colour))
    return (Grid(figures=tuple(figures), small=True),)


def _rejects(found: Tallies) -> tuple[Part, ...]:
    many = sum(found.reasons.values())
    if not many:
        return (Note(text="Nothing was rejected.", tone="good"),)
    says = "A file that was rejected is a row with a reason, not a gap."
    figure = counts("Rejects by reason", says, dict(found.reasons.most_common(20)), unit="files", colour=palette.RED)
    rows = tuple(
        (Cell(name.rpartition("/")[2], detail=name), Cell(why), Cell(told)) for name, why, told in found.rejects
    )
    caption = f"The first {MOST_REJECTS} of {many:,}" if many > len(rows) else plural(many, "file")
    columns = (Column("file"), Column("reason"), Column("in detail"))
    return (figure, Table(caption=caption, columns=columns, rows=rows))


def _lineage(lake: Lake, version: Version) -> Part:
    """Each version that this one was made of."""
    chain = list(islice(lineage(lake, version), _MOST_VERSIONS + 1))
    rows = tuple(
        (
            Cell(whole(one.number)),
            Cell(_made_by(one), detail=one.message),
            Cell(whole(one.counts.get("videos", 0))),
            Cell(whole(one.counts.get("clips", 0))),
            Cell(moment(one.created_at), detail=one.author),
            Cell(clipped(one.command, 200), mono=True),
        )
        for one in chain[:_MOST_VERSIONS]
    )
    heads = (Column("version"), Column("made by"), Column("videos", number=True), Column("clips", number=True))
    more = f"the newest {_MOST_VERSIONS}" if len(chain) > _MOST_VERSIONS else plural(len(rows), "version")
    return Table(caption=more, columns=(*heads, Column("when"), Column("command")), rows=rows)


def _made_by(version: Version) -> str:
    """What kind of work made a version, as its record says."""
    told = version.processing
    kinds = ("curate", "standardise")  # an ingest's own `kind` is its source's
    return str(told["kind"]) if told.get("kind") in kinds else "annotate" if "layer" in told else "ingest"


def _record(uri: str, facts: dict[str, Any]) -> tuple[Part, ...]:
    told = {name: facts[name] for name in ("version", "parent", "tags", "created_at", "author", "source", "message")}
    states = [
        (Cell(name), Cell(whole(t["rows"])), Cell(t["fingerprint"][:32], mono=True))
        for name, t in facts["tables"].items()
    ]
    columns = (Column("table"), Column("rows", number=True), Column("fingerprint"))
    where, version = shlex.quote(uri), facts["version"]
    commands = (
        ("What made it", str(facts["command"])),
        ("The same facts", f"cineray lake show {where} --version {version}"),
        ("What changed since its parent", f"cineray lake diff {where} {facts['parent'] or version} {version}"),
        ("Is all still there, byte for byte?", f"cineray lake verify {where} --version {version} --media hash"),
        ("Make this page again", f"cineray report {where} --version {version}"),
    )
    return (
        Facts(pairs=pairs_of(told)),
        Facts(pairs=(("fingerprint", str(facts["fingerprint"])),), mono=True),
        Table(caption="Tables of this version", columns=columns, rows=tuple(states)),
        Fold(title="Software", parts=(Facts(pairs=pairs_of(facts["software"])),)),
        Fold(title="Processing and split rule", parts=(Text(text=_json(facts)),)),
        Commands(lines=commands),
    )


def _json(facts: dict[str, Any]) -> str:
    told = {name: facts[name] for name in ("processing", "split_rule")}
    return json.dumps(told, indent=1, default=str, ensure_ascii=False)
