"""What a catalog keeps of a lake's tables: a version, a split and a filter go in, a few numbers per clip come out.

    clips, in the order of their ids      16 bytes of id, span, label, row of `media`       44 bytes a clip
    places, caption rows, scene cuts      who they belong to, and their row or time         8 to 12 bytes each

All else (frame tables, uris, text) stays in the tables and is fetched by row when a clip is drawn. While the columns
are made, the ids of both tables are held as text, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cineray.errors import UsageError
from cineray.lake import Lake, Version, sql_text
from cineray.lake.tables import Table

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.uint32] | npt.NDArray[np.int64]

CAPTIONS_LAYER = "layers/captions"
SCENES_LAYER = "layers/scenes"


@dataclass(frozen=True, slots=True, eq=False)
class Belonging:
    """Values by owner: for each owner, in order, those that belong to it."""

    owners: Rows
    values: Rows

    @classmethod
    def of(cls, owners: Ints, values: Ints) -> Belonging:
        """Pairs in any order; the values of one owner keep theirs."""
        order = np.argsort(owners, kind="stable")
        return cls(_narrow(owners[order]), _narrow(values[order]))

    def __getitem__(self, owner: int) -> list[int]:
        low, high = (int(np.searchsorted(self.owners, owner, side=side)) for side in ("left", "right"))
        found: list[int] = self.values[low:high].tolist()
        return found

    def has(self, owners: Ints) -> npt.NDArray[np.bool_]:
        """Which of these own anything."""
        return np.isin(owners, self.owners)


@dataclass(frozen=True, slots=True, eq=False)
class Ids:
    """Clip ids. Those that the lake makes are 32 hex digits and take 16 bytes; any other text is kept as it is."""

    packed: npt.NDArray[np.uint8]
    text: Any = None
    """An Arrow array, where the ids are not packed."""

    @classmethod
    def of(cls, ids: pa.Array) -> Ids:
        """Ids in their order."""
        hexadecimal = pc.all(pc.match_substring_regex(ids, "^[0-9a-f]{32}$"), min_count=0).as_py()
        if not hexadecimal:
            return cls(np.empty((0, 16), np.uint8), ids)
        packed = np.empty((len(ids), 16), np.uint8)
        for start in range(0, len(ids), 1 << 16):
            some = ids.slice(start, 1 << 16).to_pylist()
            packed[start : start + len(some)] = np.frombuffer(bytes.fromhex("".join(some)), np.uint8).reshape(-1, 16)
        return cls(packed)

    def __getitem__(self, number: int) -> str:
        return self.packed[number].tobytes().hex() if self.text is None else str(self.text[number])

    @property
    def nbytes(self) -> int:
        """What they take in memory."""
        return self.packed.nbytes if self.text is None else int(self.text.nbytes)


@dataclass(frozen=True, slots=True, eq=False)
class ClipColumns:
    """One entry per clip, in the order of the clip ids. `media_at` is the row of the clip's video in `media`."""

    ids: Ids
    media_at: Rows
    start_pts: Ints
    end_pts: Ints
    label_at: npt.NDArray[np.int32]
    labels: tuple[str | None, ...]
    places: Belonging
    """Rows of `places` by row of `media`."""
    captions: Belonging
    """Rows of the captions layer by number of clip: those of the whole video, or of a span that holds the clip."""
    cuts: Belonging
    """Times at which scenes begin, by row of `media`; only where they were asked for."""

    def __len__(self) -> int:
        return len(self.media_at)

    @property
    def nbytes(self) -> int:
        """What it keeps in memory."""
        arrays: list[npt.NDArray[np.generic]] = [self.media_at, self.start_pts, self.end_pts, self.label_at]
        for pairs in (self.places, self.captions, self.cuts):
            arrays += [pairs.owners, pairs.values]
        return self.ids.nbytes + sum(array.nbytes for array in arrays)


