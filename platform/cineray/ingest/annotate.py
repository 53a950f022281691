"""Annotations from a file into a layer: JSONL, CSV or Parquet rows go in, a new version with these rows comes out.

A row says which video (`video_id`, or the `uri` or `name` of one of its places) or which clip, when (`start_pts` and
`end_pts`, or `frame`; neither means the whole), and what (`value`: text, or JSON). Media is never rewritten.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cineray import storage
from cineray.errors import UsageError
from cineray.lake import Changes, batches_of, layer_row
from cineray.source.rows import read_rows

if TYPE_CHECKING:
    from cineray.lake import Lake, Version

_COLUMNS = {"video_id", "clip_id", "uri", "name", "start_pts", "end_pts", "frame", "value", "source"}


def annotate(lake: Lake, layer: str, rows: Path, *, author: str, command: str, message: str = "") -> Version:
    """Commit the file's rows as additions to the layer; rows that the layer has already are left as they are."""
    head = lake.resolve("latest")
    videos = _video_ids(lake, head)
    made = {row["row_id"]: row for row in _rows(rows, videos, author)}
    table = f"layers/{layer}"

    def prepare(at: Version | None) -> Changes:
        assert at is not None  # `resolve` above has found a version, and versions do not go away
        held: set[str] = set()
        for batch in lake.scan(at, table, columns=["row_id"]) if table in at.tables else ():
            held.update(batch["row_id"].to_pylist())
        return Changes(add={table: batches_of(table, (row for key, row in made.items() if key not in held))})

    return lake.commit(
        prepare,
        author=author,
        command=command,
        source=str(rows),
        processing={"layer": layer},
        message=message or f"{len(made)} annotations of layer {layer}",
    )


def _rows(path: Path, videos: dict[str, str], author: str) -> Iterator[dict[str, Any]]:
    for row in read_rows(storage.normalise_uri(path), policy=storage.AccessPolicy.from_env()):
        where = f"{path.name}, row {row.number}"
        if row.problem:
            raise UsageError(f"{where} {row.problem}; nothing was committed")
        told = {name: value for name, value in row.values.items() if value is not None}
        unknown = told.keys() - _COLUMNS
        if unknown or "value" not in told:
            raise UsageError(
                f"{where} has the columns {', '.join(sorted(told))}; wanted `value`, one of video_id, clip_id, uri or "
                "name, and optionally start_pts, end_pts, frame, source; nothing was committed"
            )
        value = told["value"]
        yield layer_row(
            value=value if isinstance(value, str) else json.dumps(value, sort_keys=True),
            author=author,
            video_id=_video_of(told, videos, where),
            clip_id=_text(told.get("clip_id")),
            start_pts=_number(told, "start_pts", where),
            end_pts=_number(told, "end_pts", where),
            frame=_number(told, "frame", where),
            source=_text(told.get("source")),
        )


def _video_ids(lake: Lake, head: Version) -> dict[str, str]:
    """Every way in which a row may name a video: its id, the uri of a place, or its name in the source."""
    named: dict[str, str] = {}
    for batch in lake.scan(head, "places", columns=["video_id", "uri", "name", "length"]):
        for row in batch.to_pylist():
            named[row["video_id"]] = named[row["name"]] = row["video_id"]
            if row["length"] is None:
                named[row["uri"]] = row["video_id"]
    return named


def _video_of(told: dict[str, Any], videos: dict[str, str], where: str) -> str | None:
    for column in ("video_id", "uri", "name"):
        if column in told:
            if str(told[column]) not in videos:
                raise UsageError(
                    f"{where}: the lake has no video with {column} {told[column]!r}; nothing was committed"
                )
            return videos[str(told[column])]
    if "clip_id" in told:
        return None
    raise UsageError(f"{where} names no video: wanted video_id, clip_id, uri or name; nothing was committed")


def _number(told: dict[str, Any], column: str, where: str) -> int | None:
    if column not in told:
        return None
    try:
        return int(told[column])
    except (TypeError, ValueError):
        raise UsageError(f"{where}: {column} is {told[column]!r}; wanted an integer timestamp or frame") from None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
