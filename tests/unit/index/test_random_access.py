"""Frames taken through the index at random are those of a sequential decode, pixel by pixel, in torchcodec.

Containers in which that cannot be had are rewritten first (`needs_remux`), and then the same holds.
"""

from __future__ import annotations

import random
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchcodec.decoders import VideoDecoder

from cineray.index import needs_remux, remux
from cineray.records import IndexedVideo, Place, VideoFile

Index = Callable[..., IndexedVideo]


@pytest.fixture
def kept_or_rewritten(any_video: Path, indexed: Index, tmp_path: Path) -> tuple[Path, IndexedVideo]:
    video = indexed(any_video)
    if needs_remux(video) is None:
        return any_video, video
    out = tmp_path / "rewritten.mp4"
    result = remux(VideoFile(name="x", place=Place(uri=str(any_video))), video, out)
    assert isinstance(result, IndexedVideo), result
    return out, result


def test_a_frame_taken_at_random_is_the_frame_of_a_sequential_decode(
    kept_or_rewritten: tuple[Path, IndexedVideo],
) -> None:
    path, video = kept_or_rewritten
    wanted = list(range(video.num_frames)) if video.width < 100 else random.Random(1).sample(range(video.num_frames), 3)
    random.Random(2).shuffle(wanted)

    sequential = VideoDecoder(str(path), stream_index=video.stream_index, seek_mode="exact")
    expected = {}
    for number in range(max(wanted) + 1):  # never seeks
        frame = sequential.get_frame_at(number)
        if number in wanted:
            expected[number] = frame
    assert sequential.metadata.num_frames_from_content == video.num_frames

    at_random = VideoDecoder(
        str(path), stream_index=video.stream_index, custom_frame_mappings=video.frames.torchcodec_mappings()
    )
    for number in wanted:
        frame = at_random.get_frame_at(number)
        assert torch.equal(frame.data, expected[number].data), f"frame {number}"
        seconds = float(video.frames.pts[number] * video.time_base)
        assert frame.pts_seconds == pytest.approx(seconds, abs=1e-6), f"frame {number}"
        assert expected[number].pts_seconds == pytest.approx(seconds, abs=1e-6), f"frame {number}"


def frame_hashes(path: Path, stream_index: int) -> list[str]:
    """FFmpeg's own hash of each decoded picture."""
    command = f"ffmpeg -v quiet -i {shlex.quote(str(path))} -map 0:{stream_index} -vsync passthrough -f framemd5 -"
    lines = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]


REWRITTEN = [
    "no_b.ts", "b.ts", "sound.ts", "mpeg2.ts", "interlaced.ts", "mpeg2.mpg", "mpeg4.avi", "mpeg4_b.avi", "h264_b.avi",
    "motion_jpeg.avi", "b.flv", "bare.h264", "mmaction2_test.avi",
]  # fmt: skip


@pytest.mark.parametrize("name", REWRITTEN)
def test_rewriting_keeps_every_picture_every_time_and_the_sound(
    name: str, made: Callable[[str], Path], request: pytest.FixtureRequest, indexed: Index, tmp_path: Path
) -> None:
    path = request.getfixturevalue("media_dir") / name if name.startswith("mmaction2") else made(name)
    video, out = indexed(path), tmp_path / "out.mp4"
    assert needs_remux(video)
    result = remux(VideoFile(name=name, place=Place(uri=str(path))), video, out)
    assert isinstance(result, IndexedVideo), result
    assert needs_remux(result) is None
    assert frame_hashes(out, result.stream_index) == frame_hashes(path, video.stream_index)
    assert [p * result.time_base for p in result.frames.pts.tolist()] == [
        p * video.time_base for p in video.frames.pts.tolist()
    ]
    assert result == indexed(out)
    assert [(a.codec, a.channels) for a in result.audio] == [(a.codec, a.channels) for a in video.audio]
    data = out.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("name", ["b.mp4", "b.mov", "b.mkv", "vp9.webm", "fragmented.mp4", "edit_list.mp4"])
def test_a_container_that_decoders_read_exactly_stays_as_it_is(
    name: str, made: Callable[[str], Path], indexed: Index
) -> None:
    assert needs_remux(indexed(made(name))) is None


def test_what_no_container_can_hold_without_loss_is_rejected_and_leaves_no_file(
    made: Callable[[str], Path], indexed: Index, tmp_path: Path
) -> None:
    from dataclasses import replace

    video, out = indexed(made("b.ts")), tmp_path / "out.mp4"
    lying = replace(video, width=video.width + 2)
    result = remux(VideoFile(name="b.ts", place=Place(uri=str(made("b.ts")))), lying, out)
    assert (result.reason, out.exists()) == ("decode_failed", False)
    assert "width was 66 and became 64" in result.detail
