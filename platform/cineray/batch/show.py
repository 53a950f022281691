"""A batch for people: a contact sheet as a PNG, and all of it as an `.npz`. A `Batch` in; bytes or a file out.

    3 · up-left · "a red disk moves up and to the left, fast"          slot, label, caption
    video 9f3c...  clip 71ab...  epoch 0  draw 1
    [      ] [      ] [      ] [//////]                                 a padded frame is crossed out
    +0.000 s +0.083 s +0.167 s  padded
    frame 12 frame 14 frame 16 frame 16

A clip as an MP4 is `cineray.decode.write_mp4`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cineray.records import Batch, ClipSpec

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

MARGIN_PX, LINE_PX, SMALLEST_PX, LARGEST_PX = 8, 14, 64, 160
_PAPER, _INK, _FAINT, _CROSS = (255, 255, 255), (20, 20, 20), (110, 110, 110), (200, 60, 60)


def contact_sheet(batch: Batch, *, names: Mapping[str, str] | None = None, most_columns: int = 16) -> bytes:
    """A PNG with a row per clip: its pictures by time, their times and frame numbers, mask, text and source.

    `names` says what a video is called (video_id -> name); of more than `most_columns` frames an even choice is shown.
    """
    from PIL import Image, ImageDraw

    shown = _evenly(batch.frames_BTHWC.shape[1], most_columns)
    cell = _cell_size(batch)
    row_px = 2 * LINE_PX + cell[1] + 2 * LINE_PX + 2 * MARGIN_PX
    width = max(2 * MARGIN_PX + len(shown) * (cell[0] + MARGIN_PX), 480)
    sheet = Image.new("RGB", (width, LINE_PX + 2 * MARGIN_PX + len(batch.specs) * row_px), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (MARGIN_PX, MARGIN_PX), _title(batch), _INK, width)
    for b in range(len(batch.specs)):
        _row(sheet, draw, batch, b, shown, top=LINE_PX + 2 * MARGIN_PX + b * row_px, cell=cell, names=names or {})
    png = io.BytesIO()
    sheet.save(png, "PNG")
    return png.getvalue()


def write_npz(batch: Batch, path: str | os.PathLike[str]) -> None:
    """Every array of the batch under its name, and the specs and substitutions as JSON texts; compressed."""
    arrays: dict[str, Any] = {
        name: getattr(batch, name) for name in ("frames_BTHWC", "frame_is_real_BT", "seconds_BT", "start_seconds_B")
    }
    for name in ("step", "first_slot", "global_size", "frames_decoded"):
        arrays[name] = np.int64(getattr(batch, name))
    arrays["specs_json"] = np.array(json.dumps([_plain(spec) for spec in batch.specs]))
    arrays["substitutions_json"] = np.array(json.dumps([dataclasses.asdict(one) for one in batch.substitutions]))
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def _plain(spec: ClipSpec) -> dict[str, Any]:
    """A spec as JSON has it; the time base as `num/den`."""
    return dataclasses.asdict(spec) | {"time_base": str(spec.time_base)}


def _title(batch: Batch) -> str:
    last = batch.first_slot + len(batch.specs) - 1
    told = f"step {batch.step}, slots {batch.first_slot} to {last} of {batch.global_size}"
    return f"{told}, {len(batch.substitutions)} substituted" if batch.substitutions else told


def _row(
    sheet: Image,
    draw: ImageDraw,
    batch: Batch,
    b: int,
    shown: list[int],
    *,
    top: int,
    cell: tuple[int, int],
    names: Mapping[str, str],
) -> None:
    """One clip: two lines of words, its pictures, two lines under each."""
    from PIL import Image

    spec, slot = batch.specs[b], batch.first_slot + b
    replaced = next((s for s in batch.substitutions if s.slot == slot), None)
    words = [str(slot), spec.label or "no label", f'"{spec.caption}"' if spec.caption is not None else "no caption"]
    _write(draw, (MARGIN_PX, top), " · ".join(words), _INK, sheet.width)
    source = f"{names.get(spec.video_id, 'video ' + spec.video_id[:12])}  clip {spec.clip_id[:12]}"
    source += f"  epoch {spec.epoch}  draw {spec.draw}  from {batch.start_seconds_B[b]:.3f} s"
    source += f"  instead of {replaced.wanted_clip_id[:12]}: {replaced.reason}" if replaced else ""
    _write(draw, (MARGIN_PX, top + LINE_PX), source, _FAINT, sheet.width)
    for column, t in enumerate(shown):
        left, picture_top = MARGIN_PX + column * (cell[0] + MARGIN_PX), top + 2 * LINE_PX
        picture = Image.fromarray(np.ascontiguousarray(batch.frames_BTHWC[b, t])).resize(
            cell, Image.Resampling.BILINEAR
        )
        sheet.paste(picture, (left, picture_top))
        real = bool(batch.frame_is_real_BT[b, t])
        if not real:
            draw.line((left, picture_top, left + cell[0], picture_top + cell[1]), fill=_CROSS, width=2)
        below = picture_top + cell[1] + 1
        _write(draw, (left, below), f"+{batch.seconds_BT[b, t]:.3f} s" if real else "padded", _FAINT, left + cell[0])
        _write(draw, (left, below + LINE_PX - 2), f"frame {spec.frame_numbers[t]}", _FAINT, left + cell[0])


def _write(draw: ImageDraw, at: tuple[int, int], text: str, colour: tuple[int, int, int], right: int) -> None:
    """One line of text, cut where the space ends. Letters that the built-in font lacks show as boxes."""
    line = " ".join(text.split())
    while line and draw.textlength(line, font=_font()) > right - at[0]:
        line = line[:-2].rstrip("…") + "…" if len(line) > 2 else ""
    draw.text(at, line, fill=colour, font=_font())


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=10)


def _cell_size(batch: Batch) -> tuple[int, int]:
    """(width, height) of a picture on the sheet: its own size, within what is good to look at."""
    height, width = batch.frames_BTHWC.shape[2:4]
    scale = min(max(1.0, SMALLEST_PX / width), LARGEST_PX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _evenly(frames: int, most: int) -> list[int]:
    """At most that many frames, evenly spread, the first and the last among them."""
    if frames <= most:
        return list(range(frames))
    return [round(i * (frames - 1) / (most - 1)) for i in range(most)]
