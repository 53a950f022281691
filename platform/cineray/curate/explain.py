"""All that a version knows of one video, and what became of it. A lake and a name for a video go in; facts leave.

Only tables are read, never the video. A video is meant by its id (or the first 8 or more digits of it), by the uri of
one of its places, by its name in its source, or by the end of either: `holiday/beach.mp4`. The id that a standardised
video had before means what it is now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from cineray.curate.homes import CURATION_LAYER
from cineray.curate.stage import columns_from_json
from cineray.errors import UsageError
from cineray.lake import Lake, Version, pack_text, sql_text, unpack_text
from cineray.lake.measured import QUALITY_LAYER

LEAST_DIGITS = 8
_MOST_NAMED = 5
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
        "columns": json.loads(row["columns"]) if row.get("columns") else {},
        "clips": sorted(clips, key=lambda clip: clip["start_pts"]),
        "left_out": sorted(left_out, key=lambda one: one["start_pts"]),
        "quality": quality,
        "spans": spans,
        "layers": {
            layer: count for layer in version.layers() if (count := lake.count(version, f"layers/{layer}", where))
        },
        "media": {key: value for key, value in row.items() if key not in _UNTOLD},
    }


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
    if not found and name:
        found = _ids(lake, version, "places", f"uri LIKE {ending} OR name LIKE {ending}")
    if len(found) == 1:
        return found.pop()
    if found:
        some = ", ".join(sorted(found)[:_MOST_NAMED])
        raise UsageError(f"{name!r} may mean {len(found)} videos: {some}; give an id, or more of the uri")
    raise UsageError(
        f"version {version.number} of {lake.uri} has no video {name!r}; wanted an id, its first {LEAST_DIGITS} digits "
        f"or more, a uri, or a name; see `cineray lake query {lake.uri}`"
    )


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
