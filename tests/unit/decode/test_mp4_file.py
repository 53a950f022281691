"""A clip written for people is a video of these pictures at these times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cineray.decode import decode_visit, write_mp4
from cineray.errors import UsageError
from cineray.records import Clip, ClipSpec, IndexedVideo, Place

COLOURS = np.array([(230, 40, 40), (50, 200, 70), (60, 90, 240), (240, 220, 60)], np.uint8)


@pytest.mark.parametrize("size", [(48, 64), (33, 47)], ids=["even", "odd"])
def test_pictures_and_times_come_back(
    size: tuple[int, int], tmp_path: Path, index_of: Callable[[Path], IndexedVideo], spec_of: Callable[..., ClipSpec]
) -> None:
    frames = np.broadcast_to(COLOURS[:, None, None], (4, *size, 3))
    write_mp4(tmp_path / "clip.mp4", frames, [0.0, 0.1, 0.4, 0.45])
    video = index_of(tmp_path / "clip.mp4")
    assert [float(pts * video.time_base) for pts in video.frames.pts] == pytest.approx([0.0, 0.1, 0.4, 0.45])
    (clip,) = decode_visit(video, Place(uri=str(tmp_path / "clip.mp4")), [spec_of(video, range(4))])
    assert isinstance(clip, Clip)
    assert np.abs(clip.frames_THWC.astype(int) - frames).max() <= 6


def test_padded_frames_that_repeat_a_time_are_still_pictures_of_the_file(
    tmp_path: Path, index_of: Callable[[Path], IndexedVideo]
) -> None:
    write_mp4(tmp_path / "clip.mp4", np.zeros((3, 16, 16, 3), np.uint8), [0.0, 0.5, 0.5])
    assert index_of(tmp_path / "clip.mp4").num_frames == 3


def test_frames_and_times_must_be_as_many(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="wanted"):
        write_mp4(tmp_path / "clip.mp4", np.zeros((3, 16, 16, 3), np.uint8), [0.0])
