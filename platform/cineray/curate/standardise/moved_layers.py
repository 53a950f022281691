"""Layers of a standardised version: rows on the source's clock and in its pixels go in; the same on the new ones out.

    start_pts, end_pts, frame     on the new video's clock; a frame that is not shown any more takes its row with it
    boxes                         in the new video's pixels
    masks                         decoded, resized to the nearest pixel, encoded again
    spans inside a quality value  `[start_pts, end_pts, value]`, on the new clock as well
    duplicates, curation          the ids of the videos that a value names, also in rows of videos that stay as they are
    scenes, captions, events ...  their times; their values stay

All other rows of videos that were not standardised pass through unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from cineray.curate.standardise.times import Moved
from cineray.lake import layer_row, unpack_text
from cineray.lake.layers import kind_of

Row = dict[str, Any]
QUALITY, DUPLICATES, CURATION = "layers/quality", "layers/duplicates", "layers/curation"


def moved_rows(
    table: str, rows: Iterable[Row], videos: Mapping[str, Moved], clips: Mapping[str, tuple[str, str]]
) -> Iterator[Row]:
    """The rows of one layer. `clips`: old clip id -> its video's old id, and the new clip id."""
    for row in rows:
        video_id = row["video_id"] or clips.get(row["clip_id"], (None, None))[0]
        moved = videos.get(video_id or "")
        made = row if moved is None else _moved(table, row, moved, clips)
        if made is not None:
            yield _of_new_videos(made, videos) if table in (DUPLICATES, CURATION) else made


def _moved(table: str, row: Row, moved: Moved, clips: Mapping[str, tuple[str, str]]) -> Row | None:
    frame = None if row["frame"] is None else moved.frame(row["frame"])
    if row["frame"] is not None and frame is None:
        return None
    start, end = row["start_pts"], row["end_pts"]
    if start is not None and end is not None:
        start, end = moved.span(start, end)
    clip_id = row["clip_id"]
    return layer_row(
        value=_value(table, unpack_text(row["value"]), moved),
        author=unpack_text(row["author"]),
        video_id=moved.video_id if row["video_id"] is not None else None,
        clip_id=clips[clip_id][1] if clip_id in clips else clip_id,
        start_pts=start,
        end_pts=end,
        frame=frame,
        source=None if row["source"] is None else unpack_text(row["source"]),
    )


def _of_new_videos(row: Row, videos: Mapping[str, Moved]) -> Row:
    """Sets of copies, and what was left out for them, name videos: by their new ids."""
    told = json.loads(unpack_text(row["value"]))
    named = {
        name: videos[text].video_id if isinstance(text, str) and text in videos else text for name, text in told.items()
    }
    if named == told:
        return row
    return layer_row(
        value=json.dumps(named, sort_keys=True),
        author=unpack_text(row["author"]),
        video_id=row["video_id"],
        clip_id=row["clip_id"],
        start_pts=row["start_pts"],
        end_pts=row["end_pts"],
        frame=row["frame"],
        source=None if row["source"] is None else unpack_text(row["source"]),
    )


def _value(table: str, value: str, moved: Moved) -> str:
    kind = kind_of(table)
    if kind == "boxes" and moved.source_size != moved.new_size:
        return _changed(value, lambda entry: _scaled_box(entry, moved))
    if kind == "masks" and moved.source_size != moved.new_size:
        return _changed(value, lambda entry: _resized_mask(entry, moved))
    return _with_spans(value, moved) if table == QUALITY else value


def _changed(value: str, change: Any) -> str:
    told = json.loads(value)
    return json.dumps([change(entry) for entry in told] if isinstance(told, list) else change(told), sort_keys=True)


def _scaled_box(entry: Row, moved: Moved) -> Row:
    across, down = moved.new_size[0] / moved.source_size[0], moved.new_size[1] / moved.source_size[1]
    left, top, width, height = entry["box"]
    return entry | {"box": [left * across, top * down, width * across, height * down]}


def _resized_mask(entry: Row, moved: Moved) -> Row:
    """Nearest pixels: a mask stays a mask. COCO's text is encoded again, runs as numbers stay numbers."""
    from pycocotools import mask

    height, width = entry["size"]
    counts = entry["counts"]
    compressed = isinstance(counts, str)
    rle = {"size": [height, width], "counts": counts.encode("ascii")} if compressed else entry
    pixels_HW = mask.decode(rle if compressed else mask.frPyObjects(rle, height, width))
    new_width, new_height = moved.new_size
    rows = (np.arange(new_height) * 2 + 1) * height // (2 * new_height)
    columns = (np.arange(new_width) * 2 + 1) * width // (2 * new_width)
    small_HW = np.asfortranarray(pixels_HW[rows][:, columns])
    made = mask.encode(small_HW)["counts"].decode("ascii") if compressed else _runs(small_HW)
    return entry | {"size": [new_height, new_width], "counts": made}


def _runs(pixels_HW: np.ndarray[Any, Any]) -> list[int]:
    """COCO's uncompressed counts: runs of zeros and ones in turn, down the columns, zeros first."""
    flat = pixels_HW.flatten(order="F")
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [len(flat)]])
    runs: list[int] = np.diff(edges).tolist()
    return [0, *runs] if len(flat) and flat[0] else runs


def _with_spans(value: str, moved: Moved) -> str:
    """A quality value with its lists of spans on the new clock."""
    told = json.loads(value)
    if not isinstance(told, dict):
        return value
    return json.dumps({name: _spans(column, moved) for name, column in told.items()}, sort_keys=True)


def _spans(column: Any, moved: Moved) -> Any:
    if not isinstance(column, list) or not all(_is_span(entry) for entry in column):
        return column
    return [[*moved.span(start, end), told] for start, end, told in column]


def _is_span(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 3 and all(type(pts) is int for pts in entry[:2])
