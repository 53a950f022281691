"""What a layer's values must look like. A kind and a batch of layer rows go in; nothing comes out, or an error naming
a row.

A layer is of a kind by its name: `layers/masks` and `layers/masks-sam2` hold masks. Values are JSON, except captions,
which are text. Values are checked before they are written, because a mask that cannot be decoded is found otherwise
in training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from cineray.errors import UsageError

MAX_VALUE_BYTES = 16 << 20
_MAX_PIXELS = 1 << 31
"""pycocotools counts pixels in 32 bits."""

Check = Callable[[str], None]


def kind_of(table: str) -> str | None:
    """`masks` of `layers/masks` and `layers/masks-sam2`; None for a table, or a layer of no kind that is checked."""
    if not table.startswith("layers/"):
        return None
    kind = table.removeprefix("layers/").split("-")[0]
    return kind if kind in LAYER_KINDS else None


def check_layer_rows(kind: str, batch: pa.RecordBatch) -> None:
    """Refuse the batch if a row is of nothing, of an empty span, or has a value that its kind cannot have."""
    if kind not in LAYER_KINDS:
        raise UsageError(f"no layer kind {kind!r}; the kinds are {', '.join(LAYER_KINDS)}")
    for row in batch.to_pylist():
        try:
            _check_where(row)
            _check_value(kind, row["value"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UsageError(f"row {row['row_id']} is not a row of layer kind {kind}: {error}") from error


def _check_where(row: dict[str, Any]) -> None:
    start, end, frame = row["start_pts"], row["end_pts"], row["frame"]
    if row["video_id"] is None and row["clip_id"] is None:
        raise ValueError("it names neither a video_id nor a clip_id")
    if (start is None) != (end is None):
        raise ValueError(f"it has only one of start_pts ({start}) and end_pts ({end})")
    if start is not None and start >= end:
        raise ValueError(f"its span [{start}, {end}) is empty")
    if frame is not None and frame < 0:
        raise ValueError(f"its frame is {frame}; frames count from 0")


def _check_value(kind: str, value: str | None) -> None:
    if value is None or not value.strip():
        raise ValueError("its value is empty")
    if len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"its value has {len(value)} characters; the most is {MAX_VALUE_BYTES}")
    LAYER_KINDS[kind](value)


def _captions(value: str) -> None:
    """Any text that is not empty."""


def _boxes(value: str) -> None:
    """`{"box": [x, y, width, height], "label": ...}` in pixels of the upright picture, or a list of these."""
    for entry in _entries(value):
        box = _numbers(entry, "box", 4)
        if min(box[2:]) <= 0:
            raise ValueError(f"box {box} has no area; wanted [x, y, width, height]")


def _masks(value: str) -> None:
    """COCO run-length encoding: `{"size": [height, width], "counts": "..." or [...]}`, or a list of these."""
    for entry in _entries(value):
        _check_rle(entry)


def _audio(value: str) -> None:
    """An event or a place of sound: an object with a `label`, `text` or `uri`."""
    for entry in _entries(value):
        if not any(isinstance(entry.get(name), str) for name in ("label", "text", "uri")):
            raise ValueError("audio needs a label, a text or a uri")


def _events(value: str) -> None:
    """`{"label": "door opens", ...}`."""
    for entry in _entries(value):
        if not isinstance(entry.get("label"), str):
            raise ValueError(f"an event needs a label; got the keys {sorted(entry)}")


def _scores(value: str) -> None:
    """A finite number, or an object of finite numbers by name."""
    told = _json(value)
    for score in told.values() if isinstance(told, dict) else [told]:
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise ValueError(f"a score is a finite number; got {score!r}")


LAYER_KINDS: dict[str, Check] = {
    "captions": _captions,
    "boxes": _boxes,
    "masks": _masks,
    "audio": _audio,
    "events": _events,
    "scores": _scores,
}


def _json(value: str) -> Any:
    try:
        return json.loads(value)
    except RecursionError:
        raise ValueError("its value is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"its value is not JSON ({error})") from None


def _entries(value: str) -> list[dict[str, Any]]:
    told = _json(value)
    entries = told if isinstance(told, list) else [told]
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("its value must be a JSON object, or a list of objects")
    return entries


def _numbers(entry: dict[str, Any], name: str, count: int) -> list[float]:
    told = entry.get(name)
    if not isinstance(told, list) or len(told) != count:
        raise ValueError(f"{name} must be a list of {count} numbers; got {told!r}")
    if any(isinstance(n, bool) or not isinstance(n, int | float) or not math.isfinite(n) for n in told):
        raise ValueError(f"{name} must be finite numbers; got {told!r}")
    return told


def _check_rle(entry: dict[str, Any]) -> None:
    """Runs are checked in Python first: pycocotools' C code reads past the end of a string that is cut short."""
    height, width = (int(n) for n in _numbers(entry, "size", 2))
    if height <= 0 or width <= 0 or height * width >= _MAX_PIXELS:
        raise ValueError(f"mask size {height} x {width} is not usable")
    counts = entry.get("counts")
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(n) is int and n >= 0 for n in runs):
        raise ValueError("mask counts must be a COCO string or a list of whole numbers >= 0")
    if sum(runs) != height * width:
        raise ValueError(f"mask runs cover {sum(runs)} pixels; the size {height} x {width} has {height * width}")
    _check_with_pycocotools(height, width, runs, counts)


def _check_with_pycocotools(height: int, width: int, runs: list[int], counts: object) -> None:
    from pycocotools import mask

    made = mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    given = {"size": [height, width], "counts": counts.encode("ascii")} if isinstance(counts, str) else made
    if int(mask.area(given)) != sum(runs[1::2]):
        raise ValueError(
            f"pycocotools finds {int(mask.area(given))} pixels in the mask, its runs say {sum(runs[1::2])}"
        )


def _unpacked(text: str) -> list[int]:
    """The runs of COCO's string: groups of five bits, low first, in characters from 48; later runs are differences."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"mask counts have the character {character!r}, which COCO's encoding does not use")
        value |= (bits & 31) << shift
        shift += 5
        if shift > 60:
            raise ValueError("mask counts have a run that is too long")
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError("mask counts end in the middle of a run")
    return runs
