"""S3, against moto's server as a process of its own; our count of requests is compared with the server's log."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cineray.errors import PlaceChanged, PlaceError, PlaceMissing, PlaceRefused
from cineray.records import Place
from cineray.storage import (
    AccessPolicy,
    ObjectInfo,
    PlaceFile,
    delete_object,
    filesystem,
    list_objects,
    new_object,
    object_exists,
    open_place,
    place_stat,
    put_if_absent,
    put_object,
    read_object,
    upload_file,
)
from cineray.storage.policy import why_refused

pytestmark = pytest.mark.network


def test_opening_is_one_head_and_each_read_is_one_ranged_get(s3_server, s3_bucket: str) -> None:
    uri, data = f"{s3_bucket}/film.mp4", bytes(range(256)) * 4096
    put_object(uri, data)
    before = len(s3_server.requests())
    with open_place(Place(uri=uri)) as reader:
        assert reader.read_at(1000, 70_000) == data[1000:71_000]
        assert reader.read_at(0, 16) == data[:16]
        assert reader.read_at(len(data) - 5, 100) == data[-5:]
        assert reader.read_at(len(data), 5) == b""
    assert [line.split()[0] for line in s3_server.requests()[before:]] == ["HEAD", "GET", "GET", "GET"]
    assert (reader.counter.requests, reader.counter.bytes_read) == (4, 70_000 + 16 + 5)


def test_the_endpoint_of_the_users_own_environment_may_be_private(s3_server, s3_bucket: str) -> None:
    """The server is on this machine, and nothing is allowed by name: the policy is for addresses of strangers."""
    put_object(f"{s3_bucket}/film.mp4", b"film")
    assert why_refused(urlsplit(s3_server.url).hostname) == "is loopback"
    assert read_object(f"{s3_bucket}/film.mp4", limit_bytes=9, policy=AccessPolicy()) == b"film"


def test_a_member_of_a_shard_is_read_by_its_own_range(s3_bucket: str) -> None:
    uri = f"{s3_bucket}/shard.tar"
    put_object(uri, b"header" + b"the video" + b"padding")
    with open_place(Place(uri=uri, offset=6, length=9)) as reader:
        assert (reader.size_bytes, reader.read_at(0, 100), reader.read_at(4, 2)) == (9, b"the video", b"vi")
        assert reader.counter.bytes_read == 11
        assert PlaceFile(reader).read() == b"the video"


def test_an_object_that_was_replaced_is_refused_by_its_tag_and_in_the_middle_of_reading(s3_bucket: str) -> None:
    uri = f"{s3_bucket}/film.mp4"
    put_object(uri, b"old bytes")
    size, tag = place_stat(Place(uri=uri))
    assert (size, len(tag)) == (9, 32)
    with open_place(Place(uri=uri), expect_tag=tag) as reader:
        assert reader.read_at(0, 3) == b"old"
        put_object(uri, b"new bytes")
        with pytest.raises(PlaceChanged, match="replaced while it was read"):
            reader.read_at(0, 3)
    with pytest.raises(PlaceChanged, match=f"'{tag}' was indexed"):
        open_place(Place(uri=uri), expect_tag=tag)


def test_missing_objects_and_buckets_are_named(s3_bucket: str) -> None:
    with pytest.raises(PlaceMissing, match=f"{s3_bucket}/none"):
        open_place(Place(uri=f"{s3_bucket}/none"))
    with pytest.raises(PlaceMissing, match="does not exist"):
        read_object("s3://no-such-bucket-here/x", limit_bytes=9)
    assert object_exists(f"{s3_bucket}/none") is False
    put_object(f"{s3_bucket}/three", b"abc")
    with pytest.raises(PlaceError, match="has 3 bytes; wanted at most 2") as caught:
        read_object(f"{s3_bucket}/three", limit_bytes=2)
    assert caught.value.reason == "too_large"


ODD_KEYS = [
    "a b/100%.mp4",
    "a/?versionId=3#x",
    "a/tab\there.mp4",  # not a newline: moto has no route for one
    "a/'single' \"double\".mp4",
    "a/späß 映画.mp4",
    "a//twice.mp4",
    "a/%41.mp4",
    "a/+&=;.mp4",
    "long/" + "n" * 4000,  # more than Amazon allows, not more than moto does
]


def test_odd_keys_are_listed_in_byte_order_and_read_byte_for_byte(s3_bucket: str) -> None:
    for key in ODD_KEYS:
        put_object(f"{s3_bucket}/{key}", key.encode())
    listed = list(list_objects(s3_bucket))
    assert [info.uri for info in listed] == sorted((f"{s3_bucket}/{key}" for key in ODD_KEYS), key=str.encode)
    for info in listed:
        key = info.uri.removeprefix(f"{s3_bucket}/")
        assert read_object(info.uri, limit_bytes=10_000) == key.encode()
        assert (info.size_bytes, info.version_tag) == place_stat(Place(uri=info.uri))
        assert info.is_link is False


def test_a_prefix_lists_its_own_folder_only_and_all_of_its_pages(s3_bucket: str) -> None:
    names = [f"{s3_bucket}/many/{number:05}" for number in range(1234)]
    filesystem(s3_bucket).pipe(dict.fromkeys(names, b""))
    put_object(f"{s3_bucket}/many-others/x", b"")
    assert [info.uri for info in list_objects(f"{s3_bucket}/many/")] == names
    assert list(list_objects(f"{s3_bucket}/nothing")) == []
    delete_object(f"{s3_bucket}/many", recursive=True)
    assert [info.uri for info in list_objects(s3_bucket)] == [f"{s3_bucket}/many-others/x"]


def test_listings_see_at_once_what_another_process_wrote(s3_bucket: str) -> None:
    assert list(list_objects(f"{s3_bucket}/lake")) == []
    program = f"from cineray.storage import put_object; put_object({f'{s3_bucket}/lake/1.json'!r}, b'one')"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert [info.uri for info in list_objects(f"{s3_bucket}/lake")] == [f"{s3_bucket}/lake/1.json"]


def test_a_single_object_lists_itself(s3_bucket: str) -> None:
    put_object(f"{s3_bucket}/a.tar", b"12")
    (info,) = list_objects(f"{s3_bucket}/a.tar")
    assert info == ObjectInfo(uri=f"{s3_bucket}/a.tar", size_bytes=2, version_tag=info.version_tag)


def test_put_if_absent_never_replaces(s3_bucket: str) -> None:
    uri = f"{s3_bucket}/versions/1.json"
    assert [put_if_absent(uri, b"first"), put_if_absent(uri, b"second"), put_if_absent(uri, b"first")] == [
        True,
        False,
        False,
    ]
    assert read_object(uri, limit_bytes=9) == b"first"


def test_of_four_processes_that_race_for_ten_names_one_wins_each(s3_bucket: str) -> None:
    program = Path(__file__).with_name("race.py")
    racers = [
        subprocess.Popen([sys.executable, program, s3_bucket, f"racer {n}", "10"], stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    won = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    assert sorted(name for names in won for name in names) == sorted(f"{n}" for n in range(10))
    for number, names in enumerate(won):
        for name in names:
            assert read_object(f"{s3_bucket}/race/{name}", limit_bytes=99) == f"racer {number}".encode()


def test_uploads_small_and_in_parts_arrive_whole(s3_bucket: str, tmp_path: Path, monkeypatch) -> None:
    small, big = tmp_path / "small", tmp_path / "big"
    small.write_bytes(b"small")
    big.write_bytes(bytes(range(256)) * (12 << 12))  # 12 MiB
    upload_file(str(small), f"{s3_bucket}/small")
    monkeypatch.setattr("cineray.storage.s3._ONE_PUT_BYTES", 1 << 20)
    upload_file(str(big), f"{s3_bucket}/big")
    assert read_object(f"{s3_bucket}/small", limit_bytes=5) == b"small"
    assert read_object(f"{s3_bucket}/big", limit_bytes=1 << 30) == big.read_bytes()


def test_a_large_object_arrives_whole_or_not_at_all(s3_bucket: str) -> None:
    with new_object(f"{s3_bucket}/x.tar", size_bytes=6) as file:
        file.write(b"first ")
        assert object_exists(f"{s3_bucket}/x.tar") is False
    with suppress(RuntimeError), new_object(f"{s3_bucket}/x.tar", size_bytes=6) as file:
        file.write(b"second")
        raise RuntimeError("stopped")
    assert read_object(f"{s3_bucket}/x.tar", limit_bytes=99) == b"first "


def test_deleting_is_idempotent_and_a_whole_bucket_is_refused(s3_bucket: str) -> None:
    put_object(f"{s3_bucket}/x", b"1")
    delete_object(f"{s3_bucket}/x")
    delete_object(f"{s3_bucket}/x")
    delete_object(f"{s3_bucket}/nothing", recursive=True)
    assert object_exists(f"{s3_bucket}/x") is False
    with pytest.raises(PlaceRefused, match="deleting everything"):
        delete_object(s3_bucket, recursive=True)


def test_one_reader_serves_many_threads(s3_bucket: str) -> None:
    data = bytes(range(256)) * 4096
    put_object(f"{s3_bucket}/film.mp4", data)
    with open_place(Place(uri=f"{s3_bucket}/film.mp4")) as reader, ThreadPoolExecutor(8) as threads:
        starts = range(0, len(data), 40_000)
        assert b"".join(threads.map(lambda start: reader.read_at(start, 40_000), starts)) == data
    assert (reader.counter.requests, reader.counter.bytes_read) == (1 + len(starts), len(data))


def test_a_forked_child_reads_with_a_client_of_its_own(s3_bucket: str) -> None:
    program = f"""
import os
from cineray.records import Place
from cineray.storage import open_place, put_object, read_object
put_object({f"{s3_bucket}/x"!r}, b"shared")
child = os.fork()
if child == 0:
    os._exit(0 if read_object({f"{s3_bucket}/x"!r}, limit_bytes=6) == b"shared" else 1)
assert os.waitpid(child, 0)[1] == 0
assert read_object({f"{s3_bucket}/x"!r}, limit_bytes=6) == b"shared"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
