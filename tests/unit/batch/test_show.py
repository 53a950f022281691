"""What people get to see: a sheet with every clip's pictures where they belong, and a file with everything in it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from cineray.batch import contact_sheet, write_npz
from cineray.batch.sheet import LINE_PX, MARGIN_PX
from cineray.records import Batch, Substitution

BatchOf = Callable[..., Batch]


def pixels_of(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def picture_places(columns: int, rows: int, cell: tuple[int, int]) -> list[tuple[int, int]]:
    """(top, left) of each picture's middle, by the drawing in sheet.py's docstring."""
    row_px = 4 * LINE_PX + cell[1] + 2 * MARGIN_PX
    tops = [LINE_PX + 2 * MARGIN_PX + row * row_px + 2 * LINE_PX + cell[1] // 2 for row in range(rows)]
    return [
        (top, MARGIN_PX + column * (cell[0] + MARGIN_PX) + cell[0] // 2) for top in tops for column in range(columns)
    ]


def test_the_sheet_shows_every_picture_in_its_row_and_column(batch_of: BatchOf) -> None:
    """The pictures of 6x4 pixels are flat, of gray 10 * slot + t, and are drawn 64 wide."""
    batch = batch_of(0, 3, 3)
    sheet = pixels_of(contact_sheet(batch))
    found = [sheet[top, left].tolist() for top, left in picture_places(3, 3, (64, 43))]
    assert found == [[10 * slot + t] * 3 for slot in range(3) for t in range(3)]


def test_padded_frames_are_crossed_out(batch_of: BatchOf) -> None:
    sheet = pixels_of(contact_sheet(batch_of(0, 1, 1, padded=1)))
    middles = [
        sheet[top - 2 : top + 3, left - 2 : left + 3].reshape(-1, 3) for top, left in picture_places(3, 1, (64, 43))
    ]
    red = [int((middle[:, 0] > middle[:, 1] + 50).sum()) for middle in middles]
    assert red[:2] == [0, 0]
    assert red[2] > 0


def test_words_are_written_and_change_with_what_they_say(batch_of: BatchOf) -> None:
    batch = batch_of(0, 2, 2)
    plain = pixels_of(contact_sheet(batch))
    replaced = replace(
        batch,
        substitutions=(
            Substitution(step=7, slot=1, wanted_clip_id="gone", used_clip_id="clip1", reason="corrupt", detail=""),
        ),
    )
    for other in (
        contact_sheet(batch, names={"video0": "holiday.mp4"}),
        contact_sheet(replaced),
        contact_sheet(replace(batch, specs=(replace(batch.specs[0], caption=None), batch.specs[1]))),
        contact_sheet(replace(batch, seconds_BT=batch.seconds_BT + 1)),
    ):
        assert not np.array_equal(pixels_of(other), plain)
    assert np.array_equal(pixels_of(contact_sheet(batch_of(0, 2, 2))), plain)


def test_long_clips_and_long_captions_fit(batch_of: BatchOf) -> None:
    batch = batch_of(0, 1, 1, frames=81, caption="many words " * 200 + "日本語 ünïcode \ud800")
    sheet = pixels_of(contact_sheet(batch, most_columns=5))
    assert sheet.shape[1] <= 5 * 72 + 480
    shown = [sheet[top, left, 0] for top, left in picture_places(5, 1, (64, 43))]
    assert shown == [0, 20, 40, 60, 80]


def test_the_npz_holds_every_array_and_every_spec(batch_of: BatchOf, tmp_path: Path) -> None:
    batch = batch_of(2, 4, 6)
    write_npz(batch, tmp_path / "batch.npz")
    with np.load(tmp_path / "batch.npz") as found:
        for name in ("frames_BTHWC", "frame_is_real_BT", "seconds_BT", "start_seconds_B"):
            assert np.array_equal(found[name], getattr(batch, name))
        assert [int(found[n]) for n in ("step", "first_slot", "global_size", "frames_decoded")] == [7, 2, 6, 10]
        specs = json.loads(str(found["specs_json"]))
    assert [spec["clip_id"] for spec in specs] == ["clip2", "clip3"]
    assert specs[0]["time_base"] == "1/30000"
