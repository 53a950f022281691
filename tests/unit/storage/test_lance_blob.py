"""A blob of a Lance table as a place, local and on S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from cineray.errors import PlaceError, PlaceMissing, PlaceRefused
from cineray.records import Place
from cineray.storage import lance_options, object_exists, open_place, place_stat
from cineray.storage.lance_blob import BlobAddress, blob_uri

FILMS = [bytes([number]) * (200_000 + number) for number in range(4)]


def make_table(uri: str) -> None:
    """Version 1 has films 0 and 1 and a null; version 2 has 2 and 3 as well."""
    import lance
    import pyarrow as pa

    kind = pa.field("film", pa.large_binary(), metadata={"lance-encoding:blob": "true"})
    schema = pa.schema([pa.field("name", pa.string()), kind])
    options = lance_options(uri)
    for films in ([*FILMS[:2], None], FILMS[2:]):
        rows = pa.table({"name": ["x"] * len(films), "film": films}, schema=schema)
        lance.write_dataset(rows, uri, mode="append" if films[-1] else "create", storage_options=options)


def check(table: str) -> None:
    for row, film in [(0, FILMS[0]), (1, FILMS[1]), (3, FILMS[2]), (4, FILMS[3])]:
        uri = blob_uri(table, version=2, column="film", row=row)
        with open_place(Place(uri=uri)) as reader:
            assert (reader.size_bytes, reader.read_at(100, 50)) == (len(film), film[100:150])
            assert reader.read_at(len(film) - 3, 10) == film[-3:]
            assert reader.counter.bytes_read == 53
        assert place_stat(Place(uri=uri, offset=10, length=5)) == (5, f"2-film-{row}-{len(film)}")
    with pytest.raises(PlaceMissing, match="no such blob"):
        open_place(Place(uri=blob_uri(table, version=1, column="film", row=4)))
    with pytest.raises(PlaceMissing, match="null"):
        open_place(Place(uri=blob_uri(table, version=1, column="film", row=2)))
    with pytest.raises(PlaceMissing, match="no such blob"):
        open_place(Place(uri=blob_uri(table, version=9, column="film", row=0)))
    with pytest.raises(PlaceError, match="no such blob"):
        open_place(Place(uri=blob_uri(table, version=1, column="film?&=", row=0)))
    assert object_exists(blob_uri(table, version=1, column="film", row=0)) is True


def test_blobs_of_a_local_table_are_read_by_range(tmp_path: Path) -> None:
    table = str(tmp_path / "odd name? #1.lance")
    make_table(table)
    check(table)


@pytest.mark.network
def test_blobs_of_a_table_on_s3_are_read_by_range(s3_bucket: str) -> None:
    make_table(f"{s3_bucket}/films.lance")
    check(f"{s3_bucket}/films.lance")


def test_addresses_are_parsed_strictly() -> None:
    uri = blob_uri("/data/films.lance", version=3, column="a b&c", row=5)
    assert uri == "lance+/data/films.lance?version=3&column=a+b%26c&row=5"
    assert BlobAddress.parse(uri) == BlobAddress(table="/data/films.lance", version=3, column="a b&c", row=5)
    for query in ("version=x&column=c&row=1", "version=1&column=c", "version=1&column=c&row=-1", "x=1"):
        with pytest.raises(PlaceRefused, match="names no blob"):
            open_place(Place(uri=f"lance+/data/films.lance?{query}"))
    with pytest.raises(PlaceRefused, match="a Lance table lies in"):
        open_place(Place(uri="lance+https://host/films.lance?version=1&column=c&row=0"))


def test_a_blob_that_points_to_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    import lance
    import pyarrow as pa

    secret = tmp_path / "secret.txt"
    secret.write_text("not for you")
    table = pa.table(
        {"video": lance.blob_array([lance.Blob.from_uri(secret.as_uri())])},
        schema=pa.schema([lance.blob_field("video")]),
    )
    uri = str(tmp_path / "t.lance")
    lance.write_dataset(table, uri, data_storage_version="2.2", allow_external_blob_outside_bases=True)

    with pytest.raises(PlaceRefused, match="points out of the table"):
        open_place(Place(uri=blob_uri(uri, version=1, column="video", row=0)))
