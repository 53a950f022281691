"""Samples as files: what lies in a folder, that moving pictures run in real time, and that nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from cineray.evaluate import ClipSet, SampleConfig
from cineray.evaluate.moving import common_times, grid_of, sheet_of, write_moving
from cineray.evaluate.sample_files import read_facts, write_samples
from cineray.storage import list_objects


def clips_of(count: int, *, seconds: Any = (0.0, 0.1, 0.3), width: int = 16, height: int = 16) -> ClipSet:
    """Clip n, frame t is flat gray 20 n + 5 t; the frames are not evenly spaced."""
    gray = 20 * np.arange(count)[:, None] + 5 * np.arange(len(seconds))
    frames = np.broadcast_to(gray[:, :, None, None, None], (count, len(seconds), height, width, 3))
    return ClipSet(
        frames_NTHWC=frames.astype(np.uint8),
        seconds_NT=np.tile(np.array(seconds, dtype=np.float64), (count, 1)),
        names=tuple(f"prompt-{number:04d}" for number in range(count)),
        labels=("up",) * count,
        captions=("a square",) * count,
        facts=({"direction": "up"},) * count,
    )


def facts_of(config: SampleConfig) -> dict[str, Any]:
    return {
        "job": "made",
        "checkpoint": 7,
        "weights": "ema",
        "told": ["label"],
        "config": config.model_dump(mode="json"),
    }


@pytest.mark.parametrize(("form", "unit_ms"), [("gif", 10), ("webp", 1)])
def test_each_picture_lasts_as_long_as_it_is_shown(tmp_path: Path, form: str, unit_ms: int) -> None:
    clips = clips_of(1, seconds=(0.0, 0.04, 0.12, 0.125, 0.25))
    write_moving(tmp_path / f"clip.{form}", clips.frames_NTHWC[0], clips.seconds_NT[0])
    with Image.open(tmp_path / f"clip.{form}") as picture:
        lasting, shown = [], []
        for frame in ImageSequence.Iterator(picture):
            frame.load()
            lasting.append(frame.info["duration"])
            shown.append(int(np.asarray(frame.convert("RGB")).mean()))
        assert picture.info["loop"] == 0
    rounded = [round(ms / unit_ms) * unit_ms for ms in (40, 120, 125, 250, 312.5)]
    assert lasting == [max(ms, unit_ms) for ms in np.diff(rounded, prepend=0)]
    assert shown == pytest.approx([0, 5, 10, 15, 20], abs=2)


def test_an_mp4_has_every_frame_at_its_time(tmp_path: Path) -> None:
    clips = clips_of(1)
    write_moving(tmp_path / "clip.mp4", clips.frames_NTHWC[0], clips.seconds_NT[0])
    with av.open(tmp_path / "clip.mp4") as video:
        assert [frame.time for frame in video.decode(video=0)] == pytest.approx([0.0, 0.1, 0.3])


def test_a_grid_shows_every_clip_in_its_place() -> None:
    frames, seconds = grid_of(clips_of(5), columns=3)
    assert frames.shape[0] == len(seconds) == 3
    # Cells of 96 px, 4 px apart, 14 px of words under each.
    middles = [(4 + 48 + row * 114, 4 + 48 + column * 100) for row in range(2) for column in range(3)]
    for t in range(3):
        assert [frames[t, y, x].tolist() for y, x in middles[:5]] == [[20 * n + 5 * t] * 3 for n in range(5)]
    assert frames[0, middles[5][0], middles[5][1]].tolist() == [255] * 3, "the sixth place is paper"
    assert (frames[0, 4 + 97 : 4 + 109, 4:100] < 100).any(), "the label is written under the clip"
    assert frames.shape[1] % 2 == frames.shape[2] % 2 == 0


def test_large_clips_are_made_smaller_to_fit_on_a_screen() -> None:
    frames, _ = grid_of(clips_of(4, width=900, height=450))
    assert frames.shape[2] <= 1280


def test_clips_of_different_times_run_by_one_clock() -> None:
    """One of 0.1 s per frame, one of 0.2 s: until 0.4 s, in steps of 0.1 s; the slow one stays for two steps."""
    fast, slow = clips_of(1, seconds=(0.0, 0.1, 0.2)), clips_of(2, seconds=(0.0, 0.2, 0.4)).select([1])
    both = ClipSet.concat([fast, slow])
    assert common_times(both.seconds_NT).tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    frames, _ = grid_of(both, columns=2)
    assert frames[:, 52, 52, 0].tolist() == [0, 5, 10, 10, 10]
    assert frames[:, 52, 152, 0].tolist() == [20, 20, 25, 25, 30]


def test_a_folder_has_all_files_and_says_what_made_them(tmp_path: Path) -> None:
    clips, config = clips_of(3), SampleConfig(clip_format="gif", grid_format="mp4")
    written = write_samples(str(tmp_path / "samples"), clips, facts_of(config))
    names = ["0000.gif", "0001.gif", "0002.gif", "clips.npz", "contact-sheet.png", "grid.mp4", "samples.json"]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == names
    assert sorted(Path(path).name for path in written) == names
    told = json.loads((tmp_path / "samples" / "samples.json").read_text())
    assert told["files"] == {"clips": "clips.npz", "grid": "grid.mp4", "contact_sheet": "contact-sheet.png"}
    again = ClipSet.load(tmp_path / "samples" / "clips.npz")
    assert (again.frames_NTHWC == clips.frames_NTHWC).all()
    assert again.names == clips.names


@pytest.mark.network
def test_a_folder_may_be_a_prefix_of_an_object_store(s3_bucket: str) -> None:
    clips, folder = clips_of(2), f"{s3_bucket}/run/samples/step-00000007"
    written = write_samples(folder, clips, facts_of(SampleConfig()))
    assert sorted(written) == sorted(one.uri for one in list_objects(folder))
    told = read_facts(folder)
    assert told is not None
    assert told["checkpoint"] == 7
    assert (ClipSet.load(f"{folder}/clips.npz").frames_NTHWC == clips.frames_NTHWC).all()


def test_words_of_a_sheet_change_with_what_they_say() -> None:
    plain = sheet_of(clips_of(2), "step 7")
    assert plain == sheet_of(clips_of(2), "step 7")
    assert plain != sheet_of(clips_of(2), "step 8")
    assert plain != sheet_of(clips_of(2), "step 7", told=["label"]), "what the model was not told is said apart"
