"""No frame is lost silently: FFmpeg skips damage in these containers without a word, and cineray says where it lies."""

from __future__ import annotations

import random
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cineray.index import index_video
from cineray.records import Place, Reject, VideoFile

Made = Callable[[str], Path]
AsFile = Callable[[bytes], Path]
Rejected = Callable[..., Reject]
Ffmpeg = Callable[..., Any]
TS = 188
MUTATIONS = 25

FOLLOWED = ("fragmented.mp4", "b.mkv", "vp9.webm", "b.flv", "b.ts", "mpeg2.mpg")
CLEAN: dict[str, str] = {
    "live.mkv": "-i {sound.mp4} -c copy -live 1",
    "live.webm": "-i {vp9.webm} -c copy -live 1",
    "cues_in_front.mkv": "-i {sound.mp4} -c copy -cues_to_front 1 -reserve_index_space 50000",
    "many_clusters.mkv": "-i {sound.mp4} -c copy -cluster_time_limit 200",
    "no_size.flv": "-i {sound.mp4} -c copy -flvflags no_duration_filesize",
    "sound.m2ts": "-i {sound.mp4} -c copy -mpegts_m2ts_mode 1",
    "constant_rate.ts": "-i {sound.mp4} -c copy -muxrate 2M",
    "sound.vob": "-i {sound.mp4} -c:v mpeg2video -bf 2 -c:a mp2 -f vob",
    "one.mpg": "-i {sound.mp4} -c:v mpeg1video -c:a mp2 -f mpeg",
    "sectors.mpg": "-i {sound.mp4} -c:v mpeg1video -b:v 1150k -minrate 1150k -maxrate 1150k -bufsize 320k -c:a mp2"
    " -ar 44100 -f vcd",
    "stuffed.mpg": "-i {sound.mp4} -c:v mpeg2video -b:v 800k -minrate 800k -maxrate 800k -bufsize 400k -c:a mp2"
    " -f svcd",
    "every_frame.mp4": "-i {sound.mp4} -c copy -movflags +frag_every_frame+empty_moov",
    "each_track.mp4": "-i {sound.mp4} -c copy -movflags +frag_keyframe+separate_moof+empty_moov",
    "cmaf.mp4": "-i {sound.mp4} -c copy -movflags +cmaf",
    "fragmented.mov": "-i {sound.mp4} -c copy -movflags +frag_keyframe+empty_moov",
    "smooth.ismv": "-i {sound.mp4} -c copy",
    "pause.mp4": "-i {b.mp4} -vf \"select='lt(n,20)+gt(n,40)'\" -vsync vfr -c:v libx264"
    " -movflags +frag_keyframe+empty_moov",
}


@pytest.fixture
def write(tmp_path: Path, made: Made, ffmpeg: Ffmpeg) -> Callable[[str, str], Path]:
    """A file by an ffmpeg line as in CLEAN."""

    def make(name: str, words: str) -> Path:
        parts = [str(made(word[1:-1])) if word.startswith("{") else word for word in shlex.split(words)]
        ffmpeg(*parts, tmp_path / name)
        return tmp_path / name

    return make


def rng(name: str) -> random.Random:
    return random.Random(name)


