"""Every kind of file that is no usable video gets its own reason, and a sentence that says what to do."""

from __future__ import annotations

import gzip
import json
import shlex
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from cineray.index import REASONS, index_video
from cineray.records import IndexedVideo, Place, Reject, VideoFile

Made = Callable[[str], Path]
AsFile = Callable[[bytes], Path]
Rejected = Callable[..., Reject]

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 1284\n" % (b"4d7a2146" * 8)
BYTES: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "empty", "0 bytes"),
    "a Git LFS pointer": (LFS, "lfs_pointer", "1284 bytes; run `git lfs pull`"),
    "words": (b"Dear diary, it rained. " * 3, "not_video", "text"),
    "words in another script": ("Здравствуй, мир! ".encode() * 90, "not_video", "text"),
    "one letter": (b"x", "not_video", "text"),
    "JSON": (json.dumps({"a": list(range(1000))}).encode(), "not_video", "text"),
    "a playlist of other addresses": (b"#EXTM3U\n#EXTINF:1,\nhttp://169.254.169.254/latest\n", "not_video", "text"),
    "a concat script": (b"ffconcat version 1.0\nfile /etc/passwd\n", "not_video", "text"),
    "a PDF": (b"%PDF-1.7\n\x00\x01", "not_video", "PDF"),
    "a gzip file": (gzip.compress(b"x" * 5000), "not_video", "gzip"),
    "a pickle": (b"\x80\x04\x95\x10\x00", "not_video", "pickle"),
    "a GIF": (b"GIF89a\x10\x00\x10\x00\x80\x00\x00" + bytes(40), "not_video", "ffmpeg -i in.gif out.mp4"),
    "a JPEG": (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(40), "not_video", "JPEG"),
    "an AVIF image": (struct.pack(">I4s4sI", 16, b"ftyp", b"avif", 0) + bytes(100), "not_video", "AVIF"),
    "zeros": (bytes(100_000), "not_video", "all zero"),
    "noise": (bytes((i * i * 31 + i * 7) % 251 for i in range(50_000)), "not_video", "no container"),
    "an MP3": (b"ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb\x90\x64" + bytes(400), "no_video_stream", "MP3"),
    "a WAV": (b"RIFF\x24\x00\x00\x00WAVEfmt \x10" + bytes(400), "no_video_stream", "WAV"),
}


@pytest.mark.parametrize("name", BYTES)
def test_what_is_no_video_is_named(name: str, as_file: AsFile, rejected: Rejected) -> None:
    data, reason, words = BYTES[name]
    result = rejected(as_file(data))
    assert (result.reason, words in result.detail) == (reason, True), result


def test_a_zip_is_no_video_whether_or_not_it_needs_a_password(tmp_path: Path, rejected: Rejected) -> None:
    path = tmp_path / "videos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.mp4", b"x" * 1000)
    assert rejected(path).reason == "not_video"
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag "encrypted" of the first member
    path.write_bytes(data)
    assert rejected(path).reason == "not_video"


def test_pictures_and_sound_are_no_videos(made: Made, rejected: Rejected) -> None:
    assert rejected(made("cover.png")).reason == "not_video"
    assert rejected(made("sound.m4a")).reason == "no_video_stream"


def test_sound_with_a_cover_picture_is_no_video(made: Made, tmp_path: Path, ffmpeg: Any, rejected: Rejected) -> None:
    path = tmp_path / "song.m4a"
    words = "-map 0 -map 1 -c copy -disposition:v attached_pic"
    ffmpeg("-i", made("sound.m4a"), "-i", made("cover.png"), *shlex.split(words), path)
    result = rejected(path)
    assert result.reason == "no_video_stream"
    assert "1 audio streams and 1 cover pictures" in result.detail


def test_a_file_that_is_not_there_is_missing(tmp_path: Path, rejected: Rejected) -> None:
    assert rejected(tmp_path / "none.mp4").reason == "missing"


def test_a_folder_cannot_be_read(tmp_path: Path, rejected: Rejected) -> None:
    assert rejected(tmp_path).reason == "unreadable"


