"""What standardising changed: a lake's version goes in; sizes, pictures and what a clip costs, before and after, leave.

Sizes and quality are what the version's rows say of each video. What a clip costs to decode follows from both versions'
frame tables for one stated way of drawing clips, as `cineray plan` has it: nothing is decoded for it.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cineray.curate.review import lineage
from cineray.errors import CinerayError
from cineray.lake import Lake, Version
from cineray.plan.cost import PlanCost
from cineray.report.content import Cell, Column, Commands, Facts, Grid, Note, Part, Section, Table
from cineray.report.lake_tallies import Kept
from cineray.report.plots import histogram
from cineray.report.values import pairs_of
from cineray.report.wording import TIMES, bytes_text, clipped, number, percent, plural, whole

ENCODING_LAYER = "layers/encoding"
FRAMES, SIDE_PX = 16, 128
_VISITS = 64
Row = tuple[str, str, str]
"""What, before, after."""


@dataclass(slots=True)
class _Side:
    """The videos of one version that were standardised."""

    videos: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    frames: int = 0
    key_frames: int = 0
    codecs: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Encoded:
    """What the rows of the layer say."""

    sources: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    psnr_db: Kept = field(default_factory=Kept)
    worst_psnr_db: float = float("inf")
    ratios: Kept = field(default_factory=Kept)
    """Bytes after over bytes before, of each video."""


def standardised_section(lake: Lake, version: Version) -> Section:
    """Without parts where nothing was standardised."""
    made_by = next((one for one in lineage(lake, version) if one.processing.get("kind") == "standardise"), None)
    told = _encoded(lake, version)
    if made_by is None or not told.made:
        return Section(title="Standardised", parts=())
    before = _version(lake, made_by.parent)
    after_side = _side(lake, version, told.made)
    before_side = _side(lake, before, told.sources) if before is not None else None
    rows = [*_rows(before_side, after_side), *_cost_rows(lake, before, made_by)]
    columns = (Column("of the same videos"), Column("before"), Column("after"))
    cells = tuple((Cell(name), Cell(old), Cell(new)) for name, old, new in rows)
    caption = f"{plural(after_side.videos, 'video')}; {_drawn()}"
    parts: list[Part] = [Table(caption=caption, columns=columns, rows=cells), Facts(pairs=_quality(told, made_by))]
    parts += _figures(told)
    return Section(title="Standardised", lead=_LEAD, parts=(*parts, _left_out(lake, version), _commands(lake, made_by)))


_LEAD = (
    "Videos encoded once for training: short groups of pictures, one codec, no more pixels than are wanted. When each "
    "frame was shown in the source is kept exactly, in the layer source_times."
)


def _drawn() -> str:
    return f"clips are {FRAMES} frames drawn at random, shown as {SIDE_PX} {TIMES} {SIDE_PX}"


def _version(lake: Lake, number: int | None) -> Version | None:
    try:
        return None if number is None else lake.resolve(number)
    except CinerayError:
        return None  # it was retired: what it held is no longer known


def _encoded(lake: Lake, version: Version) -> _Encoded:
    found = _Encoded()
    if ENCODING_LAYER in version.tables:
        for batch in lake.scan(version, ENCODING_LAYER, ["video_id", "value"]):
            for row in batch.to_pylist():
                told = json.loads(row["value"])
                found.made.add(row["video_id"])
                found.sources.add(told["source_video_id"])
                found.psnr_db.add(told["psnr_db"])
                found.worst_psnr_db = min(found.worst_psnr_db, told["worst_psnr_db"])
                if told["bytes_before"]:
                    found.ratios.add(told["bytes_after"] / told["bytes_before"])
    return found


def _side(lake: Lake, version: Version, wanted: set[str]) -> _Side:
    found = _Side()
    names = ["video_id", "codec", "width", "height", "size_bytes", "duration_seconds", "num_frames", "num_key_frames"]
    for batch in lake.scan(version, "media", names, "state = 'ready'"):
        for row in batch.to_pylist():
            if row["video_id"] in wanted:
                _add(found, row)
    return found


def _add(found: _Side, row: Mapping[str, Any]) -> None:
    found.videos += 1
    found.size_bytes += row["size_bytes"] or 0
    found.seconds += row["duration_seconds"] or 0.0
    found.frames += row["num_frames"] or 0
    found.key_frames += row["num_key_frames"] or 0
    found.codecs[str(row["codec"])] += 1
    found.sizes[f"{row['width']} {TIMES} {row['height']}"] += 1


def _rows(before: _Side | None, after: _Side) -> list[Row]:
    old, new = (_told(side) for side in (before or _Side(), after))
    return [(name, old[name] if before is not None else "not known", new[name]) for name in new]


def _told(side: _Side) -> dict[str, str]:
    return {
        "size": bytes_text(side.size_bytes),
        "a second of video": bytes_text(side.size_bytes / side.seconds if side.seconds else None),
        "codec": _most(side.codecs),
        "pixels": _most(side.sizes),
        "from key frame to key frame": f"{number(side.frames / side.key_frames if side.key_frames else None)} frames",
    }


def _most(found: Counter[str], most: int = 3) -> str:
    named = [f"{name} ({percent(count / found.total())})" for name, count in found.most_common(most)]
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(named) + (f" and {len(found) - most} more" if len(found) > most else "")


def _cost_rows(lake: Lake, before: Version | None, after: Version) -> list[Row]:
    """What clips cost, by both versions' frame tables."""
    old, new = (_cost(lake, one) if one is not None else None for one in (before, after))
    if new is None:
        return []
    told = [_cost_told(one) if one is not None else dict.fromkeys(_cost_told(new), "not known") for one in (old, new)]
    return [(name, told[0][name], told[1][name]) for name in told[1]]


