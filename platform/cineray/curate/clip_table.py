"""Everything that a rule may name, one row per draft of a clip. Videos and what was measured go in; Arrow leaves.

    media's columns          codec, width, duration_seconds, label, ...        as `cineray lake query` has them
    the stages' columns      black_fraction, motion_speed, ...                 of the clip's video
    the clip's own           clip_seconds, clip_frames, clip_begins
                             clip_black_fraction, ...                          for each stage's spans (`black_spans`):
                                                                               which part of the clip they cover

A column that nobody could measure is null.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from cineray.curate.cache import Cache
from cineray.curate.clips import Draft, drafts_of
from cineray.curate.config import CutsConfig
from cineray.curate.stage import Columns, Span, scalars_of
from cineray.curate.videos import Listed, Video, take_videos
from cineray.errors import UsageError
from cineray.lake import MEDIA, Lake, Version
from cineray.lake.measured import column_of
from cineray.records import Scalar

SCENES_COLUMN = "scenes"
RANKED = ("borders_fraction", "blur", "overlay_corners")
"""The columns by which copies are ranked: of a million videos all columns would be gigabytes."""
SIGNATURE_COLUMN = "signatures_text"
_TAKEN_AT_ONCE = 256
_UNSEEN = frozenset({"frames", "audio", "captions", "detail"})


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


def clip_table(lake: Lake, version: Version, listed: Sequence[Listed], cache: Cache, cuts: CutsConfig) -> ClipTable:
    """One row per draft. A video that could not be looked at has one draft, the whole of it."""
    drafts: list[Draft] = []
    own = _Lists()
    measured = _Lists()
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
        scenes = spans.pop(SCENES_COLUMN, []) if cuts.at == "scenes" else []
        for draft in drafts_of(number, video.video.frames, video.video.time_base, scenes, cuts):
            drafts.append(draft)
            own.append(_own_columns(draft, video, spans))
    rows = _joined(_media(lake, version, listed), measured.table(len(listed)), own.table(len(drafts)), drafts)
    return ClipTable(tuple(listed), tuple(drafts), rows, signatures, quality)


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


def _own_columns(draft: Draft, video: Video, spans: dict[str, list[Span]]) -> dict[str, Scalar]:
    length = draft.end_pts - draft.start_pts
    own: dict[str, Scalar] = {
        "clip_seconds": float(length * video.video.time_base),
        "clip_frames": draft.frames,
        "clip_begins": draft.begins,
    }
    for name, found in spans.items():
        covered = sum(max(0, min(s.end_pts, draft.end_pts) - max(s.start_pts, draft.start_pts)) for s in found)
        own[f"clip_{name.removesuffix('_spans')}_fraction"] = covered / length
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
    """Columns that grow row by row; a row that lacks one has null there."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Scalar]] = {}
        self.rows = 0

    def append(self, row: dict[str, Scalar]) -> None:
        for name, value in row.items():
            column = self.columns.setdefault(name, [])
            column.extend([None] * (self.rows - len(column)))
            column.append(value)
        self.rows += 1

    def table(self, rows: int) -> pa.Table:
        filled = {name: values + [None] * (rows - len(values)) for name, values in sorted(self.columns.items())}
        return pa.table({name: column_of(values) for name, values in filled.items()})
