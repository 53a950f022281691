"""What a curated version says of itself, without a look at any video: a lake and a version go in; a `Review` leaves.

    clips, layers/curation     which drafts there were, which stay, and which rules hold for the others
    layers/quality             what was measured of each video; spans become the part of a draft that they cover
    the manifest               the rules themselves

So whoever asks afterwards (a report) counts and compares the very things that a dry run does (`rules.counts`,
`edges.edge_of`). What the rows say is told, and nothing is measured or decided anew. Figures are held as arrays, eight
bytes for each column of a video.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cineray.curate.clip_table import ClipTable
from cineray.curate.clips import Draft
from cineray.curate.config import OWN_REASONS
from cineray.curate.homes import AUTHOR, CURATION_LAYER
from cineray.curate.rules import Flags, Reason, named_columns
from cineray.curate.videos import Listed, survey
from cineray.lake import MEDIA, Lake, Version
from cineray.lake.measured import QUALITY_LAYER

Reals = npt.NDArray[np.float64]
CLIP_SECONDS = "clip_seconds"
MOST_KINDS = 1000
"""Values of a column of words that are counted apart."""
_MOST_LETTERS = 60
"""A longer text is no kind but data of its own: a signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Why one draft is no clip, as its row says it."""

    draft: int
    told: Mapping[str, Any]


@dataclass(slots=True, kw_only=True, eq=False)
class Review:
    """A curated version, told."""

    version: Version
    made_by: Version
    """The version that the curation made: `version`, or one before it."""
    table: ClipTable
    """All drafts in the order of their videos; `rows` has those columns that rules name."""
    reasons: list[Reason]
    kept: Flags
    """Which drafts are clips."""
    video_V: npt.NDArray[np.int64]
    """The video of each draft."""
    seconds: Reals
    """The length of each draft."""
    numbers: dict[str, Reals]
    """What is known of each video, by column; nan where it is not."""
    measured: tuple[str, ...]
    """Those of them that stages gave; the others are facts of media."""
    shares: dict[str, Reals]
    """Which part of each draft a column's spans cover."""
    words: dict[str, dict[str, tuple[int, int]]]
    """Columns that are text: how many drafts, and how many clips, have each value."""
    number_of: Mapping[str, int]
    """Each video's place in these arrays, by its id."""
    with_clips: frozenset[str]
    """Videos of which a clip is left."""
    examples: dict[str, list[LeftOut]]
    """By rule, some of what it left out."""

    def values(self, column: str) -> Reals:
        """A column's value for each draft."""
        if column == CLIP_SECONDS:
            return self.seconds
        return self.shares[column] if column in self.shares else self.numbers[column][self.video_V]

    def span_seconds(self, draft: int) -> tuple[float, float]:
        """When a draft begins and ends, on its video's own clock, for people."""
        one = self.table.drafts[draft]
        tick = self.tick(one.video)
        return one.start_pts * tick, one.end_pts * tick

    def tick(self, video: int) -> float:
        """Seconds of a video's unit of time."""
        return float(self.numbers["time_base_num"][video] / self.numbers["time_base_den"][video])

    def columns(self) -> list[str]:
        """All columns that are numbers."""
        return sorted({CLIP_SECONDS, *self.shares, *self.numbers})


def lineage(lake: Lake, version: Version) -> Iterator[Version]:
    """The version, the one that it was made from, and so on to the first."""
    wanted: int | None = version.number
    for one in lake.versions():
        if one.number == wanted:
            yield one
            wanted = one.parent
        if wanted is None:
            return


def curation_of(lake: Lake, version: Version) -> Version | None:
    """The curation whose clips a version has: itself, or the nearest before it; None where there was none."""
    return next((one for one in lineage(lake, version) if one.processing.get("kind") == "curate"), None)