def test_an_encrypted_mp4_says_which_key_it_wants(made: Made, rejected: Rejected) -> None:
    result = rejected(made("encrypted.mp4"))
    assert result.reason == "encrypted"
    assert "-decryption_key" in result.detail


def test_an_encrypted_matroska_is_recognised(made: Made, as_file: AsFile, rejected: Rejected) -> None:
    """ffmpeg writes none, so a track is told that it is encrypted: ContentEncodings of type 1, AES, a key's name."""
    encryption = element("5035", element("47e1", b"\x05") + element("47e2", b"\x01\x02\x03\x04"))
    encoding = element(
        "6240", element("5031", b"\x00") + element("5032", b"\x01") + element("5033", b"\x01") + encryption
    )
    data = with_more_in_track(made("b.mkv").read_bytes(), element("6d80", encoding))
    assert rejected(as_file(data)).reason == "encrypted"


def element(name: str, content: bytes) -> bytes:
    """A short EBML element."""
    return bytes.fromhex(name) + bytes([0x80 | len(content)]) + content


def with_more_in_track(data: bytes, more: bytes) -> bytes:
    """A Matroska file with more at the end of its first track's entry; the sizes of all that contain it grow."""
    segment = data.index(b"\x18\x53\x80\x67") + 4
    in_seek_head = data.index(b"\x16\x54\xae\x6b", segment)
    tracks = data.index(b"\x16\x54\xae\x6b", in_seek_head + 4) + 4
    entry = data.index(b"\xae", tracks) + 1
    out = bytearray(data)
    for at in (segment, tracks, entry):
        start, size, length = read_size(data, at)
        out[at : at + length] = (size + len(more) | 1 << 7 * length).to_bytes(length, "big")
    end = start + size  # of the entry, the innermost
    return bytes(out[:end]) + more + bytes(out[end:])


def read_size(data: bytes, at: int) -> tuple[int, int, int]:
    """Where an element's content begins, its size, and the bytes that tell its size."""
    length = 9 - data[at].bit_length()
    return at + length, int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1), length


@pytest.mark.parametrize("name", ["b.mp4", "front.mp4", "fragmented.mp4"])
@pytest.mark.parametrize("left", [0.1, 0.5, 0.95])
def test_a_file_that_was_cut_short_is_truncated(
    name: str, left: float, made: Made, as_file: AsFile, rejected: Rejected
) -> None:
    data = made(name).read_bytes()
    path = as_file(data[: int(len(data) * left)])
    result = index_video(VideoFile(name=path.name, place=Place(uri=str(path))))
    if name == "fragmented.mp4" and isinstance(result, IndexedVideo):
        pytest.fail("whole fragments only: cut elsewhere to test truncation")
    assert isinstance(result, Reject)
    assert result.reason == "truncated", result
    assert "copy" in result.detail


