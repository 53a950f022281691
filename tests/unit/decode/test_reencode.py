"""A video encoded for training: the frames that were asked for, at the times that were asked for, all alike."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cineray.decode import DecodeOptions, decode_visit
from cineray.decode.encoding import Encoding, encoded_size
from cineray.decode.reencode import Encoded, Times, luma_of, reencode
from cineray.errors import UsageError
from cineray.index import index_video
from cineray.plan import made_video
from cineray.records import Clip, ClipSpec, Crop, IndexedVideo, Place, Reject, VideoFile
from cineray.testing.stamped import read_stamp, stamp_video

VARIABLE = [0, 25, 50, 75, 150, 175, 300, 325, 375, 400, 500, 525]
B_FRAMES = ["-c:v", "libx264", "-preset", "veryfast", "-qp", "0", "-pix_fmt", "yuv420p", "-g", "250", "-bf", "3"]


def indexed(path: Path) -> IndexedVideo:
    found = index_video(VideoFile(name=path.name, place=Place(uri=str(path))), level="decode")
    assert isinstance(found, IndexedVideo), found
    return found


def as_they_are(video: IndexedVideo) -> Times:
    frames = video.frames
    return Times(
        frame_numbers_T=np.arange(len(frames)),
        pts_T=frames.pts - frames.start_pts,
        end_pts=frames.end_pts - frames.start_pts,
        time_base=video.time_base,
        start_seconds=frames.start_pts * video.time_base,
    )


def encoded(path: Path, out: Path, *, times: Times | None = None, **encoding: object) -> IndexedVideo:
    video = indexed(path)
    told = Encoding(**{"gop": 4, **encoding})  # type: ignore[arg-type]
    made = reencode(video, Place(uri=str(path)), str(out), told, times or as_they_are(video))
    assert isinstance(made, Encoded), made
    return indexed(out)


def stamps(path: Path) -> list[int]:
    """The number that each frame carries."""
    video = indexed(path)
    whole = Crop(top=0, left=0, height=video.height, width=video.width, out_height=video.height, out_width=video.width)
    spec = ClipSpec(
        clip_id="all",
        video_id=video.video_id,
        dataset=0,
        clip_number=0,
        epoch=0,
        draw=0,
        frame_numbers=tuple(range(video.num_frames)),
        frame_pts=tuple(video.frames.pts.tolist()),
        time_base=video.time_base,
        frame_is_real=(True,) * video.num_frames,
        crop=whole,
    )
    (clip,) = decode_visit(video, Place(uri=str(path)), [spec], options=DecodeOptions(keep_open=0))
    assert isinstance(clip, Clip), clip
    return [read_stamp(picture) for picture in clip.frames_THWC]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_every_frame_keeps_its_time_also_where_the_rate_varies(tmp_path: Path, codec: str) -> None:
    stamp_video(tmp_path / "raw.mp4", pts=VARIABLE, codec=B_FRAMES, size_px=(128, 96))
    made = encoded(tmp_path / "raw.mp4", tmp_path / "out.mp4", codec=codec)
    assert made.frames.pts.tolist() == VARIABLE
    assert (made.time_base, made.codec) == (Fraction(1, 600), codec)
    assert stamps(tmp_path / "out.mp4") == list(range(12))


def test_key_frames_lie_every_gop_and_nothing_is_shown_before_its_packet(tmp_path: Path) -> None:
    every_five = ["-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv420p", "-g", "5", "-bf", "2"]
    stamp_video(tmp_path / "raw.mp4", frames=30, codec=every_five, size_px=(128, 96))
    made = encoded(tmp_path / "raw.mp4", tmp_path / "out.mp4", gop=8)
    assert np.flatnonzero(made.frames.key).tolist() == [0, 8, 16, 24]
    assert made.frames.decode_order.tolist() == list(range(30))


def test_frames_are_dropped_and_shown_twice_as_asked(tmp_path: Path) -> None:
    stamp_video(tmp_path / "raw.mp4", frames=10, codec=B_FRAMES, size_px=(128, 96))
    times = Times(
        frame_numbers_T=np.array([0, 0, 3, 7, 9]),
        pts_T=np.arange(5) * 40,
        end_pts=333,
        time_base=Fraction(1, 1000),
        start_seconds=Fraction(0),
    )
    made = encoded(tmp_path / "raw.mp4", tmp_path / "out.mp4", times=times)
    assert made.frames.pts.tolist() == [0, 40, 80, 120, 160]
    assert made.frames.end_pts == 333
    assert stamps(tmp_path / "out.mp4") == [0, 0, 3, 7, 9]


def test_what_was_turned_and_squeezed_comes_out_upright_and_square(tmp_path: Path, ffmpeg: Callable[..., None]) -> None:
    """A red left edge, shown after a quarter turn clockwise, is a red top edge."""
    red = "drawbox=x=0:y=0:w=16:h=48:color=red:t=fill"
    ffmpeg("-f", "lavfi", "-i", f"color=blue:size=96x48:rate=10,{red},setsar=1/2", "-frames:v", 3, tmp_path / "a.mp4")
    ffmpeg("-i", tmp_path / "a.mp4", "-c", "copy", "-metadata:s:v", "rotate=270", tmp_path / "turned.mp4")
    video = indexed(tmp_path / "turned.mp4")
    assert (video.rotation_degrees, video.sample_aspect_ratio) == (90, Fraction(1, 2))
    made = encoded(tmp_path / "turned.mp4", tmp_path / "out.mp4")
    assert (made.width, made.height, made.rotation_degrees, made.sample_aspect_ratio) == (48, 48, 0, 1)
    whole = Crop(top=0, left=0, height=48, width=48, out_height=48, out_width=48)
    spec = ClipSpec(
        clip_id="c", video_id=made.video_id, dataset=0, clip_number=0, epoch=0, draw=0, frame_numbers=(0,),
        frame_pts=(0,), time_base=made.time_base, frame_is_real=(True,), crop=whole,
    )  # fmt: skip
    (clip,) = decode_visit(made, Place(uri=str(tmp_path / "out.mp4")), [spec])
    assert isinstance(clip, Clip)
    assert clip.frames_THWC[0, 2, 24].argmax() == 0
    assert clip.frames_THWC[0, 40, 24].argmax() == 2


@pytest.mark.parametrize(
    ("geometry", "short_side", "size"),
    [
        ({"width": 1280, "height": 720}, 128, (228, 128)),
        ({"width": 720, "height": 1280}, 128, (128, 228)),
        ({"width": 1280, "height": 720, "rotation_degrees": 270}, 128, (128, 228)),
        ({"width": 100, "height": 90}, 128, (100, 90)),
        ({"width": 101, "height": 91}, 0, (100, 92)),
        ({"width": 720, "height": 576, "sample_aspect_ratio": Fraction(16, 15)}, 0, (720, 540)),
        ({"width": 720, "height": 576, "sample_aspect_ratio": Fraction(8, 9)}, 0, (640, 576)),
    ],
)
def test_the_size_is_even_square_and_never_larger(geometry: dict, short_side: int, size: tuple[int, int]) -> None:
    assert encoded_size(made_video(4, **geometry), short_side) == size


def test_the_same_video_gives_the_same_bytes(tmp_path: Path, media_dir: Path) -> None:
    source = media_dir / "torchcodec_h265.mp4"
    for name in ("a.mp4", "b.mp4"):
        encoded(source, tmp_path / name, short_side=64)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_sound_keeps_its_distance_to_the_pictures(tmp_path: Path, ffmpeg: Callable[..., None]) -> None:
    """Matroska with pictures from 0.5 s and sound from 0.7 s: the sound begins 0.2 s after the pictures again."""
    ffmpeg(
        *("-itsoffset", 0.5, "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=1"),
        *("-itsoffset", 0.7, "-f", "lavfi", "-i", "sine=duration=1:sample_rate=48000"),
        *("-c:v", "libx264", "-c:a", "libopus", "-copyts", "-avoid_negative_ts", "disabled", tmp_path / "raw.mkv"),
    )
    before = indexed(tmp_path / "raw.mkv")
    assert before.frames.start_pts == 500
    made = encoded(tmp_path / "raw.mkv", tmp_path / "out.mp4")
    (sound,) = made.audio
    assert (sound.codec, made.frames.start_pts) == ("opus", 0)
    before_after = [first_sound_seconds(tmp_path / name) for name in ("raw.mkv", "out.mp4")]
    assert before_after == [pytest.approx(0.694, abs=0.001), pytest.approx(0.194, abs=0.001)]


def first_sound_seconds(path: Path) -> float:
    """When the first sample is heard that is not the codec's own beginning."""
    with av.open(str(path)) as container:
        frame = next(container.decode(container.streams.audio[0]))
    assert frame.time is not None
    return frame.time