def read_columns(lake: Lake, version: Version, *, split: str | None, where: str | None, scenes: bool) -> ClipColumns:
    """The columns of a version's clips of one split (None: all), whose videos are ready and match the SQL filter."""
    media = _media_ids(lake, version, where)
    clips = _clips(lake, version, split, media)
    clips = clips.take(pc.sort_indices(clips["clip_id"]))
    spans = Spans(clips["media_at"].to_numpy(), clips["start_pts"].to_numpy(), clips["end_pts"].to_numpy())
    coded = clips["label"].combine_chunks().dictionary_encode()
    ids = clips["clip_id"].combine_chunks()
    return ClipColumns(
        ids=Ids.of(ids),
        media_at=_narrow(spans.media_at),
        start_pts=np.ascontiguousarray(spans.start_pts),
        end_pts=np.ascontiguousarray(spans.end_pts),
        label_at=pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32),
        labels=(*coded.dictionary.to_pylist(), None),  # number -1 is None
        places=_places(lake, version, media, spans.media_at),
        captions=_captions(lake, version, media, ids, spans),
        cuts=_cuts(lake, version, media) if scenes else _nothing(),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Of each clip, in order: the row of its video, and its span."""

    media_at: Ints
    start_pts: Ints
    end_pts: Ints


@dataclass(frozen=True, slots=True, eq=False)
class _Media:
    """The videos that may be drawn from, by id, and their rows."""

    ids: pa.Array
    rows: Ints

    def rows_of(self, video_ids: pa.Array | pa.ChunkedArray) -> Ints:
        """The row of each video, -1 for those that are not among them."""
        at = pc.fill_null(pc.index_in(video_ids, value_set=self.ids), -1).to_numpy(zero_copy_only=False)
        return np.where(at >= 0, self.rows[at], -1) if len(self.rows) else np.full(len(at), -1, np.int64)


def _media_ids(lake: Lake, version: Version, where: str | None) -> _Media:
    try:
        found = list(lake.ready(version, where))
    except UsageError as error:
        raise UsageError(f"dataset filter {where!r}: {error}") from None
    rows = np.concatenate([rows for rows, _ in found]) if found else np.zeros(0, np.int64)
    return _Media(pa.concat_arrays([batch["video_id"] for _, batch in found] or [pa.array([], pa.string())]), rows)


def _clips(lake: Lake, version: Version, split: str | None, media: _Media) -> pa.Table:
    """Ids, spans, labels and media rows of the clips, in the table's order."""
    columns = ["clip_id", "video_id", "start_pts", "end_pts", "label"]
    schema = pa.schema([*((name, pa.string()) for name in ("clip_id", "label")), ("start_pts", pa.int64())])
    schema = schema.append(pa.field("end_pts", pa.int64())).append(pa.field("media_at", pa.int64()))
    where = f"split = {sql_text(split)}" if split is not None else None
    batches = list(lake.scan(version, "clips", columns, where, batch_size=1 << 16))
    if not batches:
        return schema.empty_table()
    table = pa.Table.from_batches(batches)
    rows = media.rows_of(table["video_id"])
    table = table.drop_columns(["video_id"]).append_column("media_at", pa.array(rows))
    return table.filter(pc.greater_equal(table["media_at"], 0))


def _places(lake: Lake, version: Version, media: _Media, drawn: Ints) -> Belonging:
    owners, rows = _rows_of(lake, version, "places", media)
    wanted = np.isin(owners, drawn)
    return Belonging.of(owners[wanted], rows[wanted])


def _rows_of(lake: Lake, version: Version, name: str, media: _Media) -> tuple[Ints, Ints]:
    """The media row of each row of a table that belongs to one of the videos, and that row's own number."""
    state = version.tables.get(name)
    pairs = lake.table(name).positions(state.version, columns=["video_id"]) if state else iter(())
    owners, rows = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for numbers, batch in pairs:
        owner = media.rows_of(batch["video_id"])
        owners.append(owner[owner >= 0])
        rows.append(numbers[owner >= 0])
    return np.concatenate(owners), np.concatenate(rows)


