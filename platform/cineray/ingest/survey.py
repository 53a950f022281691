"""Which of the journal's rows matter to a head: the journal's parts and the lake's head go in, a `Survey` comes out.

The survey holds a few short columns per row (never frame tables), so it stays small however much was ingested. Rows are
named by `at`, their place in the journal read from front to back; the commit streams the journal again and takes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cineray.ingest import staged
from cineray.lake import reject_id

if TYPE_CHECKING:
    from cineray.lake import Lake, Version

_WORK = pa.schema(
    [
        ("at", pa.int64()),
        ("outcome", pa.string()),
        ("key", pa.string()),
        ("signature", pa.string()),
        ("checked_at", pa.float64()),
        ("name", pa.string()),
        ("given_split", pa.string()),
        ("group_id", pa.string()),
        ("video_id", pa.string()),
        ("reason", pa.string()),
        ("uri", pa.string()),
        ("offset", pa.int64()),
        ("has_place", pa.bool_()),
    ]
)
GroupRule = Callable[[str, str | None], str | None]
"""(name, metadata columns as JSON) -> group key."""
_HEAD_MEDIA = ["video_id", "uri", "reason"]
_HEAD_PLACES = ["place_id", "signature", "video_id", "uri", "offset", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What to do about each row and each video that is already there."""

    work: pa.Table
    """Rows that say something new, one per place."""
    primary: pa.Table
    """Of these, the rows that describe a video that the next version does not have yet."""
    leaving: frozenset[str]
    """Videos of the head that no place holds any more."""
    refreshed: frozenset[str]
    """Videos of the head whose bytes stayed and whose facts (label, captions) changed."""
    relocated: dict[str, dict[str, object]]
    """Videos of the head whose first place now holds other bytes: the place that describes them from now on."""


def survey(
    parts: Iterable[pa.Table], *, lake: Lake, head: Version | None, group_by: str, keep_given: bool, source: str
) -> Survey:
    """Hold the finished work against the head."""
    work = _latest_per_place(_work_table(parts, group_rule(group_by), keep_given=keep_given))
    work = work.filter(pc.not_equal(work["outcome"], staged.UNCHANGED))
    places, media = _head_table(lake, head, "places", _HEAD_PLACES), _head_table(lake, head, "media", _HEAD_MEDIA)
    work = _not_yet_there(work, places, media)
    changed = places.filter(pc.is_in(places["place_id"], value_set=work["key"].combine_chunks()))
    leaving, refreshed, relocated = _fate_of_old_videos(changed, places, media, work)
    leaving |= _stale_rejects(work, media, source)
    known = media["video_id"].combine_chunks()
    if leaving or refreshed:
        known = pa.array(sorted(set(known.to_pylist()) - leaving - refreshed), pa.string())
    return Survey(
        work=work,
        primary=_first_per_video(work).filter(_absent("video_id", known)) if work.num_rows else work,
        leaving=frozenset(leaving),
        refreshed=frozenset(refreshed),
        relocated=relocated,
    )


def _absent(column: str, known: pa.Array) -> pc.Expression:
    return ~pc.field(column).isin(known)


def _work_table(parts: Iterable[pa.Table], group_of: GroupRule, *, keep_given: bool) -> pa.Table:
    tables, at = [], 0
    for part in parts:
        media, place = part["media"].combine_chunks(), part["place"].combine_chunks()
        video_ids, columns = media.field("video_id"), media.field("columns")
        given = part["given_split"] if keep_given else pa.nulls(part.num_rows, pa.string())
        groups = [
            told or group_of(name or "", row_columns) or video
            for told, name, row_columns, video in zip(
                part["given_group"].to_pylist(),
                part["name"].to_pylist(),
                columns.to_pylist(),
                video_ids.to_pylist(),
                strict=True,
            )
        ]
        made = [
            np.arange(at, at + part.num_rows),
            *(part[name] for name in ("outcome", "key", "signature", "checked_at", "name")),
            given,
            pa.array(groups, pa.string()),
            video_ids,
            media.field("reason"),
            place.field("uri"),
            place.field("offset"),
            place.is_valid(),
        ]
        tables.append(pa.table(made, schema=_WORK))
        at += part.num_rows
    return pa.concat_tables(tables) if tables else _WORK.empty_table()