def review(lake: Lake, version: Version, made_by: Version, *, most_examples: int = 200) -> Review:
    """All that the version says of its curation; at most so many examples for each rule."""
    spans = _Spans(lake, version, most_examples)
    listed, drafts = spans.listed, spans.drafts
    video_V = np.array([draft.video for draft in drafts], np.int64)
    media = _media_numbers(lake, version, spans.number)
    ticks = media["time_base_num"] / media["time_base_den"]
    lengths = np.array([draft.end_pts - draft.start_pts for draft in drafts], np.float64)
    found = _Measured(len(listed), drafts, spans.kept)
    for video, columns in _quality(lake, version, spans.number):
        found.take(video, columns)
    made = Review(
        version=version,
        made_by=made_by,
        table=ClipTable(tuple(listed), tuple(drafts), pa.table({}), {}, {}),
        reasons=[],
        kept=spans.kept,
        video_V=video_V,
        seconds=lengths * ticks[video_V] if len(drafts) else lengths,
        numbers={**media, **found.numbers},
        measured=tuple(sorted(found.numbers)),
        shares=found.shares,
        words={name: {value: (a, b) for value, (a, b) in told.items()} for name, told in found.words.items()},
        number_of=spans.number,
        with_clips=frozenset(listed[number].video_id for number in np.unique(video_V[spans.kept]).tolist()),
        examples=spans.examples,
    )
    made.reasons = list(_reasons(made, spans.holds, spans.because))
    named = {CLIP_SECONDS, *(name for reason in made.reasons for name in reason.figures)}
    rows = pa.table({name: pa.array(made.values(name), from_pandas=True) for name in sorted(named)})
    made.table = ClipTable(tuple(listed), tuple(drafts), rows, {}, {})
    return made


def _reasons(made: Review, holds: Mapping[str, Flags], because: Mapping[str, str]) -> Iterator[Reason]:
    """In the order in which they were asked: the curation's own first, then the job's rules, then duplicates."""
    rules = {str(rule["name"]): str(rule["leave_out"]) for rule in made.made_by.processing.get("rules") or ()}
    unreadable, too_short, duplicate = OWN_REASONS
    told = {name: because[name] for name in (unreadable, too_short) if name in because}
    told |= rules | {name: text for name, text in because.items() if name not in (unreadable, too_short, duplicate)}
    told |= {duplicate: because[duplicate]} if duplicate in because else {}
    none, columns = np.zeros(len(made.kept), np.bool_), made.columns()
    for name, text in told.items():
        yield Reason(name, text, holds.get(name, none), named_columns(text, columns))


class _Spans:
    """The drafts that a version has rows for, clips and left-out ones, in the order of their videos."""

    def __init__(self, lake: Lake, version: Version, most_examples: int) -> None:
        looked = set(_ids(lake, version, QUALITY_LAYER)) | set(_ids(lake, version, CURATION_LAYER))
        self.listed: list[Listed] = [one for one in survey(lake, version, None) if one.video_id in looked]
        self.number = {one.video_id: number for number, one in enumerate(self.listed)}
        found: list[tuple[int, int, int, int]] = [
            (self.number[row["video_id"]], row["start_pts"], row["end_pts"], -1)
            for row in _rows(lake, version, "clips", ["video_id", "start_pts", "end_pts"])
            if row["video_id"] in self.number
        ]
        rules: list[tuple[str, ...]] = []
        self.because: dict[str, str] = {}
        examples: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
        for row, told in _left_out(lake, version):
            if row["video_id"] in self.number:
                rule = str(told["rule"])
                found.append((self.number[row["video_id"]], row["start_pts"], row["end_pts"], len(rules)))
                self.because.setdefault(rule, str(told.get("because", rule)))
                if len(examples.setdefault(rule, [])) < most_examples:
                    examples[rule].append((len(rules), told))
                rules.append((rule, *told.get("also", ())))
        order = sorted(range(len(found)), key=found.__getitem__)
        place = {found[at][3]: draft for draft, at in enumerate(order)}
        self.drafts = [Draft(found[at][0], found[at][1], found[at][2], 0, None) for at in order]
        self.kept = np.array([found[at][3] < 0 for at in order], np.bool_)
        self.holds: dict[str, Flags] = {}
        for number, names in enumerate(rules):
            for name in names:
                self.holds.setdefault(name, np.zeros(len(order), np.bool_))[place[number]] = True
        self.examples = {
            rule: [LeftOut(draft=place[number], told=told) for number, told in some] for rule, some in examples.items()
        }


