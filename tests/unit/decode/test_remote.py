"""A clip from a long video far away reads what it needs: its packets and the header, in few requests, in parallel.

First over a reader in memory that counts, then over a web server and through a proxy that misbehaves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cineray.decode import DecodeOptions, decode_visit, opened, ranges_for, runs_for
from cineray.errors import PlaceError
from cineray.records import Clip, ClipSpec, IndexedVideo, Place, Reject
from cineray.storage import AccessPolicy
from cineray.testing import read_stamp

Index = Callable[[Path], IndexedVideo]
SpecOf = Callable[..., ClipSpec]
LOCAL = DecodeOptions(policy=AccessPolicy(allow_hosts=frozenset({"127.0.0.1"})))


@pytest.fixture(scope="module")
def long_videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two minutes of stamped noise with sound, some 7 MB, a key frame every two seconds, in several containers."""
    import subprocess

    folder = tmp_path_factory.mktemp("long")
    stamp = "geq=lum='if(mod(floor(N/pow(2,floor(X*16/W))),2),235,16)+random(1)*4':cb=128:cr=128"
    command = f"ffmpeg -v error -y -f lavfi -i nullsrc=size=128x64:rate=25:duration=120,{stamp} -f lavfi -i sine=d=120"
    command += " -c:v libx264 -preset ultrafast -crf 6 -g 50 -bf 2 -pix_fmt yuv420p -c:a aac -map 0:v -map 1:a"
    subprocess.run([*command.split(), str(folder / "end.mp4")], check=True)
    for name, words in {
        "front.mp4": "-movflags +faststart",
        "fragmented.mp4": "-movflags +frag_keyframe+empty_moov+default_base_moof",
        "long.mkv": "",
    }.items():
        copy = f"ffmpeg -v error -y -i {folder}/end.mp4 -c copy -map 0 {words} {folder}/{name}"
        subprocess.run(copy.split(), check=True)
    return {path.name: path for path in folder.iterdir()}


def needed_bytes(video: IndexedVideo, frames: list[int]) -> int:
    """The packets of all runs."""
    table = video.frames
    runs = runs_for(table, frames)
    inside = [any(run.first <= place <= run.last for run in runs) for place in table.decode_order.tolist()]
    return int(table.size_bytes[inside].sum())


def header_bytes(video: IndexedVideo) -> int:
    """What lies before the first packet and after the last: what every opening must read."""
    known = video.frames
    return int(known.position.min()) + video.size_bytes - int((known.position + known.size_bytes).max())


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch, in_memory: type[Any]) -> Callable[[Path], Any]:
    """Make a local file look like a remote one whose reads are counted."""

    def use(path: Path) -> Any:
        reader = in_memory(path.read_bytes())
        monkeypatch.setattr(opened, "open_place", lambda *_, **__: reader)
        monkeypatch.setattr(opened, "is_remote", lambda _: True)
        return reader

    return use


FRAMES = list(range(1700, 1732, 2))


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec"])
@pytest.mark.parametrize("name", ["front.mp4", "end.mp4", "long.mkv"])
def test_a_clip_of_a_long_video_reads_little_more_than_its_packets(
    name: str,
    decoder: str,
    long_videos: dict[str, Path],
    counting: Callable[[Path], Any],
    index_of: Index,
    spec_of: SpecOf,
) -> None:
    path = long_videos[name]
    video, reader = index_of(path), counting(path)
    (clip,) = decode_visit(video, Place(uri="remote"), [spec_of(video, FRAMES)], options=DecodeOptions(decoder=decoder))
    assert isinstance(clip, Clip), clip
    assert [read_stamp(picture) for picture in clip.frames_THWC] == FRAMES
    needed = needed_bytes(video, FRAMES)
    assert reader.size_bytes > 20 * needed, "the video is long enough to tell"
    assert reader.counter.bytes_read - header_bytes(video) < 3 * needed + (64 << 10)
    assert reader.counter.requests <= (10 if name == "long.mkv" else 6)


def test_a_fragmented_video_is_read_fragment_by_fragment_and_not_whole(
    long_videos: dict[str, Path], counting: Callable[[Path], Any], index_of: Index, spec_of: SpecOf
) -> None:
    """FFmpeg walks over the heads of all fragments; what they hold is left unread."""
    path = long_videos["fragmented.mp4"]
    video, reader = index_of(path), counting(path)
    (clip,) = decode_visit(video, Place(uri="remote"), [spec_of(video, FRAMES)])
    assert [read_stamp(picture) for picture in clip.frames_THWC] == FRAMES
    assert reader.counter.bytes_read < reader.size_bytes


