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
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from cineray.batch.sheet import SheetRow, draw_sheet
from cineray.records import Batch, ClipSpec


def contact_sheet(batch: Batch, *, names: Mapping[str, str] | None = None, most_columns: int = 16) -> bytes:
    """A PNG with a row per clip: its pictures by time, their times and frame numbers, mask, text and source.

    `names` says what a video is called (video_id -> name); of more than `most_columns` frames an even choice is shown.
    """
    rows = [_row(batch, b, names or {}) for b in range(len(batch.specs))]
    return draw_sheet(_title(batch), rows, most_columns=most_columns)


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


def _row(batch: Batch, b: int, names: Mapping[str, str]) -> SheetRow:
    """One clip: what it is, where it is from, when its frames are."""
    spec, slot = batch.specs[b], batch.first_slot + b
    replaced = next((s for s in batch.substitutions if s.slot == slot), None)
    words = [str(slot), spec.label or "no label", f'"{spec.caption}"' if spec.caption is not None else "no caption"]
    source = f"{names.get(spec.video_id, 'video ' + spec.video_id[:12])}  clip {spec.clip_id[:12]}"
    source += f"  epoch {spec.epoch}  draw {spec.draw}  from {batch.start_seconds_B[b]:.3f} s"
    source += f"  instead of {replaced.wanted_clip_id[:12]}: {replaced.reason}" if replaced else ""
    real_T = batch.frame_is_real_BT[b]
    times = (
        f"+{seconds:.3f} s" if real else "padded" for seconds, real in zip(batch.seconds_BT[b], real_T, strict=True)
    )
    return SheetRow(
        words=" · ".join(words),
        detail=source,
        frames_THWC=batch.frames_BTHWC[b],
        under=[(time, f"frame {number}") for time, number in zip(times, spec.frame_numbers, strict=True)],
        crossed=[not real for real in real_T],
    )
