"""A contact sheet: rows of words and pictures go in, a PNG comes out. What the rows say is the caller's.

heading
words of the first row, dark                            the clip that it is of, its label, its caption
detail, gray                                            where it is from
[      ] [      ] [      ] [//////]                     its pictures by time; one that does not count is crossed out
+0.000 s +0.083 s +0.167 s  padded                      two lines of words under each, or none
frame 12 frame 14 frame 16 frame 16
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

MARGIN_PX, LINE_PX, SMALLEST_PX, LARGEST_PX = 8, 14, 64, 160
PAPER, INK, FAINT, CROSS = (255, 255, 255), (20, 20, 20), (110, 110, 110), (200, 60, 60)

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRow:
    """One clip on the sheet; all clips of a sheet are of one size."""

    words: str
    detail: str
    frames_THWC: npt.NDArray[np.uint8]
    under: Sequence[tuple[str, str]]
    """Two lines for each frame."""
    crossed: Sequence[bool]
    """Which frames are crossed out."""


def draw_sheet(heading: str, rows: Sequence[SheetRow], *, most_columns: int = 16) -> bytes:
    """A PNG. Of more than `most_columns` frames an even choice is shown."""
    from PIL import Image, ImageDraw

    shown = evenly(len(rows[0].frames_THWC), most_columns)
    cell = _cell_size(rows[0].frames_THWC)
    row_px = 2 * LINE_PX + cell[1] + 2 * LINE_PX + 2 * MARGIN_PX
    width = max(2 * MARGIN_PX + len(shown) * (cell[0] + MARGIN_PX), 480)
    sheet = Image.new("RGB", (width, LINE_PX + 2 * MARGIN_PX + len(rows) * row_px), PAPER)
    draw = ImageDraw.Draw(sheet)
    write_line(draw, (MARGIN_PX, MARGIN_PX), heading, INK, width)
    for number, row in enumerate(rows):
        _draw_row(sheet, draw, row, shown, top=LINE_PX + 2 * MARGIN_PX + number * row_px, cell=cell)
    png = io.BytesIO()
    sheet.save(png, "PNG")
    return png.getvalue()


def _draw_row(sheet: Image, draw: ImageDraw, row: SheetRow, shown: Sequence[int], *, top: int, cell: Size) -> None:
    """Two lines of words, the pictures, two lines under each."""
    from PIL import Image

    write_line(draw, (MARGIN_PX, top), row.words, INK, sheet.width)
    write_line(draw, (MARGIN_PX, top + LINE_PX), row.detail, FAINT, sheet.width)
    for column, t in enumerate(shown):
        left, picture_top = MARGIN_PX + column * (cell[0] + MARGIN_PX), top + 2 * LINE_PX
        picture = Image.fromarray(np.ascontiguousarray(row.frames_THWC[t])).resize(cell, Image.Resampling.BILINEAR)
        sheet.paste(picture, (left, picture_top))
        if row.crossed[t]:
            draw.line((left, picture_top, left + cell[0], picture_top + cell[1]), fill=CROSS, width=2)
        below = picture_top + cell[1] + 1
        for line, text in enumerate(row.under[t]):
            write_line(draw, (left, below + line * (LINE_PX - 2)), text, FAINT, left + cell[0])


def write_line(draw: ImageDraw, at: tuple[int, int], text: str, colour: tuple[int, int, int], right: int) -> None:
    """One line of text, cut where the space ends. Letters that the built-in font lacks show as boxes."""
    line = " ".join(text.split())
    while line and draw.textlength(line, font=_font()) > right - at[0]:
        line = line[:-2].rstrip("…") + "…" if len(line) > 2 else ""
    draw.text(at, line, fill=colour, font=_font())


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=10)


def _cell_size(frames_THWC: npt.NDArray[np.uint8]) -> Size:
    """Of a picture on the sheet: its own size, within what is good to look at."""
    height, width = frames_THWC.shape[1:3]
    scale = min(max(1.0, SMALLEST_PX / width), LARGEST_PX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def evenly(frames: int, most: int) -> list[int]:
    """At most that many frames, evenly spread, the first and the last among them."""
    if frames <= most:
        return list(range(frames))
    return [round(i * (frames - 1) / (most - 1)) for i in range(most)]