def test_a_second_visit_reads_no_header_again(
    long_videos: dict[str, Path], counting: Callable[[Path], Any], index_of: Index, spec_of: SpecOf
) -> None:
    path = long_videos["front.mp4"]
    video, reader = index_of(path), counting(path)
    decode_visit(video, Place(uri="remote"), [spec_of(video, FRAMES)])
    before, again = reader.counter.bytes_read, [100, 104]
    (clip,) = decode_visit(video, Place(uri="remote"), [spec_of(video, again)])
    assert [read_stamp(picture) for picture in clip.frames_THWC] == again
    assert reader.counter.bytes_read - before < 3 * needed_bytes(video, again) + (64 << 10)


def test_ranges_are_fetched_side_by_side_and_never_more_than_asked_for(
    long_videos: dict[str, Path], counting: Callable[[Path], Any], index_of: Index, spec_of: SpecOf
) -> None:
    """Eight runs far apart: four requests meet, and no fifth does."""
    path = long_videos["front.mp4"]
    video, reader = index_of(path), counting(path)
    busy, most, lock, plain = [], [], threading.Lock(), reader.read_at
    met = threading.Barrier(4)

    def read_at(offset: int, length: int) -> bytes:
        with lock:
            busy.append(offset)
            most.append(len(busy))
        if len(most) <= 4:
            met.wait(10)  # breaks, and fails the test, unless four are here at once
        data = plain(offset, length)
        with lock:
            busy.remove(offset)
        return bytes(data)

    reader.read_at = read_at
    frames = [number * 350 for number in range(8)]
    assert len(ranges_for(video, frames)) == 8
    (clip,) = decode_visit(video, Place(uri="remote"), [spec_of(video, frames)])
    assert [read_stamp(picture) for picture in clip.frames_THWC] == frames
    assert max(most) <= 5  # four fetched ahead, and the header that FFmpeg asks for


@pytest.mark.parametrize("name", ["front.mp4", "long.mkv"])
def test_an_error_of_the_store_is_the_reason_and_not_the_end_of_the_file(
    name: str, long_videos: dict[str, Path], counting: Callable[[Path], Any], index_of: Index, spec_of: SpecOf
) -> None:
    path = long_videos[name]
    video, reader = index_of(path), counting(path)
    plain, near = reader.read_at, int(video.frames.position[FRAMES[0] - 49])

    def read_at(offset: int, length: int) -> bytes:
        if near <= offset < reader.size_bytes - (100 << 10):
            raise PlaceError("the store is on fire", reason="unreadable")
        return bytes(plain(offset, length))

    reader.read_at = read_at
    for decoder in ("pyav", "torchcodec"):
        results = decode_visit(
            video, Place(uri="remote"), [spec_of(video, FRAMES)], options=DecodeOptions(decoder=decoder)
        )
        assert [(r.reason, r.detail) for r in results if isinstance(r, Reject)] == [
            ("unreadable", "the store is on fire")
        ]


@pytest.mark.network
def test_over_https_the_server_is_asked_for_ranges_and_sends_no_more(
    long_videos: dict[str, Path], web_server: Any, index_of: Index, spec_of: SpecOf
) -> None:
    path = long_videos["front.mp4"]
    web_server.files["/v.mp4"] = path.read_bytes()
    video = replace(index_of(path), version_tag="")
    (clip,) = decode_visit(video, Place(uri=f"{web_server.url}/v.mp4"), [spec_of(video, FRAMES)], options=LOCAL)
    assert isinstance(clip, Clip), clip
    assert [read_stamp(picture) for picture in clip.frames_THWC] == FRAMES
    assert web_server.bytes_sent - header_bytes(video) < 3 * needed_bytes(video, FRAMES) + (64 << 10)


@pytest.mark.network
def test_a_store_that_stumbles_gives_the_same_clip(
    long_videos: dict[str, Path], web_server: Any, faulty_proxy: Any, index_of: Index, spec_of: SpecOf
) -> None:
    path = long_videos["front.mp4"]
    web_server.files["/v.mp4"] = path.read_bytes()
    proxy = faulty_proxy(web_server.url)
    proxy.faults += ["", "503", "reset", "truncate", "cut", "503"]
    video = replace(index_of(path), version_tag="")
    (clip,) = decode_visit(video, Place(uri=f"{proxy.url}/v.mp4"), [spec_of(video, FRAMES)], options=LOCAL)
    assert isinstance(clip, Clip), clip
    assert [read_stamp(picture) for picture in clip.frames_THWC] == FRAMES
    assert proxy.faults == []


@pytest.mark.network
def test_an_address_that_the_policy_forbids_is_refused(
    long_videos: dict[str, Path], web_server: Any, index_of: Index, spec_of: SpecOf
) -> None:
    video = index_of(long_videos["front.mp4"])
    options = DecodeOptions(policy=AccessPolicy())
    (result,) = decode_visit(video, Place(uri=f"{web_server.url}/v.mp4"), [spec_of(video, [1])], options=options)
    assert result.reason == "refused"
    assert web_server.seen == []
