"""Clips as moving pictures: frames and their times go in; an MP4, GIF or WebP comes out, or one grid of many clips.

Time is real: each picture is shown for as long as it lasts (a GIF counts in hundredths of a second), and in a grid all
clips run by one clock, however their own frames lie. All of them are for eyes: what is computed with is `clips.npz`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cineray.batch.sheet import INK, LINE_PX, PAPER, SheetRow, draw_sheet, write_line
from cineray.decode import write_mp4
from cineray.evaluate.clip_set import ClipSet

Frames = npt.NDArray[np.uint8]
Seconds = npt.NDArray[np.float64]

Told = Sequence[Literal["label", "caption"]]
"""What a model is told of a clip."""
ALL: Told = ("label", "caption")

_GAP_PX = 4
_CELL_PX = 96
"""Smaller clips are enlarged to about this, so that one can see them."""
_WIDEST_PX = 1280
_ONLY_FRAME_SECONDS = 1.0


def write_moving(path: Path, frames_THWC: Frames, seconds_T: Seconds) -> None:
    """By the name's ending: .mp4, .gif or .webp; the last two begin again at their end."""
    if path.suffix == ".mp4":
        write_mp4(path, frames_THWC, seconds_T.tolist())
        return
    from PIL import Image

    unit_ms = 10 if path.suffix == ".gif" else 1
    # Ends are rounded, not lengths: a long clip stays as long as it is.
    ends_T = np.append(seconds_T[1:], seconds_T[-1] + _pace(seconds_T))
    ticks = np.maximum.accumulate(np.round(ends_T * 1000 / unit_ms).astype(int))
    lasting = np.maximum(np.diff(ticks, prepend=0), 1) * unit_ms
    first, *rest = [Image.fromarray(np.ascontiguousarray(frame_HWC)) for frame_HWC in frames_THWC]
    told: dict[str, Any] = {"quality": 95, "method": 4} if path.suffix == ".webp" else {"disposal": 1}
    first.save(path, save_all=True, append_images=rest, duration=lasting.tolist(), loop=0, **told)


def grid_of(clips: ClipSet, *, columns: int | None = None, told: Told = ALL) -> tuple[Frames, Seconds]:
    """All clips side by side, each with what its model was told (or its name) under it: frames THWC and their times."""
    from PIL import Image, ImageDraw

    across = columns if columns is not None else math.ceil(math.sqrt(len(clips)))
    down = math.ceil(len(clips) / across)
    width, height = _cell(clips, across)
    row_px = height + LINE_PX + _GAP_PX
    size = (_even(_GAP_PX + across * (width + _GAP_PX)), _even(_GAP_PX + down * row_px))
    paper = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(paper)
    corners = [(_GAP_PX + n % across * (width + _GAP_PX), _GAP_PX + n // across * row_px) for n in range(len(clips))]
    for number, (left, top) in enumerate(corners):
        words = _words(clips, number, told)[0] or clips.names[number]
        write_line(draw, (left, top + height), words, INK, left + width)
    times_T = common_times(clips.seconds_NT)
    shown_TN = np.stack([np.searchsorted(own_T, times_T + 1e-6, side="right") - 1 for own_T in clips.seconds_NT], 1)
    frames = []
    for shown_N in shown_TN:
        page = paper.copy()
        for number, (left, top) in enumerate(corners):
            picture = Image.fromarray(clips.frames_NTHWC[number, shown_N[number]])
            how = Image.Resampling.NEAREST if width >= clips.width else Image.Resampling.BILINEAR
            page.paste(picture.resize((width, height), how), (left, top))
        frames.append(np.asarray(page))
    return np.stack(frames), times_T


def common_times(seconds_NT: Seconds) -> Seconds:
    """One clock for all clips: their own times if they share them, else as many evenly until the longest has ended."""
    if np.allclose(seconds_NT, seconds_NT[0], atol=1e-6):
        own_T: Seconds = seconds_NT[0]
        return own_T
    pace = min(_pace(each_T) for each_T in seconds_NT)
    return np.arange(1 + math.ceil(float(seconds_NT.max()) / pace - 1e-6), dtype=np.float64) * pace


def sheet_of(clips: ClipSet, heading: str, *, told: Told = ALL, most_clips: int = 64) -> bytes:
    """A contact sheet, as a PNG: a row for each of the first clips; what its model was told stands in front."""
    words = [_words(clips, n, told) for n in range(min(len(clips), most_clips))]
    rows = [
        SheetRow(
            words=" · ".join(filter(None, (clips.names[n], words[n][0]))),
            detail=f"not told: {words[n][1]}" if words[n][1] else "",
            frames_THWC=clips.frames_NTHWC[n],
            under=[(f"+{seconds:.3f} s", "") for seconds in clips.seconds_NT[n]],
            crossed=[False] * clips.num_frames,
        )
        for n in range(min(len(clips), most_clips))
    ]
    return draw_sheet(heading, rows)


def _words(clips: ClipSet, number: int, told: Told) -> tuple[str, str]:
    """What is known of a clip in words: what its model was told, and what it was not."""
    known = {"label": clips.labels[number], "caption": clips.captions[number]}
    hidden = [text for name, text in known.items() if name not in told]
    return " · ".join(filter(None, (known[name] for name in told))), " · ".join(filter(None, hidden))


def _even(pixels: int) -> int:
    """Encoders with half as many chroma samples want even sizes."""
    return pixels + pixels % 2


def _cell(clips: ClipSet, across: int) -> tuple[int, int]:
    """Width and height of a clip in the grid: whole multiples of its own where it is small."""
    room = (_WIDEST_PX - _GAP_PX) // across - _GAP_PX
    times = max(1, min(round(_CELL_PX / clips.width), room // clips.width))
    scale = min(float(times), room / clips.width)
    return max(1, round(clips.width * scale)), max(1, round(clips.height * scale))


def _pace(seconds_T: Sequence[float] | Seconds) -> float:
    """The mean time between frames; of a single one, how long it is looked at."""
    return float(seconds_T[-1]) / (len(seconds_T) - 1) if len(seconds_T) > 1 else _ONLY_FRAME_SECONDS
