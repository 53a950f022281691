"""One video seen and heard once: grey, full range, upright, every frame, and only what decodes."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cineray.index import index_video
from cineray.index.footage import Seen, detail_size, see
from cineray.index.reasons import Unfit
from cineray.records import IndexedVideo, Place, VideoFile

Ffmpeg = Callable[..., None]


def looked_at(path: Path) -> tuple[IndexedVideo, Seen]:
    file = VideoFile(name=path.name, place=Place(uri=str(path)))
    video = index_video(file)
    assert isinstance(video, IndexedVideo), video
    return video, see(file, video)


@pytest.mark.parametrize("color_range", ["tv", "pc"])
def test_grey_levels_are_of_the_full_range_whatever_the_file_uses(
    tmp_path: Path, ffmpeg: Ffmpeg, color_range: str
) -> None:
    path = tmp_path / "halves.mp4"
    halves = "color=0x101010:s=64x72:r=10:d=0.5[a];color=0xC0C0C0:s=64x72:r=10:d=0.5[b];[a][b]hstack"
    ffmpeg("-f", "lavfi", "-i", f"{halves},scale=out_range={color_range}", "-pix_fmt", "yuv420p", "-qp", 0,
           "-color_range", color_range, path)  # fmt: skip
    _, seen = looked_at(path)
    assert seen.gray_THW.shape == (5, 36, 64)
    dark, bright = seen.gray_THW[:, :, :30], seen.gray_THW[:, :, 34:]
    assert (dark.mean(), bright.mean()) == (pytest.approx(16, abs=1), pytest.approx(192, abs=1))


def test_every_frame_of_a_variable_rate_is_there_at_its_own_time(tmp_path: Path) -> None:
    from cineray.testing.stamped import stamp_video

    times = [0, 20, 60, 61, 200, 500]
    stamp_video(tmp_path / "vfr.mp4", pts=times)
    video, seen = looked_at(tmp_path / "vfr.mp4")
    seconds = [int(pts) * video.time_base for pts in seen.pts_T]
    assert [second - seconds[0] for second in seconds] == [Fraction(pts, 600) for pts in times]
    assert len(seen.detail_pts_N) < 16, "a long frame is looked at once"


def test_a_turned_picture_is_seen_upright(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    """White above black, stored lying on its side."""
    flat, turned = tmp_path / "flat.mp4", tmp_path / "turned.mp4"
    left_white = "color=white:s=64x72:r=5:d=1[a];color=black:s=64x72:r=5:d=1[b];[a][b]hstack"
    ffmpeg("-f", "lavfi", "-i", left_white, "-pix_fmt", "yuv420p", flat)
    ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v:0", "rotate=270", turned)
    video, seen = looked_at(turned)
    assert video.rotation_degrees == 90
    assert (seen.gray_THW.shape[1:], seen.detail_NHW.shape[1:]) == ((36, 64), (128, 72))
    assert seen.gray_THW[:, :16].mean() > 245
    assert seen.gray_THW[:, 20:].mean() < 10


def test_pixels_that_are_not_square_are_made_square_in_the_larger_pictures(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    path = tmp_path / "wide.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=360x288:r=5:d=1,setsar=16/9", "-pix_fmt", "yuv420p", path)
    video, seen = looked_at(path)
    assert detail_size(video) == (360, 162)
    assert seen.detail_NHW.shape == (5, 162, 360)


def test_sound_is_heard_with_its_offset(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    path = tmp_path / "late.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64:r=10:d=2", "-itsoffset", 0.5, "-f", "lavfi",
           "-i", "sine=f=400:d=1", "-c:a", "pcm_s16le", "-c:v", "libx264", path)  # fmt: skip
    _, seen = looked_at(path)
    assert seen.audio is not None
    assert abs(len(seen.audio) - 16_000) < 100
    assert seen.audio_start_seconds == Fraction(1, 2)
    spectrum = np.abs(np.fft.rfft(seen.audio[:16_000]))
    assert abs(int(np.argmax(spectrum)) - 400) <= 2


def test_a_few_broken_frames_are_left_out_and_many_make_the_video_unfit(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    path = tmp_path / "still.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64:r=25:d=2", "-c:v", "mjpeg", path)  # each frame stands alone
    video, _ = looked_at(path)
    whole = path.read_bytes()

    def with_broken(frames: int) -> Path:
        data = bytearray(whole)
        for frame in range(10, 10 + frames):
            at, size = int(video.frames.position[frame]), int(video.frames.size_bytes[frame])
            data[at : at + size] = bytes(size)
        broken = tmp_path / f"broken-{frames}.mp4"
        broken.write_bytes(data)
        return broken

    file = VideoFile(name="b", place=Place(uri=str(with_broken(3))))
    seen = see(file, video)
    assert seen.pts_T.tolist() == np.delete(video.frames.pts, [10, 11, 12]).tolist()
    assert seen.gray_THW.shape == (47, 36, 64)
    with pytest.raises(Unfit, match="20 of 50 frames cannot be decoded"):
        see(VideoFile(name="b", place=Place(uri=str(with_broken(20)))), video)
