"""Everything that a rule may name, one row per draft of a clip. Videos and what was measured go in; Arrow leaves.

    media's columns          codec, width, duration_seconds, label, ...        as `cineray lake query` has them
    the stages' columns      black_fraction, motion_speed, ...                 of the clip's video
    the clip's own           clip_seconds, clip_frames, clip_begins
                             clip_black_fraction, ...                          for each stage's spans (`black_spans`):
                                                                               which part of the clip they cover

A column that nobody could measure is null, and of the kind that its stage declares; so a rule means the same on a lake
where no video has a value for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import pyarrow as pa

from cineray.curate.cache import Cache
from cineray.curate.clips import Draft, drafts_of
from cineray.curate.config import CurateJob
from cineray.curate.stage import Columns, Span, scalars_of
from cineray.curate.videos import Listed, Video, take_videos
from cineray.errors import UsageError
from cineray.lake import MEDIA, Lake, Version
from cineray.records import Scalar

SCENES_COLUMN = "scenes"
RANKED = ("borders_fraction", "blur", "overlay_corners")
"""The columns by which copies are ranked: of a million videos all columns would be gigabytes."""
SIGNATURE_COLUMN = "signatures_text"
_TAKEN_AT_ONCE = 256
_UNSEEN = frozenset({"frames", "audio", "captions", "detail"})
_ARROW: Mapping[type, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
_OWN_KINDS: Mapping[str, type] = {"clip_seconds": float, "clip_frames": int, "clip_begins": str}


@dataclass(frozen=True, slots=True, eq=False)
class ClipTable:
    """The drafts of all videos, and their rows."""

    listed: tuple[Listed, ...]
    drafts: tuple[Draft, ...]
    rows: pa.Table
    signatures: dict[str, str]
    """Of the videos that have one."""
    quality: dict[str, dict[str, Scalar]]
    """Each video's size and some of its columns, by its id; for choosing between copies."""

    def video_id(self, draft: Draft) -> str:
        """Whose clip it would be."""
        return self.listed[draft.video].video_id


def clip_table(lake: Lake, version: Version, listed: Sequence[Listed], cache: Cache, job: CurateJob) -> ClipTable:
    """One row per draft. A video that could not be looked at has one draft, the whole of it."""
    drafts: list[Draft] = []
    of_video, of_clip = column_kinds(job)
    measured, own = _Lists(of_video), _Lists(of_clip)
    signatures: dict[str, str] = {}
    quality: dict[str, dict[str, Scalar]] = {}
    for number, video in enumerate(_whole(lake, version, listed)):
        columns = cache.columns(video.listed)
        scalars = scalars_of(columns)
        signature = scalars.pop(SIGNATURE_COLUMN, None)
        if isinstance(signature, str) and signature:
            signatures[video.listed.video_id] = signature
        ranked = {name: scalars[name] for name in RANKED if name in scalars}
        quality[video.listed.video_id] = ranked | _size(video)
        measured.append(scalars)
        spans = _spans(columns)
        scenes = spans.pop(SCENES_COLUMN, [])
        base = video.video.time_base
        for draft in drafts_of(number, video.video.frames, base, scenes if job.cuts.at == "scenes" else [], job.cuts):
            drafts.append(draft)
            own.append(own_columns(draft, base, spans))
    rows = _joined(_media(lake, version, listed), measured.table(), own.table(), drafts)
    return ClipTable(tuple(listed), tuple(drafts), rows, signatures, quality)


def column_kinds(job: CurateJob) -> tuple[dict[str, type], dict[str, type]]:
    """The columns that a video has by being measured, and those of its clips, with the kind of each."""
    kinds = job.column_kinds()
    spans = [name for name, kind in kinds.items() if kind is list and name != SCENES_COLUMN]
    of_video = {name: kind for name, kind in kinds.items() if kind is not list and name != SIGNATURE_COLUMN}
    return of_video, {**_OWN_KINDS, **{share_column(name): float for name in spans}}


def schema_of(kinds: Mapping[str, type]) -> pa.Schema:
    """Columns of these kinds, in the order of their names."""
    return pa.schema([(name, _ARROW[kind]) for name, kind in sorted(kinds.items())])


def share_column(spans: str) -> str:
    """What the share of a clip is called that a stage's spans cover."""
    return f"clip_{spans.removesuffix('_spans')}_fraction"


def _whole(lake: Lake, version: Version, listed: Sequence[Listed]) -> Iterator[Video]:
    rest = iter(listed)
    while some := list(islice(rest, _TAKEN_AT_ONCE)):
        yield from take_videos(lake, version, some)


def _size(video: Video) -> dict[str, Scalar]:
    told = video.video
    seconds = float(told.duration_seconds) if told.num_frames else 0.0
    return {"width": told.width, "height": told.height, "size_bytes": told.size_bytes, "duration_seconds": seconds}


def _spans(columns: Sequence[Columns]) -> dict[str, list[Span]]:
    return {name: value for one in columns for name, value in one.items() if isinstance(value, list)}


def own_columns(draft: Draft, time_base: Fraction, spans: Mapping[str, Sequence[Span]]) -> dict[str, Scalar]:
    """A clip's own columns."""
    length = draft.end_pts - draft.start_pts
    own: dict[str, Scalar] = {
        "clip_seconds": float(length * time_base),
        "clip_frames": draft.frames,
        "clip_begins": draft.begins,
    }
    for name, found in spans.items():
        covered = sum(max(0, min(s.end_pts, draft.end_pts) - max(s.start_pts, draft.start_pts)) for s in found)
        own[share_column(name)] = covered / length
    return own


def _media(lake: Lake, version: Version, listed: Sequence[Listed]) -> pa.Table:
    names = [name for name in MEDIA.names if name not in _UNSEEN]
    numbers = [one.row for one in listed]
    if not numbers:
        return pa.schema([MEDIA.field(name) for name in names]).empty_table()
    return lake.table("media").take(version.tables["media"].version, numbers, columns=names)


def _joined(media: pa.Table, measured: pa.Table, own: pa.Table, drafts: Sequence[Draft]) -> pa.Table:
    """Columns of the videos repeated for each of their drafts, beside the drafts' own."""
    twice = set(media.column_names) & set(measured.column_names)
    if twice:
        raise UsageError(f"a stage gives the column {min(twice)!r}, which media has already; name it by its subject")
    of_video = pa.array([draft.video for draft in drafts], pa.int64())
    rows = media.take(of_video)
    for table, indices in ((measured, of_video), (own, None)):
        for name in table.column_names:
            rows = rows.append_column(name, table[name] if indices is None else table[name].take(indices))
    return rows


class _Lists:
    """Columns of declared kinds that grow row by row; a row that lacks one has null there."""

    def __init__(self, kinds: Mapping[str, type]) -> None:
        self.kinds = kinds
        self.columns: dict[str, list[Scalar]] = {name: [] for name in sorted(kinds)}

    def append(self, row: Mapping[str, Scalar]) -> None:
        for name, column in self.columns.items():
            column.append(row.get(name))
        if strange := row.keys() - self.columns.keys():
            raise UsageError(
                f"a stage gives the column {min(strange)!r} and does not declare it; add it to its `gives`"
            )

    def table(self) -> pa.Table:
        return pa.table(self.columns, schema=schema_of(self.kinds))
