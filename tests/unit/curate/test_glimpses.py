"""A few frames for people: found by seeking, shown as the whole decode shows them, and had from damaged files too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cineray.curate import glimpses as glimpses_module
from cineray.curate.glimpses import glimpses
from cineray.index import index_video
from cineray.index.footage import colour_pictures
from cineray.records import IndexedVideo, Place, VideoFile
from cineray.storage import AccessPolicy

POLICY = AccessPolicy.from_env()
LONG = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=20", "-g", 25, "-pix_fmt", "yuv420p", "-preset", "veryfast")


def indexed(path: Path) -> tuple[VideoFile, IndexedVideo]:
    file = VideoFile(name=path.name, place=Place(uri=str(path)))
    video = index_video(file)
    assert isinstance(video, IndexedVideo), video
    return file, video


@pytest.mark.parametrize("turned", [False, True])
def test_frames_are_sought_and_look_as_they_do_when_all_is_decoded(
    tmp_path: Path, ffmpeg: Callable[..., None], monkeypatch: pytest.MonkeyPatch, turned: bool
) -> None:
    ffmpeg(*LONG, tmp_path / "flat.mp4")
    ffmpeg(
        "-i", tmp_path / "flat.mp4", "-c", "copy", "-metadata:s:v:0", f"rotate={270 * turned}", tmp_path / "long.mp4"
    )
    file, video = indexed(tmp_path / "long.mp4")
    whole = colour_pictures(file, video, [480, 482, 490], short_side=96)

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("decoded from the beginning")

    monkeypatch.setattr(glimpses_module, "colour_pictures", refused)
    sought = glimpses(file, video, [480, 482, 490], short_side=96, policy=POLICY)
    assert (video.rotation_degrees != 0, sought.shape) == (turned, whole.shape)
    assert np.abs(sought.astype(int) - whole).mean() < 4
    assert np.abs(sought[0].astype(int) - whole[2]).mean() > 8, "another frame is another picture"


def test_of_a_damaged_file_the_nearest_frame_that_decodes_is_shown(tmp_path: Path, ffmpeg: Callable[..., None]) -> None:
    """Every frame stands alone; the tenth is zeros."""
    path = tmp_path / "still.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64:r=25:d=1", "-c:v", "mjpeg", path)
    _, video = indexed(path)
    data = bytearray(path.read_bytes())
    at, size = int(video.frames.position[10]), int(video.frames.size_bytes[10])
    data[at : at + size] = bytes(size)
    (tmp_path / "broken.mp4").write_bytes(data)
    file = VideoFile(name="broken.mp4", place=Place(uri=str(tmp_path / "broken.mp4")))
    shown = glimpses(file, video, [9, 10], short_side=32, policy=POLICY)
    assert np.array_equal(shown[0], shown[1])
