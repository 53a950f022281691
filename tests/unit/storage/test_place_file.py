"""A place as a file object: the same answers as a file on disk, with few and large requests."""

from __future__ import annotations

import random
import tarfile
from pathlib import Path

import av
import pytest

from cineray.records import Place
from cineray.storage import PlaceFile, open_place


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(random.Random(1).randbytes(10_007))
    return path


def test_it_answers_as_a_file_on_disk_does(data_file: Path) -> None:
    draw = random.Random(2)
    with open_place(Place(uri=str(data_file))) as reader, data_file.open("rb") as disk:
        file = PlaceFile(reader, block_bytes=512, max_blocks=3)
        for _ in range(3000):
            if draw.random() < 0.5:
                offset, whence = draw.choice([(draw.randrange(11_000), 0), (draw.randrange(99), 1), (-99, 2)])
                assert file.seek(offset, whence) == disk.seek(offset, whence)
            size = draw.choice([0, 1, 100, 511, 512, 513, 3000, 20_000])
            assert file.read(size) == disk.read(size)
            assert file.tell() == disk.tell()
        file.seek(9_000), disk.seek(9_000)
        assert file.read() == disk.read()
        into = bytearray(100)
        file.seek(50)
        assert (file.readinto(into), bytes(into)) == (100, data_file.read_bytes()[50:150])


def test_small_reads_share_blocks_and_a_large_one_is_one_request(data_file: Path) -> None:
    with open_place(Place(uri=str(data_file))) as reader:
        file = PlaceFile(reader, block_bytes=4096, max_blocks=2)
        opened = reader.counter.requests
        while file.read(64):
            pass
        assert reader.counter.requests - opened == 3
        file.seek(0)
        assert len(file.read(9_000)) == 9_000
        assert reader.counter.requests - opened == 4


def test_only_the_blocks_used_last_are_kept(data_file: Path) -> None:
    with open_place(Place(uri=str(data_file))) as reader:
        file = PlaceFile(reader, block_bytes=1000, max_blocks=2)
        fetched = []
        for block in (0, 1, 0, 2, 0, 1, 2):
            before = reader.counter.requests
            file.seek(block * 1000)
            file.read(10)
            fetched.append(reader.counter.requests - before)
        assert fetched == [1, 1, 0, 1, 0, 1, 1]


def test_it_says_what_is_wrong(data_file: Path) -> None:
    with open_place(Place(uri=str(data_file))) as reader:
        file = PlaceFile(reader)
        with pytest.raises(ValueError, match="before the beginning"):
            file.seek(-1)
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        file.close()
        with pytest.raises(ValueError, match="closed"):
            file.read(1)
        with pytest.raises(ValueError, match="must be 1 or more"):
            PlaceFile(reader, block_bytes=0)


def test_pyav_reads_a_video_inside_a_tar_through_it(media_dir: Path, tmp_path: Path) -> None:
    video = sorted(media_dir.rglob("*.mp4"))[0]
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        shard.add(video, "0001.mp4")
    with open_place(Place(uri=str(tmp_path / "shard.tar"))) as reader, tarfile.open(fileobj=PlaceFile(reader)) as shard:
        (member,) = shard.getmembers()
    place = Place(uri=str(tmp_path / "shard.tar"), offset=member.offset_data, length=member.size)
    with open_place(place) as reader, av.open(PlaceFile(reader)) as inside, av.open(str(video)) as alone:
        facts = [
            [(packet.pts, packet.dts, packet.size) for packet in container.demux(video=0)]
            for container in (inside, alone)
        ]
    assert facts[0] == facts[1]
    assert len(facts[0]) > 1
