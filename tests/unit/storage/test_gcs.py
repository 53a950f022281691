"""Google's store, against its emulator as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cineray.errors import PlaceChanged, PlaceMissing
from cineray.records import Place
from cineray.storage import (
    delete_object,
    list_objects,
    object_exists,
    open_place,
    place_stat,
    put_if_absent,
    put_object,
    read_object,
    upload_file,
)

pytestmark = pytest.mark.network


def test_opening_is_one_request_and_each_read_is_one_more(gcs_bucket: str) -> None:
    uri, data = f"{gcs_bucket}/film.mp4", bytes(range(256)) * 4096
    put_object(uri, data)
    with open_place(Place(uri=uri, offset=256)) as reader:
        assert reader.read_at(0, 70_000) == data[256 : 256 + 70_000]
        assert reader.read_at(reader.size_bytes - 5, 100) == data[-5:]
    assert (reader.counter.requests, reader.counter.bytes_read) == (3, 70_005)


def test_an_object_that_was_replaced_is_refused_by_its_tag_and_in_the_middle_of_reading(gcs_bucket: str) -> None:
    uri = f"{gcs_bucket}/film.mp4"
    put_object(uri, b"old bytes")
    size, tag = place_stat(Place(uri=uri))
    with open_place(Place(uri=uri), expect_tag=tag) as reader:
        assert (size, reader.read_at(0, 3)) == (9, b"old")
        put_object(uri, b"new bytes")
        with pytest.raises(PlaceChanged):
            reader.read_at(0, 3)
    with pytest.raises(PlaceChanged, match="was indexed"):
        open_place(Place(uri=uri), expect_tag=tag)


def test_missing_objects_and_buckets_are_named(gcs_bucket: str) -> None:
    with pytest.raises(PlaceMissing, match=f"{gcs_bucket}/none"):
        open_place(Place(uri=f"{gcs_bucket}/none"))
    assert object_exists(f"{gcs_bucket}/none") is False
    assert list(list_objects(f"{gcs_bucket}/none")) == []


def test_odd_names_are_listed_in_byte_order_and_read_byte_for_byte(gcs_bucket: str) -> None:
    names = [
        "a b/100%.mp4",
        "a/?x=3#y",
        "a/%41.mp4",
        "a/späß 映画.mp4",
        "a/+&=;.mp4",
        "a/new\nline.mp4",
        "l/" + "n" * 900,
    ]
    for name in names:
        put_object(f"{gcs_bucket}/{name}", name.encode())
    listed = list(list_objects(gcs_bucket))
    assert [info.uri for info in listed] == sorted((f"{gcs_bucket}/{name}" for name in names), key=str.encode)
    for info in listed:
        assert read_object(info.uri, limit_bytes=9999) == info.uri.removeprefix(f"{gcs_bucket}/").encode()
        assert (info.size_bytes, info.version_tag) == place_stat(Place(uri=info.uri))


def test_of_four_processes_that_race_for_ten_names_one_wins_each(gcs_bucket: str) -> None:
    program = Path(__file__).with_name("race.py")
    racers = [
        subprocess.Popen([sys.executable, program, gcs_bucket, f"racer {n}", "10"], stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    won = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert sorted(name for names in won for name in names) == sorted(f"{n}" for n in range(10))


def test_put_if_absent_never_replaces_and_upload_and_delete_work(gcs_bucket: str, tmp_path: Path) -> None:
    uri = f"{gcs_bucket}/versions/1.json"
    assert [put_if_absent(uri, b"first"), put_if_absent(uri, b"second")] == [True, False]
    assert read_object(uri, limit_bytes=9) == b"first"
    (tmp_path / "film").write_bytes(b"film")
    upload_file(str(tmp_path / "film"), f"{gcs_bucket}/media/film")
    assert read_object(f"{gcs_bucket}/media/film", limit_bytes=9) == b"film"
    delete_object(f"{gcs_bucket}/media", recursive=True)
    delete_object(uri)
    delete_object(uri)
    assert list(list_objects(gcs_bucket)) == []