def _captions(lake: Lake, version: Version, media: _Media, ids: pa.Array, spans: Spans) -> Belonging:
    """Which rows of the captions layer speak of the whole of which clip."""
    state = version.tables.get(CAPTIONS_LAYER)
    if state is None:
        return _nothing()
    by_media = np.argsort(spans.media_at, kind="stable")
    clips, rows = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    columns = ["video_id", "clip_id", "start_pts", "end_pts"]
    for numbers, batch in lake.table(CAPTIONS_LAYER).positions(state.version, columns=columns):
        named = pc.fill_null(pc.index_in(batch["clip_id"], value_set=ids), -1).to_numpy(zero_copy_only=False)
        owner = np.where(named >= 0, -1, media.rows_of(batch["video_id"]))
        clip, at = _pairs(owner, by_media, spans.media_at[by_media])
        clip, at = np.append(clip, named[named >= 0]), np.append(at, np.flatnonzero(named >= 0))
        begins = pc.fill_null(batch["start_pts"], _ALWAYS[0]).to_numpy()[at]
        ends = pc.fill_null(batch["end_pts"], _ALWAYS[1]).to_numpy()[at]
        holds = (begins <= spans.start_pts[clip]) & (spans.end_pts[clip] <= ends)
        clips.append(clip[holds])
        rows.append(numbers[at[holds]])
    return Belonging.of(np.concatenate(clips), np.concatenate(rows))


_ALWAYS = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)


def _pairs(owner: Ints, by_media: Ints, lined_up: Ints) -> tuple[Ints, Ints]:
    """Each clip of each owner: the clip's number, and the owner's place in `owner`. `by_media` are the clips in the
    order of their videos, and `lined_up` those videos."""
    known = np.flatnonzero(owner >= 0)
    low = np.searchsorted(lined_up, owner[known], side="left")
    count = np.searchsorted(lined_up, owner[known], side="right") - low
    ends = np.cumsum(count)
    inside = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - count, count)
    return by_media[np.repeat(low, count) + inside], np.repeat(known, count)


def _cuts(lake: Lake, version: Version, media: _Media) -> Belonging:
    """When scenes begin: the start of every row of the scenes layer."""
    state = version.tables.get(SCENES_LAYER)
    if state is None:
        layers = ", ".join(version.layers()) or "none"
        raise UsageError(
            f"sampling.mode is scene but version {version.number} of {lake.uri} has no layer `scenes` (its layers: "
            f"{layers}); find the cuts first, or choose mode random"
        )
    owners, times = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for batch in lake.scan(version, SCENES_LAYER, ["video_id", "start_pts"], "start_pts IS NOT NULL"):
        owner = media.rows_of(batch["video_id"])
        owners.append(owner[owner >= 0])
        times.append(batch["start_pts"].to_numpy()[owner >= 0])
    owner, time = np.concatenate(owners), np.concatenate(times)
    order = np.lexsort((time, owner))
    return Belonging.of(owner[order], time[order])


def _nothing() -> Belonging:
    return Belonging.of(np.zeros(0, np.int64), np.zeros(0, np.int64))


def _narrow(numbers: Ints) -> Rows:
    """Four bytes each where that is enough."""
    fits = not numbers.size or (int(numbers.min()) >= 0 and int(numbers.max()) < 1 << 32)
    return numbers.astype(np.uint32) if fits else np.ascontiguousarray(numbers, np.int64)


def take_dicts(table: Table, version: int, numbers: Sequence[int], columns: Sequence[str]) -> list[dict[str, object]]:
    """These rows as dicts, in this order."""
    rows: list[dict[str, object]] = table.take(version, numbers, columns=columns).to_pylist() if numbers else []
    return rows