def test_sound_that_no_mp4_holds_is_encoded_and_sound_that_is_not_wanted_is_dropped(
    tmp_path: Path, ffmpeg: Callable[..., None]
) -> None:
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=2", "-f", "lavfi", "-i", "sine=duration=2"),
        *("-c:v", "libx264", "-c:a", "pcm_s16le", tmp_path / "raw.mkv"),
    )
    (sound,) = encoded(tmp_path / "raw.mkv", tmp_path / "kept.mp4").audio
    assert (sound.codec, sound.sample_rate) == ("aac", 44100)
    assert sound.duration_pts is not None
    assert abs(sound.duration_pts * sound.time_base - 2) < Fraction(1, 10)
    assert encoded(tmp_path / "raw.mkv", tmp_path / "mute.mp4", audio="drop").audio == ()


def test_what_went_into_the_encoder_is_returned_and_found_again(tmp_path: Path) -> None:
    stamp_video(tmp_path / "raw.mp4", frames=12, codec=B_FRAMES, size_px=(128, 96))
    video = indexed(tmp_path / "raw.mp4")
    out = tmp_path / "out.mp4"
    told = Encoding(gop=4, short_side=48)
    made = reencode(video, Place(uri=str(tmp_path / "raw.mp4")), str(out), told, as_they_are(video), keep=[0, 11])
    assert isinstance(made, Encoded)
    assert (made.width, made.height, sorted(made.luma_NHW)) == (64, 48, [0, 11])
    found = luma_of(indexed(out), Place(uri=str(out)), [0, 11], DecodeOptions())
    assert all(np.abs(found[n].astype(int) - made.luma_NHW[n]).mean() < 4 for n in (0, 11))


