"""Two recipes side by side, for eyes: pairs of clips and a check's record go in; a folder comes out.

pipeline.json        the record
contact-sheet.png    per clip a row of A, a row of B at the same instants, and where they differ, four times as strong
clips/0000.mp4       A left, B right, by one clock
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cineray.batch.sheet import SheetRow, draw_sheet
from cineray.decode import write_mp4
from cineray.evaluate.pipeline_clips import Pair, Shown
from cineray.evaluate.pipeline_measures import resized_to, same_size

Frames = npt.NDArray[np.uint8]
Reals = npt.NDArray[np.float64]

_STRONGER = 4
_GAP_PX = 4
_LEAST_PX = 96
_SAME_INSTANT = 1e-6


def write_check(folder: Path, facts: Mapping[str, Any], pairs: Sequence[Pair], shown: int) -> dict[str, Any]:
    """Write all files; returns the facts with their names, relative to the folder."""
    clips = folder / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    files = []
    for number, pair in enumerate(pairs[:shown]):
        files.append({"file": f"clips/{number:04d}.mp4", "name": pair.name})
        write_mp4(folder / files[-1]["file"], *side_by_side(pair))
    told = {**facts, "samples": files, "contact_sheet": "contact-sheet.png" if files else ""}
    if files:
        rows = [row for pair in pairs[:shown] for row in sheet_rows(pair)]
        (folder / "contact-sheet.png").write_bytes(draw_sheet(str(facts["verdict"]), rows))
    (folder / "pipeline.json").write_text(json.dumps(told, indent=1))
    return told


def side_by_side(pair: Pair) -> tuple[Frames, list[float]]:
    """Both at one height, and the instants at which either shows something new."""
    a, b = pair.ways["a"], pair.ways["b"]
    first = min(a.asked_T[0], b.asked_T[0])
    times_T = np.unique(np.round(np.concatenate([a.asked_T, b.asked_T]) - first, 6))
    height = max(a.frames_THWC.shape[1], b.frames_THWC.shape[1], _LEAST_PX) // 2 * 2
    left, right = (_at_height(one.frames_THWC[_shown_at(one, times_T + first)[0]], height) for one in (a, b))
    gap = np.full((len(times_T), height, _GAP_PX, 3), 255, np.uint8)
    return np.concatenate([left, gap, right], axis=2), times_T.tolist()


def sheet_rows(pair: Pair) -> Iterator[SheetRow]:
    """At A's instants."""
    a, b = pair.ways["a"], pair.ways["b"]
    index_T, known_T = _shown_at(b, a.asked_T)
    of_b = b.frames_THWC[index_T]
    words = f"{pair.name[:12]} {a.spec.label or ''}"
    yield _row(f"A · {words}", a.frames_THWC, a.asked_T, a.numbers_T, np.ones(len(a.asked_T), bool))
    out_of_b = "" if known_T.all() else "; crossed out: B does not show this instant"
    yield _row(f"B · {words}", of_b, b.asked_T[index_T], b.numbers_T[index_T], known_T, also=out_of_b)
    one, other = same_size(a.frames_THWC, of_b)
    apart = np.abs(one.astype(np.int16) - other).astype(np.float32)
    levels_T = apart.mean(axis=(1, 2, 3))
    stronger = np.minimum(apart * _STRONGER, 255).astype(np.uint8)
    under = [(f"{levels:.1f} levels", "") for levels in levels_T]
    title = f"difference, times {_STRONGER}"
    yield SheetRow(words=title, detail="", frames_THWC=stronger, under=under, crossed=[not known for known in known_T])


def _row(
    words: str,
    frames_THWC: Frames,
    asked_T: Reals,
    numbers_T: npt.NDArray[np.int64],
    known_T: npt.NDArray[np.bool_],
    *,
    also: str = "",
) -> SheetRow:
    height, width = frames_THWC.shape[1:3]
    under = [(f"{at:.3f} s", f"frame {number}") for at, number in zip(asked_T, numbers_T, strict=True)]
    detail = f"{height}x{width}, {len(frames_THWC)} frames, times since the video's first frame{also}"
    return SheetRow(
        words=words, detail=detail, frames_THWC=frames_THWC, under=under, crossed=[not known for known in known_T]
    )


def _shown_at(one: Shown, times_T: Reals) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Which of a clip's frames is on screen at these instants, and whether the clip has begun and not ended."""
    index_T = np.searchsorted(one.asked_T, times_T + _SAME_INSTANT, side="right") - 1
    spacing = float(np.diff(one.asked_T).mean()) if len(one.asked_T) > 1 else np.inf
    known_T = (index_T >= 0) & (times_T < one.asked_T[-1] + spacing)
    return np.clip(index_T, 0, len(one.asked_T) - 1), known_T


def _at_height(frames_THWC: Frames, height: int) -> Frames:
    """Larger without smoothing: what is to be seen are the pixels."""
    from PIL import Image

    width = max(2, round(frames_THWC.shape[2] * height / frames_THWC.shape[1]) // 2 * 2)
    if height % frames_THWC.shape[1] == 0 and width % frames_THWC.shape[2] == 0:
        larger = frames_THWC.repeat(height // frames_THWC.shape[1], axis=1)
        return larger.repeat(width // frames_THWC.shape[2], axis=2)
    if height < frames_THWC.shape[1]:
        return resized_to(frames_THWC, height, width)
    pictures = (Image.fromarray(np.ascontiguousarray(one_HWC)) for one_HWC in frames_THWC)
    return np.stack([np.asarray(one.resize((width, height), Image.Resampling.NEAREST)) for one in pictures])