class _Measured:
    """Columns of videos as arrays, filled as their rows come."""

    def __init__(self, videos: int, drafts: list[Draft], kept: Flags) -> None:
        self.videos, self.drafts, self.kept = videos, drafts, kept
        self.first = np.searchsorted([draft.video for draft in drafts], np.arange(videos + 1))
        self.numbers: dict[str, Reals] = {}
        self.shares: dict[str, Reals] = {}
        self.words: dict[str, dict[str, tuple[int, int]]] = {}

    def take(self, video: int, columns: Mapping[str, Any]) -> None:
        """What one stage found in one video."""
        for name, value in columns.items():
            if isinstance(value, list):
                self._spans(video, name, value)
            elif isinstance(value, bool | int | float):
                self.numbers.setdefault(name, np.full(self.videos, np.nan))[video] = value
            elif isinstance(value, str) and len(value) <= _MOST_LETTERS:
                self._word(video, name, value)

    def _spans(self, video: int, name: str, spans: list[Any]) -> None:
        column = f"clip_{name.removesuffix('_spans')}_fraction"
        if not name.endswith("_spans"):
            return  # the scenes themselves: they cover all of a video
        shares = self.shares.setdefault(column, np.full(len(self.drafts), np.nan))
        for at in range(int(self.first[video]), int(self.first[video + 1])):
            draft = self.drafts[at]
            covered = sum(max(0, min(end, draft.end_pts) - max(start, draft.start_pts)) for start, end, _ in spans)
            shares[at] = covered / max(draft.end_pts - draft.start_pts, 1)

    def _word(self, video: int, name: str, value: str) -> None:
        told = self.words.setdefault(name, {})
        if value in told or len(told) < MOST_KINDS:
            own = slice(int(self.first[video]), int(self.first[video + 1]))
            before, after = told.get(value, (0, 0))
            told[value] = (before + own.stop - own.start, after + int(self.kept[own].sum()))


def _media_numbers(lake: Lake, version: Version, number: Mapping[str, int]) -> dict[str, Reals]:
    """The plain columns of media that are numbers, for each of these videos."""
    kinds = {item.name: item.type for item in MEDIA}
    names = [name for name, kind in kinds.items() if pa.types.is_integer(kind) or pa.types.is_floating(kind)]
    names += [name for name, kind in kinds.items() if pa.types.is_boolean(kind)]
    found = {name: np.full(len(number), np.nan) for name in names}
    for row in _rows(lake, version, "media", ["video_id", *names], "state = 'ready'"):
        at = number.get(row["video_id"])
        for name in names if at is not None else ():
            if row[name] is not None:
                found[name][at] = row[name]
    return found


def _quality(lake: Lake, version: Version, number: Mapping[str, int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for row in _rows(lake, version, QUALITY_LAYER, ["video_id", "author", "value"]):
        if row["video_id"] in number and "@" in (row["author"] or ""):
            yield number[row["video_id"]], json.loads(row["value"])


def _left_out(lake: Lake, version: Version) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    columns = ["video_id", "start_pts", "end_pts", "value"]
    for row in _rows(lake, version, CURATION_LAYER, columns, f"author = '{AUTHOR}'"):
        yield row, json.loads(row["value"])


def _ids(lake: Lake, version: Version, table: str) -> Iterable[str]:
    return (row["video_id"] for row in _rows(lake, version, table, ["video_id"]) if row["video_id"])


def _rows(
    lake: Lake, version: Version, table: str, columns: list[str], where: str | None = None
) -> Iterator[Mapping[str, Any]]:
    if table in version.tables:
        for batch in lake.scan(version, table, columns, where):
            yield from batch.to_pylist()
