"""What a curation decided, in pictures: clips at the edge of each rule, sets of copies, and the cuts that were found.

A review goes in; galleries leave, each with at most so many clips, however large the lake is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cineray.curate.changes import DUPLICATES_LAYER, SCENES_LAYER
from cineray.curate.config import OWN_REASONS
from cineray.curate.edges import edge_of
from cineray.curate.review import Review
from cineray.curate.rules import Reason
from cineray.lake import Lake, Version, unpack_text
from cineray.report import palette
from cineray.report.content import Facts, Film, Gallery, Grid, Heading, Note, Part
from cineray.report.lake_pictures import Pictures, Stretch
from cineray.report.lake_strips import names_of
from cineray.report.plots import counts, histogram
from cineray.report.wording import TIMES, bytes_text, known, number, plural, seconds_text, whole

MOST_A_SIDE = 6
_MOST_OF_A_SET = 4
UNREADABLE, _, DUPLICATE = OWN_REASONS


# ---- at the edge of each rule ----------------------------------------------------------------------------------------


def edge_parts(lake: Lake, told: Review, pictures: Pictures, clips: int) -> tuple[Part, ...]:
    """For each rule that left anything out, the nearest clips on both sides."""
    shown = [one for one in told.reasons if one.holds.any() and one.name not in (UNREADABLE, DUPLICATE)]
    each = min(clips // max(2 * len(shown), 1), MOST_A_SIDE)
    if not shown or not each:
        return ()
    parts: list[Part] = []
    for reason in shown:
        edge = edge_of(told.table, reason, each)
        ids = [told.table.listed[told.video_V[draft]].video_id for draft in (*edge.left_out, *edge.kept)]
        names = names_of(lake, told.version, ids)
        order = "" if edge.is_known else "; it compares nothing with a number, so these are in the order of videos"
        parts.append(Heading(text=reason.name, detail=f"{reason.told}{order}"))
        for drafts, word in ((edge.left_out, "left out"), (edge.kept, "kept")):
            stretches = [_edge_stretch(told, reason, draft, word, names) for draft in drafts]
            parts += [Gallery(films=pictures.films(stretches), wide=True)] if stretches else []
    return tuple(parts)


def _edge_stretch(told: Review, reason: Reason, draft: int, word: str, names: Mapping[str, str]) -> Stretch:
    one = told.table.drafts[draft]
    listed = told.table.listed[one.video]
    figures = ", ".join(f"{name} {number(told.values(name)[draft])}" for name in reason.figures)
    start, end = told.span_seconds(draft)
    detail = f"{names.get(listed.video_id, listed.video_id[:12])}, {number(start)} to {number(end)} s"
    return Stretch(
        listed=listed,
        start_pts=one.start_pts,
        end_pts=one.end_pts,
        name=f"{word}: {figures or reason.name}",
        detail=detail,
    )


# ---- copies ----------------------------------------------------------------------------------------------------------


def copies_parts(
    lake: Lake, told: Review, sets: Mapping[str, Mapping[str, str]], pictures: Pictures, clips: int
) -> tuple[Part, ...]:
    """How many sets there are, and some of them: copies that are kept, each followed by those that it stands for."""
    if not sets:
        return ()
    members = sum(len(ids) for ids in sets.values())
    gone = sum(len(set(ids) - told.with_clips) for ids in sets.values())
    facts = (
        ("sets", whole(len(sets))),
        ("videos in them", whole(members)),
        ("without a clip", whole(gone)),
        ("largest set", whole(max(len(ids) for ids in sets.values()))),
    )
    parts: list[Part] = [Facts(pairs=facts)]
    shown = dict(list(sets.items())[: max(clips // 3, 1)] if clips else [])
    names = names_of(lake, told.version, [video_id for ids in shown.values() for video_id in ids])
    for at, ids in enumerate(shown.values(), 1):
        some = list(ids.items())[:_MOST_OF_A_SET]
        stretches = [_copy_stretch(told, video_id, names, kept) for video_id, kept in some]
        more = f", {_MOST_OF_A_SET} of them shown" if len(ids) > _MOST_OF_A_SET else ""
        parts.append(Heading(text=f"Set {at}", detail=f"{plural(len(ids), 'video')}{more}"))
        parts.append(Gallery(films=pictures.films(stretches), wide=True))
    if len(shown) < len(sets):
        parts.append(Note(text=f"{len(shown):,} of {len(sets):,} sets are shown; layers/duplicates has all."))
    return tuple(parts)


def sets_of_copies(lake: Lake, told: Review) -> dict[str, dict[str, str]]:
    """Of each set its members, each with the copy that is kept for it, maybe itself; kept ones first.

    Of a video that is no longer there nothing is said."""
    found: dict[str, dict[str, str]] = {}
    if DUPLICATES_LAYER in told.version.tables:
        for batch in lake.scan(told.version, DUPLICATES_LAYER, ["video_id", "value"]):
            for row in batch.to_pylist():
                value = json.loads(row["value"])
                if row["video_id"] in told.number_of and value.get("kept") in told.number_of:
                    found.setdefault(str(value["group"]), {})[row["video_id"]] = value["kept"]
    return {group: dict(sorted(found[group].items(), key=_kept_first)) for group in sorted(found)}


def _kept_first(member: tuple[str, str]) -> tuple[str, bool, str]:
    video_id, kept = member
    return kept, video_id != kept, video_id


def _copy_stretch(told: Review, video_id: str, names: Mapping[str, str], kept: str) -> Stretch:
    at = told.number_of[video_id]
    own = {name: told.numbers[name][at] for name in ("start_pts", "end_pts", "width", "height", "size_bytes")}
    facts = [
        f"{number(own['width'])} {TIMES} {number(own['height'])}",
        seconds_text(told.numbers["duration_seconds"][at]),
    ]
    facts.append(bytes_text(own["size_bytes"]))
    word = "kept" if video_id == kept else "kept too" if video_id in told.with_clips else "left out"
    return Stretch(
        listed=told.table.listed[at],
        start_pts=int(own["start_pts"]),
        end_pts=int(own["end_pts"]),
        name=f"{word}: {names.get(video_id, video_id[:12])}",
        detail=", ".join(facts),
    )


# ---- cuts ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Scenes:
    kinds: Counter[str] = field(default_factory=Counter)
    """How scenes begin, their videos' first ones apart."""
    of_video: Counter[str] = field(default_factory=Counter)
    some: list[tuple[str, int, int, str]] = field(default_factory=list)
    """Video, start, end and kind of some boundaries, each of another video."""