def group_rule(group_by: str) -> GroupRule:
    """What finds a video's group key in its name or its metadata columns; None lets the video be its own group."""
    kind, _, rest = group_by.partition(":")
    if kind == "path":
        pattern = re.compile(rest)

        def by_path(name: str, _columns: str | None) -> str | None:
            found = pattern.search(name)
            return next((g for g in found.groups() if g), None) if found else None

        return by_path
    if kind == "column":
        return lambda _name, columns: _text(json.loads(columns).get(rest)) if columns else None
    return lambda _name, _columns: None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _latest_per_place(work: pa.Table) -> pa.Table:
    """A place may have been looked at twice, by a killed run and by this one: the later look counts."""
    return _first_of_runs(
        work.sort_by([("key", "ascending"), ("checked_at", "descending"), ("at", "ascending")]), "key"
    )


def _first_per_video(work: pa.Table) -> pa.Table:
    ordered = work.sort_by(
        [("video_id", "ascending"), ("uri", "ascending"), ("offset", "ascending"), ("at", "ascending")]
    )
    return _first_of_runs(ordered, "video_id")


def _first_of_runs(ordered: pa.Table, column: str) -> pa.Table:
    if ordered.num_rows < 2:
        return ordered
    values = ordered[column].combine_chunks()
    new = pc.not_equal(values.slice(1), values.slice(0, len(values) - 1))
    return ordered.filter(pa.concat_arrays([pa.array([True]), new.fill_null(True)]))


def _head_table(lake: Lake, head: Version | None, name: str, columns: list[str]) -> pa.Table:
    if head is None or name not in head.tables:
        return pa.table({column: pa.array([], pa.string()) for column in columns})
    return lake.read(head, name, columns=columns)


def _not_yet_there(work: pa.Table, places: pa.Table, media: pa.Table) -> pa.Table:
    """Leave out places that the head has just as they are, and rejects that it has for the same reason."""
    if not work.num_rows or not (places.num_rows or media.num_rows):
        return work
    held = _joined(places["place_id"], places["signature"])
    held_rejects = _joined(media["video_id"], media["reason"])
    same_place = pc.is_in(_joined(work["key"], work["signature"]), value_set=held.drop_null())
    same_reject = pc.is_in(_joined(work["video_id"], work["reason"]), value_set=held_rejects.drop_null())
    return work.filter(pc.invert(pc.or_(same_place, same_reject)))


def _joined(keys: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.Array:
    """`key value`, and null where there is no value: what is not known is never the same as anything."""
    values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
    joined = pc.binary_join_element_wise(keys, values, " ", null_handling="emit_null")
    return (
        pa.chunked_array(joined).combine_chunks()
        if not isinstance(joined, pa.ChunkedArray)
        else joined.combine_chunks()
    )


def _fate_of_old_videos(
    changed: pa.Table, places: pa.Table, media: pa.Table, work: pa.Table
) -> tuple[set[str], set[str], dict[str, dict[str, object]]]:
    """What becomes of the videos that lay where something else (or something newly described) lies now."""
    leaving: set[str] = set()
    refreshed: set[str] = set()
    relocated: dict[str, dict[str, object]] = {}
    olds = set(changed["video_id"].to_pylist())
    if not olds:
        return leaving, refreshed, relocated
    changed_keys = set(changed["place_id"].to_pylist())
    described_by = dict(zip(media["video_id"].to_pylist(), media["uri"].to_pylist(), strict=True))
    again = olds & set(work["video_id"].to_pylist())
    of_old = places.filter(pc.is_in(places["video_id"], value_set=pa.array(sorted(olds))))
    by_video: dict[str, list[dict[str, object]]] = {old: [] for old in olds}
    for place in of_old.to_pylist():
        by_video[place["video_id"]].append(place)
    for old, its_places in by_video.items():
        rest = [p for p in its_places if p["place_id"] not in changed_keys]
        first_changed = any(p["uri"] == described_by.get(old) for p in its_places if p["place_id"] in changed_keys)
        if old in again and (first_changed or not rest):
            refreshed.add(old)
        elif not rest and old not in again:
            leaving.add(old)
        elif first_changed:
            first = min(rest, key=lambda p: (str(p["uri"]), p["offset"]))
            relocated[old] = {name: first[name] for name in ("uri", "offset", "length")}
    return leaving, refreshed, relocated


def _stale_rejects(work: pa.Table, media: pa.Table, source: str) -> set[str]:
    """Rejects of a name under which there is now a video, or another reject."""
    names = work["name"].to_pylist()
    candidates = pa.array(sorted({reject_id(source, name) for name in names if name is not None}), pa.string())
    return set(pc.filter(candidates, pc.is_in(candidates, value_set=media["video_id"].combine_chunks())).to_pylist())


def mask_of(rows: pa.Table, first: int, count: int) -> npt.NDArray[np.bool_]:
    """Which of the journal's rows `first .. first + count` are among these."""
    at = rows["at"].to_numpy()
    mask = np.zeros(count, bool)
    mask[at[(at >= first) & (at < first + count)] - first] = True
    return mask