@pytest.mark.parametrize("name", ["b.mkv", "vp9.webm", "mpeg4.avi"])
def test_containers_that_declare_their_size_are_held_to_it(
    name: str, made: Made, as_file: AsFile, rejected: Rejected
) -> None:
    data = made(name).read_bytes()
    result = rejected(as_file(data[: len(data) // 2]))
    assert (result.reason, str(len(data)) in result.detail) == ("truncated", True)


def test_a_live_recording_of_unknown_size_is_not_truncated(made: Made, as_file: AsFile, indexed: Any) -> None:
    data = bytearray(made("b.mkv").read_bytes())
    at = data.index(b"\x18\x53\x80\x67") + 4
    data[at : at + 8] = b"\x01" + b"\xff" * 7
    assert indexed(as_file(bytes(data))).frames == indexed(made("b.mkv")).frames


def test_one_missing_byte_is_noticed(made: Made, as_file: AsFile, rejected: Rejected, indexed: Any) -> None:
    data = made("front.mp4").read_bytes()
    assert indexed(as_file(data)).num_frames == 50
    result = rejected(as_file(data[:-1]))
    assert result.reason == "truncated"
    assert f"1 of 50 packets lie beyond the end of the file: it has {len(data) - 1} bytes" in result.detail


def test_an_initialisation_segment_has_no_frames(made: Made, as_file: AsFile, rejected: Rejected) -> None:
    data = made("fragmented.mp4").read_bytes()
    assert rejected(as_file(data[: data.index(b"moof") - 4])).reason == "no_frames"


def test_a_matroska_file_without_its_first_packet_is_truncated(made: Made, as_file: AsFile, rejected: Rejected) -> None:
    data = made("vp9.webm").read_bytes()
    assert rejected(as_file(data[: data.index(b"\x1f\x43\xb6\x75")])).reason == "truncated"


def test_a_damaged_real_video_is_found_without_decoding(media_dir: Path, rejected: Rejected, indexed: Any) -> None:
    """ffmpeg -v error says of it: Invalid NAL unit size (-1 > 551). Its header alone is without fault."""
    path = media_dir / "decord_corrupted.mp4"
    assert indexed(path, level="header").num_frames == 50
    result = rejected(path, level="packets")
    assert result.reason == "corrupt"
    assert "frame 30 (3.000 s)" in result.detail


def test_a_hole_in_the_middle_is_found_without_decoding(
    made: Made, as_file: AsFile, rejected: Rejected, indexed: Any
) -> None:
    """As a download leaves it that reserved its space first and was not finished."""
    path = made("front.mp4")
    data, frames = bytearray(path.read_bytes()), indexed(path).frames
    at, size = int(frames.position[20]), int(frames.size_bytes[20])
    data[at : at + size] = bytes(size)
    result = rejected(as_file(bytes(data)))
    assert result.reason == "corrupt"
    assert "frame 20 (0.800 s)" in result.detail


def test_a_file_that_changed_since_it_was_listed_is_not_indexed(made: Made, as_file: AsFile) -> None:
    path = as_file(made("front.mp4").read_bytes())
    result = index_video(VideoFile(name="a", place=Place(uri=str(path)), version_tag="17-4"))
    assert isinstance(result, Reject)
    assert result.reason == "changed"


def test_a_file_that_changes_while_it_is_read_is_not_indexed(made: Made, as_file: AsFile, monkeypatch: Any) -> None:
    from cineray.index import video

    path = as_file(made("front.mp4").read_bytes())
    honest = video.look_at_mp4

    def look_and_touch(*arguments: Any) -> Any:
        found = honest(*arguments)
        path.write_bytes(path.read_bytes() + b"more")
        return found

    monkeypatch.setattr(video, "look_at_mp4", look_and_touch)
    result = index_video(VideoFile(name="a", place=Place(uri=str(path))))
    assert isinstance(result, Reject)
    assert result.reason == "changed"


def test_two_recordings_in_one_file_have_no_usable_times(made: Made, as_file: AsFile, rejected: Rejected) -> None:
    data = made("no_b.ts").read_bytes()
    result = rejected(as_file(data + data))
    assert result.reason == "bad_timestamps"
    assert "two recordings" in result.detail


def test_a_video_inside_a_larger_file_is_indexed_by_its_range(made: Made, as_file: AsFile, indexed: Any) -> None:
    data = made("b.mp4").read_bytes()
    shard = as_file(bytes(512) + data + bytes(700))
    file = VideoFile(name="x", place=Place(uri=str(shard), offset=512, length=len(data)))
    inside = index_video(file)
    assert isinstance(inside, IndexedVideo)
    outside = indexed(made("b.mp4"))
    assert (inside.frames, inside.video_id, inside.size_bytes) == (outside.frames, outside.video_id, len(data))


def test_a_rotated_matroska_is_turned(made: Made, tmp_path: Path, indexed: Any, ffprobe: Any) -> None:
    """FFmpeg 5 writes no turn into Matroska, PyAV's FFmpeg 8 does."""
    path = tmp_path / "rotated.mkv"
    with av.open(str(made("rotated.mov"))) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    said = next(d["rotation"] for d in ffprobe(path)["streams"][0]["side_data_list"] if "rotation" in d)
    assert said in (90, -90)
    assert indexed(path).rotation_degrees == -said % 360


def test_every_reason_is_explained() -> None:
    assert all(text and not text.endswith(".") for text in REASONS.values())