def zeroed(data: bytes, random_: random.Random) -> bytes:
    """A tenth of the file was never written."""
    at = random_.randrange(len(data) // 5, len(data) * 8 // 10)
    return data[:at] + bytes(len(data) // 10) + data[at + len(data) // 10 :]


def inserted(data: bytes, random_: random.Random) -> bytes:
    at = random_.randrange(len(data) // 5, len(data) * 9 // 10)
    return data[:at] + random_.randbytes(200) + data[at:]


def cut(data: bytes, random_: random.Random) -> bytes:
    return data[: random_.randrange(len(data) // 5, len(data) * 9 // 10)]


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("damage", [zeroed, inserted, cut])
def test_damaged_files_are_never_accepted_with_fewer_frames(
    name: str, damage: Callable[..., bytes], made: Made, as_file: AsFile, indexed: Any
) -> None:
    whole, frames = made(name).read_bytes(), indexed(made(name)).num_frames
    random_, lost = rng(name), Counter[int]()
    for _ in range(MUTATIONS):
        path = as_file(damage(whole, random_))
        found = index_video(VideoFile(name="x", place=Place(uri=str(path))))
        if not isinstance(found, Reject):
            lost[frames - found.num_frames] += 1
    assert set(lost) <= {0}


@pytest.mark.parametrize("name", CLEAN)
def test_what_writers_write_is_whole(name: str, write: Callable[[str, str], Path], indexed: Any, ffprobe: Any) -> None:
    path = write(name, CLEAN[name])
    assert indexed(path).num_frames == video_packets(ffprobe(path)) > 20


def video_packets(said: dict[str, Any]) -> int:
    return sum(item["type"] == "packet" and item["codec_type"] == "video" for item in said["packets_and_frames"])


def test_a_lost_transport_packet_is_found_by_its_counter(made: Made, as_file: AsFile, rejected: Rejected) -> None:
    data = made("b.ts").read_bytes()
    at = next(at for at in range(len(data) // 2 // TS * TS, len(data), TS) if is_video(data[at:]))
    result = rejected(as_file(data[:at] + data[at + TS :]))
    assert result.reason == "corrupt"
    assert "missing 1 times, first before byte" in result.detail


def test_a_lost_transport_packet_that_is_announced_is_no_damage(
    made: Made, as_file: AsFile, rejected: Rejected, indexed: Any
) -> None:
    """The discontinuity flag of the first packet of a frame that has an adaptation field."""
    data = bytearray(made("b.ts").read_bytes())
    at = next(at for at in range(0, len(data), TS) if at > len(data) // 2 and is_video(data[at:]) and data[at + 3] & 32)
    data[at + 3] = data[at + 3] & 0xF0 | (data[at + 3] + 7 & 15)
    assert rejected(as_file(bytes(data))).reason == "corrupt"
    data[at + 5] |= 0x80
    for later in range(at + TS, len(data), TS):
        if is_video(data[later:]):
            data[later + 3] = data[later + 3] & 0xF0 | (data[later + 3] + 7 & 15)
    assert indexed(as_file(bytes(data))).num_frames == 50


def is_video(packet: bytes | bytearray) -> bool:
    """ffmpeg gives the first stream this number."""
    return (packet[1] & 0x1F) << 8 | packet[2] == 0x100


def test_transport_recordings_that_were_joined_are_whole(
    made: Made, tmp_path: Path, ffmpeg: Ffmpeg, as_file: AsFile, indexed: Any
) -> None:
    """As segments for browsers are: each counts from 0, and the times go on."""
    ffmpeg("-i", made("sound.mp4"), "-c", "copy", "-f", "segment", "-segment_time", "0.4", tmp_path / "s%d.ts")
    parts = sorted(tmp_path.glob("s*.ts"))
    assert len(parts) > 2
    assert indexed(as_file(b"".join(part.read_bytes() for part in parts))).num_frames == 50


def test_a_transport_stream_that_begins_and_ends_anywhere(made: Made, as_file: AsFile, rejected: Rejected) -> None:
    data = made("b.ts").read_bytes()
    whole = index_video(VideoFile(name="x", place=Place(uri=str(as_file(data[100:])))))
    assert not isinstance(whole, Reject), whole
    assert rejected(as_file(data[:-10])).reason == "truncated"
    assert "178 bytes into a packet of 188" in rejected(as_file(data[:-10])).detail


def test_a_recording_cut_between_two_packets_is_a_shorter_recording(made: Made, as_file: AsFile, indexed: Any) -> None:
    data = made("b.ts").read_bytes()
    assert 0 < indexed(as_file(data[: len(data) // 2 // TS * TS])).num_frames < 50


def test_an_flv_file_is_held_against_its_metadata(
    write: Callable[[str, str], Path], made: Made, as_file: AsFile, rejected: Rejected
) -> None:
    """Both are cut behind a tag: the one tells its size, the other could only tell its duration."""
    data = made("b.flv").read_bytes()
    result = rejected(as_file(data[: end_of_a_tag(data)]))
    assert (result.reason, "its metadata declare" in result.detail) == ("truncated", True)
    nameless = data.replace(b"filesize", b"filesiz_")
    result = rejected(as_file(nameless[: end_of_a_tag(nameless)]))
    assert (result.reason, "the metadata declare 2." in result.detail) == ("truncated", True)
    no_size = write("n.flv", CLEAN["no_size.flv"]).read_bytes()
    assert rejected(as_file(no_size[: end_of_a_tag(no_size) - 1])).reason == "truncated"


def end_of_a_tag(data: bytes) -> int:
    """The first one after a third of the file."""
    at = 13
    while at < len(data) // 3:
        at += 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
    return at


def test_noise_between_clusters_is_found(
    write: Callable[[str, str], Path], made: Made, as_file: AsFile, rejected: Rejected
) -> None:
    """In a live recording no size contradicts it: only the walk does."""
    data = write("live.mkv", CLEAN["live.mkv"]).read_bytes()
    cluster = data.rindex(b"\x1f\x43\xb6\x75")
    result = rejected(as_file(data[:cluster] + rng("noise").randbytes(300) + data[cluster:]))
    assert result.reason == "corrupt"
    assert "something else than a Matroska" in result.detail
    assert rejected(as_file(data[:-30])).reason == "truncated"


def test_a_fragment_without_its_description_is_found(made: Made, as_file: AsFile, rejected: Rejected) -> None:
    """The name of one inner box is gone: FFmpeg skips the samples that it described."""
    data = bytearray(made("fragmented.mp4").read_bytes())
    at = data.index(b"trun", len(data) // 2)
    data[at : at + 4] = bytes(4)
    result = rejected(as_file(bytes(data)))
    assert (result.reason, "damaged header" in result.detail) == ("corrupt", True)


def test_a_lost_fragment_is_found_by_number_and_time(made: Made, as_file: AsFile, rejected: Rejected) -> None:
    data = made("fragmented.mp4").read_bytes()
    starts = [at - 4 for at in range(len(data)) if data[at : at + 4] == b"moof"]
    result = rejected(as_file(data[: starts[1]] + data[starts[2] :]))
    assert (result.reason, "fragment 1 is followed by fragment 3" in result.detail) == ("corrupt", True)


def test_padding_after_the_last_fragment_is_no_damage(made: Made, as_file: AsFile, indexed: Any) -> None:
    data = made("fragmented.mp4").read_bytes()
    assert indexed(as_file(data + bytes(5000))).num_frames == 50
    assert indexed(as_file(data + (16).to_bytes(4, "big") + b"free" + bytes(8))).num_frames == 50


def test_repeated_pictures_of_theora_are_no_damage(tmp_path: Path, ffmpeg: Ffmpeg, indexed: Any, ffprobe: Any) -> None:
    """A picture that is shown again is an empty packet: the frame before lasts longer."""
    path = tmp_path / "a.ogv"
    ffmpeg(*shlex.split("-f lavfi -i testsrc2=size=64x48:rate=25:duration=2 -c:v libtheora"), path)
    frames = indexed(path, level="decode").frames
    said = [item["pts"] for item in ffprobe(path)["packets_and_frames"] if item["type"] == "frame"]
    assert frames.pts.tolist() == said
    assert (frames.duration.sum(), len(frames) + frames.hidden_packets) == (50, 50)
    assert frames.hidden_packets > 5


@pytest.mark.parametrize(
    "text", [b"root:x:0:0:root:/root\n" * 3, b"version https://git-lfs.github.com/spec/v1\nsize pw"]
)
def test_a_reason_quotes_nothing_of_what_is_no_video(text: bytes, as_file: AsFile, rejected: Rejected) -> None:
    detail = rejected(as_file(text)).detail
    assert not any(secret in detail for secret in ("root", ":0", "pw"))