def cut_parts(lake: Lake, told: Review, pictures: Pictures, clips: int) -> tuple[Part, ...]:
    """How many there are of each kind, and pictures around some."""
    found = _scenes(lake, told, clips // 2)
    if not found.of_video:
        return ()
    per_video = Counter(found.of_video.values())
    usual = {plural(many, "scene"): float(videos) for many, videos in sorted(per_video.items())[:8]}
    cut = sum(count for count in found.kinds.values())
    says = f"{plural(cut, 'boundary', 'boundaries')} in {plural(len(found.of_video), 'video')}."
    figures = [counts("Scenes in a video", says, usual, unit="videos", colour=palette.TEAL)]
    if found.kinds:
        figures.insert(0, counts("How scenes begin", says, dict(found.kinds.most_common()), unit="scenes"))
    lengths = [one for one in told.seconds.tolist() if known(one) is not None]
    figures.append(histogram("Length of what was cut", "Before anything is left out.", lengths, unit="seconds"))
    names = names_of(lake, told.version, [video_id for video_id, *_ in found.some])
    stretches = [
        Stretch(
            listed=told.table.listed[told.number_of[video_id]],
            start_pts=start,
            end_pts=end,
            name=f"{kind}: {names.get(video_id, video_id[:12])}",
            detail=f"at {number(start * told.tick(told.number_of[video_id]))} s",
            around=True,
        )
        for video_id, start, end, kind in found.some
    ]
    films: tuple[Film, ...] = pictures.films(stretches)
    gallery = (Gallery(films=films, wide=True),) if films else ()
    return (Note(text=says), Grid(figures=tuple(figures), small=True), *gallery)


def _scenes(lake: Lake, told: Review, most: int) -> _Scenes:
    found = _Scenes()
    for video_id, start, end, kind in _scene_rows(lake, told.version):
        at = told.number_of.get(video_id)
        if at is None:
            continue
        found.of_video[video_id] += 1
        if start > told.numbers["start_pts"][at]:
            found.kinds[kind] += 1
            if len(found.some) < most and all(video_id != one for one, *_ in found.some):
                found.some.append((video_id, start, end, kind))
    return found


def _scene_rows(lake: Lake, version: Version) -> Iterator[tuple[str, int, int, str]]:
    if SCENES_LAYER in version.tables:
        for batch in lake.scan(version, SCENES_LAYER, ["video_id", "start_pts", "end_pts", "value"]):
            for row in batch.to_pylist():
                yield row["video_id"], row["start_pts"], row["end_pts"], unpack_text(row["value"])
