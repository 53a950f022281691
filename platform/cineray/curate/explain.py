"""All that a version knows of one video, and what became of it. A lake and a name for a video go in; facts leave.

Only tables are read, never the video. A video is meant by its id (or the first 8 or more digits of it), by the uri of
one of its places, by its name in its source, or by the end of either, `holiday/beach.mp4`, else by any part of them,
`beach`. The id that a standardised video had before means what it is now.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from cineray.curate.changes import DUPLICATES_LAYER
from cineray.curate.homes import CURATION_LAYER
from cineray.curate.stage import columns_from_json
from cineray.curate.videos import CAPTIONS_LAYER
from cineray.errors import UsageError
from cineray.lake import Lake, Version, pack_text, sql_in, sql_text, unpack_text
from cineray.lake.measured import QUALITY_LAYER

ENCODING_LAYER = "layers/encoding"
LEAST_DIGITS = 8
_MOST_NAMED = 10
_STANDARDISED = '%"standardised\\_from": "'
_UNTOLD = frozenset({"frames", "video_id", "captions", "columns", "label", "state", "reason", "detail"})


def explain(lake: Lake, version: Version, name: str) -> dict[str, Any]:
    """The facts of one video, as `cineray lake explain --json` prints them."""
    video_id = find_video(lake, version, name)
    where = f"video_id = {sql_text(video_id)}"
    media = lake.read(version, "media", filter=where).to_pylist()
    row: dict[str, Any] = media[0] if media else {"video_id": video_id}
    base = Fraction(row.get("time_base_num") or 0, row.get("time_base_den") or 1)
    clips = [_clip(one, base) for one in _rows(lake, version, "clips", where)]
    left_out = [_left_out(one, base) for one in _rows(lake, version, CURATION_LAYER, where)]
    quality, spans = _quality(lake, version, where, base)
    return {
        "version": version.number,
        "video_id": video_id,
        "became": became(row, clips, left_out),
        "state": row.get("state"),
        "reason": row.get("reason"),
        "detail": _text(row.get("detail")),
        "places": [_place(one) for one in _rows(lake, version, "places", where)],
        "label": _text(row.get("label")),
        "captions": [unpack_text(text) for text in row.get("captions") or ()],
        "annotated": _annotated(lake, version, video_id, [one["clip_id"] for one in clips], base),
        "columns": json.loads(row["columns"]) if row.get("columns") else {},
        "clips": sorted(clips, key=lambda clip: clip["start_pts"]),
        "left_out": sorted(left_out, key=lambda one: one["start_pts"]),
        "copies": _copies(lake, version, video_id),
        "encoding": _encoding(lake, version, where),
        "quality": quality,
        "spans": spans,
        "layers": {
            layer: count for layer in version.layers() if (count := lake.count(version, f"layers/{layer}", where))
        },
        "media": {key: value for key, value in row.items() if key not in _UNTOLD},
    }


def _annotated(
    lake: Lake, version: Version, video_id: str, clip_ids: Sequence[str], base: Fraction
) -> list[dict[str, Any]]:
    """Captions that were added to it, to a part of it, or to a clip that it has."""
    where = f"video_id = {sql_text(video_id)}" + (f" OR {sql_in('clip_id', clip_ids)}" if clip_ids else "")
    rows = _rows(lake, version, CAPTIONS_LAYER, where)
    return [{"caption": _text(row["value"]), "clip_id": row["clip_id"], **_span(row, base)} for row in rows]


def _copies(lake: Lake, version: Version, video_id: str) -> dict[str, Any]:
    """The set of videos that show the same, which of them stay, and where they lie; nothing where it is alone."""
    found = _rows(lake, version, DUPLICATES_LAYER, f"video_id = {sql_text(video_id)}")
    if not found:
        return {}
    own = json.loads(found[0]["value"])
    # In the text as it is written; sorted keys and no other quotes in it.
    like = sql_text(f'%"group": "{_literal(own["group"])}"%')
    rows = _rows(lake, version, DUPLICATES_LAYER, f"value LIKE {like}")
    kept = {row["video_id"]: json.loads(row["value"])["kept"] for row in rows}
    places = _by_video(_rows(lake, version, "places", sql_in("video_id", sorted(kept))))
    return {
        "group": own["group"],
        "videos": [
            {"video_id": one, "place": place_text(places[one][0]) if one in places else None, "kept": kept[one] == one}
            for one in sorted(kept)
        ],
    }


def _encoding(lake: Lake, version: Version, where: str) -> dict[str, Any]:
    """What standardising said of it: PSNR, and its size before and after."""
    rows = _rows(lake, version, ENCODING_LAYER, where)
    return dict(json.loads(rows[0]["value"])) if rows else {}


def find_video(lake: Lake, version: Version, name: str) -> str:
    """The id of the one video that is meant; refused, with what there is, where none or several are."""
    told = sql_text(pack_text(name) or "")
    ending = sql_text("%" + _literal(name))
    found = _ids(lake, version, "media", f"video_id = {told}") or _ids(
        lake, version, "places", f"uri = {told} OR name = {told}"
    )
    if not found and len(name) >= LEAST_DIGITS:
        found = _ids(lake, version, "media", f"video_id LIKE {sql_text(_literal(name) + '%')}")
        found = found or _ids(lake, version, "media", f"columns LIKE {sql_text(_STANDARDISED + _literal(name) + '%')}")
    part = sql_text("%" + _literal(name) + "%")
    for pattern in (ending, part) if name else ():
        found = found or _ids(lake, version, "places", f"uri LIKE {pattern} OR name LIKE {pattern}")
    if len(found) == 1:
        return found.pop()
    if found:
        some = "".join(f"\n  {line}" for line in _to_choose_from(lake, version, sorted(found)[:_MOST_NAMED]))
        more = f"\n  and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        raise UsageError(f"{name!r} may mean {len(found)} videos; give an id, or more of the uri:{some}{more}")
    raise UsageError(
        f"version {version.number} of {lake.uri} has no video {name!r}; wanted an id, its first {LEAST_DIGITS} digits "
        f"or more, a uri, or a name; see `cineray lake query {lake.uri}`"
    )


def _to_choose_from(lake: Lake, version: Version, video_ids: Sequence[str]) -> Iterator[str]:
    """A line for each: its id as far as it tells it apart, where it lies, how long it is, and what became of it."""
    where = sql_in("video_id", video_ids)
    tables = {
        table: _by_video(_rows(lake, version, table, where)) for table in ("media", "places", "clips", CURATION_LAYER)
    }
    digits = next(n for n in range(LEAST_DIGITS, 65) if len({one[:n] for one in video_ids}) == len(video_ids))
    for video_id in video_ids:
        media, places, clips, left_out = (rows.get(video_id, []) for rows in tables.values())
        row = media[0] if media else {}
        lasts = f"{row['duration_seconds']:.2f} s" if row.get("duration_seconds") is not None else "no length"
        told = [{"author": one["author"], **json.loads(one["value"])} for one in left_out]
        place = place_text(places[0]) if places else "no place"
        yield f"{video_id[:digits]}  {place}  {lasts}  {became(row, clips, told)}"


def _by_video(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["video_id"], []).append(row)
    return found


def _literal(name: str) -> str:
    return name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _ids(lake: Lake, version: Version, table: str, where: str) -> set[str]:
    return set(lake.read(version, table, columns=["video_id"], filter=where)["video_id"].to_pylist())


def _rows(lake: Lake, version: Version, table: str, where: str) -> list[dict[str, Any]]:
    if table not in version.tables:
        return []
    rows: list[dict[str, Any]] = lake.read(version, table, filter=where).to_pylist()
    return rows


def became(media: Mapping[str, Any], clips: list[dict[str, Any]], left_out: list[dict[str, Any]]) -> str:
    """One sentence: in training or not, and why."""
    if media.get("state") == "rejected":
        where = "when it was standardised" if any(one["author"] == "standardise" for one in left_out) else "at ingest"
        return f"rejected {where}: {media['reason']}"
    rules = ", ".join(sorted({str(one["rule"]) for one in left_out}))
    if clips:
        splits = ", ".join(sorted({str(clip["split"]) for clip in clips}))
        less = f"; {len(left_out)} left out ({rules})" if left_out else ""
        return f"{len(clips)} clip{'s' * (len(clips) != 1)} in {splits}{less}"
    return f"left out: {rules}" if left_out else "in no clip, and no row says why"


def _seconds(pts: int | None, base: Fraction) -> float | None:
    return None if pts is None else float(pts * base)


def _span(row: Mapping[str, Any], base: Fraction) -> dict[str, Any]:
    start, end = row["start_pts"], row["end_pts"]
    exact = {"start_pts": start, "end_pts": end}
    return exact | {"start_seconds": _seconds(start, base), "end_seconds": _seconds(end, base)}


def _clip(row: Mapping[str, Any], base: Fraction) -> dict[str, Any]:
    told = {name: row[name] for name in ("clip_id", "split", "weight")}
    return told | {"group_id": _text(row["group_id"])} | _span(row, base)


def _left_out(row: Mapping[str, Any], base: Fraction) -> dict[str, Any]:
    told = json.loads(row["value"])
    return {"clip_id": row["clip_id"], "author": row["author"], **_span(row, base), **told}


def place_text(place: Mapping[str, Any]) -> str:
    """Where it lies; of a shard also its name in there."""
    uri, name = str(_text(place["uri"])), str(_text(place["name"]) or "")
    return uri if uri.endswith(name) else f"{uri} ({name})"


def _place(row: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: row[name] for name in ("offset", "length", "size_bytes")}
    return {"uri": _text(row["uri"]), "name": _text(row["name"]), "source": _text(row["source"])} | told


def _quality(
    lake: Lake, version: Version, where: str, base: Fraction
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Plain columns by name, and spans by column."""
    plain: dict[str, Any] = {}
    spans: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(lake, version, QUALITY_LAYER, where):
        for name, value in columns_from_json(row["value"]).items():
            if isinstance(value, list):
                spans[name] = [
                    _span({"start_pts": start, "end_pts": end}, base) | {"value": said} for start, end, said in value
                ]
            else:
                plain[name] = value
    return dict(sorted(plain.items())), dict(sorted(spans.items()))


def _text(text: str | None) -> str | None:
    return None if text is None else unpack_text(text)