def test_a_frame_that_does_not_come_rejects_the_video_and_leaves_no_file(tmp_path: Path) -> None:
    stamp_video(tmp_path / "raw.mp4", frames=24, codec=B_FRAMES, size_px=(128, 96))
    video = indexed(tmp_path / "raw.mp4")
    data = bytearray((tmp_path / "raw.mp4").read_bytes())
    at, size = int(video.frames.position[10]), int(video.frames.size_bytes[10])
    data[at : at + size] = bytes(size)
    (tmp_path / "raw.mp4").write_bytes(data)
    found = index_video(VideoFile(name="x", place=Place(uri=str(tmp_path / "raw.mp4"))), level="header")
    assert isinstance(found, IndexedVideo)
    video = replace(video, version_tag=found.version_tag)
    out = tmp_path / "out.mp4"
    made = reencode(video, Place(uri=str(tmp_path / "raw.mp4")), str(out), Encoding(), as_they_are(video))
    assert isinstance(made, Reject)
    assert (made.stage, made.reason) == ("standardise", "decode_failed")
    assert not out.exists()


def test_a_place_with_other_bytes_is_refused(tmp_path: Path) -> None:
    stamp_video(tmp_path / "raw.mp4", frames=4, codec=B_FRAMES)
    video = indexed(tmp_path / "raw.mp4")
    stamp_video(tmp_path / "raw.mp4", frames=5, codec=B_FRAMES)
    made = reencode(
        video, Place(uri=str(tmp_path / "raw.mp4")), str(tmp_path / "out.mp4"), Encoding(), as_they_are(video)
    )
    assert isinstance(made, Reject)
    assert made.reason == "changed"


def test_wrong_settings_say_what_is_wanted() -> None:
    with pytest.raises(UsageError, match="wanted one of h264, hevc"):
        Encoding(codec="vp6")
    with pytest.raises(UsageError, match="wanted gop >= 1"):
        Encoding(gop=0)


def test_ffprobe_reads_the_file_as_we_do(tmp_path: Path) -> None:
    stamp_video(tmp_path / "raw.mp4", pts=VARIABLE, codec=B_FRAMES, size_px=(128, 96))
    encoded(tmp_path / "raw.mp4", tmp_path / "out.mp4")
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "frame=pts", "-of", "csv=p=0"]
    said = subprocess.run([*command, str(tmp_path / "out.mp4")], capture_output=True, text=True, check=True).stdout
    assert [int(line.strip(",")) for line in said.split()] == VARIABLE