def _cost(lake: Lake, version: Version) -> PlanCost | None:
    from cineray.feed import FeedSpec
    from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec

    recipe = Recipe(
        datasets=(DatasetSpec(lake=lake.uri, version=str(version.number), split=None),),
        sampling=SamplingSpec(mode="random", frames=FRAMES, short_videos="pad"),
        frame=FrameSpec(height=SIDE_PX, width=SIDE_PX),
        batch_size=1,
    )
    try:
        return FeedSpec(recipe=recipe).open().plan.cost(visits=_VISITS)
    except CinerayError:
        return None  # no clip of it can be drawn so


def _cost_told(cost: PlanCost) -> dict[str, str]:
    each = max(cost.clips, 1)
    return {
        "decoded for each frame of a clip": f"{number(cost.frames_decoded_per_frame_used)} frames",
        "decoding a clip, estimated": f"{number(1000 * cost.decode_cpu_seconds_per_epoch / each)} ms of a core",
        "read for a clip": bytes_text(cost.bytes_per_epoch / each),
    }


def _quality(told: _Encoded, made_by: Version) -> tuple[tuple[str, str], ...]:
    values = told.psnr_db.values
    facts = {
        "PSNR, mean of videos": f"{number(sum(values) / len(values))} dB",
        "PSNR, worst frame looked at": f"{number(told.worst_psnr_db)} dB",
        "made by version": whole(made_by.number),
    }
    return (*facts.items(), *pairs_of(made_by.processing["encoding"]))


def _figures(told: _Encoded) -> tuple[Part, ...]:
    if len(told.made) < 2:
        return ()
    says = "Of brightness, against what went into the encoder: what encoding lost, not what the smaller size did."
    psnr = histogram("PSNR of each video", says, told.psnr_db.values, unit="dB")
    size = histogram("Size of each video", "Bytes after over bytes before.", told.ratios.values, unit="of what it was")
    return (Grid(figures=(psnr, size), small=True),)


def _left_out(lake: Lake, version: Version) -> Part:
    reasons: Counter[str] = Counter()
    table = "layers/curation"
    if table in version.tables:
        for batch in lake.scan(version, table, ["value"], "author = 'standardise'"):
            reasons.update(str(json.loads(row["value"]).get("reason")) for row in batch.to_pylist())
    if not reasons:
        return Note(text="No video was left out on the way.", tone="good")
    told = ", ".join(f"{reason} {many:,}" for reason, many in reasons.most_common())
    return Note(
        text=clipped(f"Clips left out because their video could not be standardised: {told}.", 400), tone="warn"
    )


def _commands(lake: Lake, made_by: Version) -> Commands:
    where = shlex.quote(lake.uri)
    return Commands(
        lines=(
            ("What standardised it", made_by.command),
            (
                "What suits a job of yours, measured on its clips",
                f"cineray standardise {where} --version {made_by.parent} --advise JOB",
            ),
            ("A dataset card to go with the shards", f"cineray lake card {where} --version {made_by.number}"),
        )
    )
