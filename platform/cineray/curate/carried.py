"""What was said of clips that leave, carried along: rows that name such a clip go in, the same with its span come out.

    clip_id | value            clip_id | video_id | start_pts | end_pts | value
    c7      | a cat sleeps ->  c7      | v1       | 0         | 600     | a cat sleeps

A caption of a clip that is cut into scenes so holds for each of them, as one of a span does, and for none that lies
elsewhere; where the clip comes back, it holds for it again. Rows that say their time themselves keep it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cineray.lake import Lake, Version, layer_row, unpack_text

Row = dict[str, Any]


def carried(
    lake: Lake, head: Version, gone: Mapping[str, Row], own: Collection[str]
) -> Iterator[tuple[str, list[Row], list[str]]]:
    """For each layer but curation's own: rows to add, and the ids of those that they stand for."""
    for layer in (f"layers/{name}" for name in head.layers()):
        rows = list(_naming(lake, head, layer, gone)) if layer not in own else []
        made = {row["row_id"]: _with_span(row, gone[row["clip_id"]]) for row in rows}
        leave = [old for old, new in made.items() if new["row_id"] != old]
        # One that was carried before may say the same as one that was written since.
        come = {made[old]["row_id"]: made[old] for old in leave if made[old]["row_id"] not in made}
        if leave:
            yield layer, list(come.values()), leave


def _naming(lake: Lake, head: Version, layer: str, gone: Mapping[str, Row]) -> Iterator[Row]:
    for batch in lake.scan(head, layer, filter="clip_id IS NOT NULL") if gone else ():
        yield from (row for row in batch.to_pylist() if row["clip_id"] in gone)


def _with_span(row: Row, clip: Row) -> Row:
    is_timed = row["start_pts"] is not None or row["frame"] is not None
    return layer_row(
        value=unpack_text(row["value"]),
        author=unpack_text(row["author"]),
        video_id=clip["video_id"],
        clip_id=row["clip_id"],
        start_pts=row["start_pts"] if is_timed else clip["start_pts"],
        end_pts=row["end_pts"] if is_timed else clip["end_pts"],
        frame=row["frame"],
        source=None if row["source"] is None else unpack_text(row["source"]),
    )
