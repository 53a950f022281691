"""Lance tables: rows become videos without a video being read, and stay what they were when the table goes on."""

from __future__ import annotations

from pathlib import Path

import lance
import pyarrow as pa
import pytest

from cineray.errors import SourceError, UsageError
from cineray.records import Reject, VideoFile
from cineray.source import LanceTable
from cineray.storage import open_place
from cineray.storage.lance_blob import blob_uri

BLOB = {b"lance-encoding:blob": b"true"}


def write(path: Path, columns: dict[str, list[object]], *, blob: str = "video", **options: object) -> str:
    fields = [
        pa.field(name, pa.large_binary(), metadata=BLOB) if name == blob else pa.field(name, pa.array(values).type)
        for name, values in columns.items()
    ]
    lance.write_dataset(pa.table(columns, schema=pa.schema(fields)), str(path), **options)
    return str(path)


def listed(table: LanceTable) -> list[VideoFile | Reject]:
    return list(table.list_videos())


def test_a_row_is_a_video_with_what_its_other_columns_say(tmp_path: Path) -> None:
    columns = {
        "id": ["a", "b", "b"],
        "video": [b"first", b"", None],
        "caption": ["a dog", None, "x"],
        "label": [1, 2, 3],
        "split": ["dev", None, None],
        "fps": [25.0, 30.0, None],
    }
    uri = write(tmp_path / "t.lance", columns)
    first, second, third = listed(LanceTable(uri))
    assert isinstance(first, VideoFile)
    assert first.place.uri == blob_uri(uri, version=1, column="video", row=0)
    assert (first.name, first.size_bytes, first.split, first.label) == ("a", 5, "validation", "1")
    assert (first.captions, dict(first.columns)) == (("a dog",), {"id": "a", "fps": 25.0})
    assert isinstance(second, VideoFile)
    assert (second.name, second.size_bytes) == ("b", 0)
    assert isinstance(third, Reject)
    assert (third.name, third.reason) == ("b#row-2", "missing")


def test_a_row_whose_split_is_no_name_is_a_reject_and_in_no_other_split(tmp_path: Path) -> None:
    uri = write(tmp_path / "t.lance", {"id": ["a", "b"], "video": [b"A", b"B"], "split": ["hold out", "holdout"]})
    first, second = listed(LanceTable(uri))
    assert isinstance(first, Reject)
    assert (first.name, first.reason) == ("a", "bad_row")
    assert "its split is 'hold out'; wanted a name of at most 64 letters" in first.detail
    assert isinstance(second, VideoFile)
    assert second.split == "holdout"


def test_a_place_keeps_its_bytes_when_the_table_is_changed(tmp_path: Path) -> None:
    uri = write(tmp_path / "t.lance", {"id": ["a", "b", "c"], "video": [b"A", b"B", b"C"]})
    before = listed(LanceTable(uri))
    lance.dataset(uri).delete("id = 'a'")
    write(tmp_path / "t.lance", {"id": ["d"], "video": [b"D"]}, mode="append")

    def contents(items: list[VideoFile | Reject]) -> dict[str, bytes]:
        found = {}
        for item in items:
            assert isinstance(item, VideoFile)
            with open_place(item.place) as reader:
                found[item.name] = reader.read_at(0, 10)
        return found

    assert contents(before) == {"a": b"A", "b": b"B", "c": b"C"}
    assert contents(listed(LanceTable(uri))) == {"b": b"B", "c": b"C", "d": b"D"}
    assert contents(listed(LanceTable(uri, version=1))) == {"a": b"A", "b": b"B", "c": b"C"}


def test_listing_reads_no_video(tmp_path: Path) -> None:
    uri = write(tmp_path / "t.lance", {"id": [str(n) for n in range(8)], "video": [bytes(2 << 20) for _ in range(8)]})
    dataset = lance.dataset(uri)
    dataset.io_stats_incremental()
    table = LanceTable(uri)
    table._open = lambda: dataset  # type: ignore[method-assign]  # the same table, whose reads we count
    assert [item.size_bytes for item in listed(table) if isinstance(item, VideoFile)] == [2 << 20] * 8
    assert dataset.io_stats_incremental().read_bytes < 1 << 20


def test_rows_without_a_column_for_names_are_numbered(tmp_path: Path) -> None:
    uri = write(tmp_path / "t.lance", {"video": [b"A", b"B"]})
    assert [item.name for item in listed(LanceTable(uri))] == ["row-0", "row-1"]


def test_the_column_is_named_where_it_cannot_be_guessed(tmp_path: Path) -> None:
    fields = [pa.field(name, pa.large_binary(), metadata=BLOB) for name in ("left", "right")]
    schema = pa.schema([*fields, pa.field("id", pa.string()), pa.field("thumb", pa.binary())])
    table = pa.table({"left": [b"L"], "right": [b"R!"], "id": ["a"], "thumb": [b"T"]}, schema=schema)
    uri = str(tmp_path / "t.lance")
    lance.write_dataset(table, uri)
    with pytest.raises(SourceError, match=r"has 2 blob columns \(left, right\); name one as `column`"):
        listed(LanceTable(uri))
    for wrong in ("middle", "id", "thumb"):
        with pytest.raises(UsageError, match=rf"'{wrong}' is no blob column of .* id \(string\), thumb \(binary\)"):
            listed(LanceTable(uri, column=wrong))
    assert [item.size_bytes for item in listed(LanceTable(uri, column="right")) if isinstance(item, VideoFile)] == [2]


def test_a_table_with_plain_binary_columns_only_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    uri = write(tmp_path / "t.lance", {"video": [b"A"]}, blob="")
    with pytest.raises(SourceError, match=r"has no blob column, only video \(binary\); wanted .*lance-encoding:blob"):
        listed(LanceTable(uri))


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.2"])
def test_every_format_of_blobs_tells_sizes_and_nulls(tmp_path: Path, version: str) -> None:
    columns: dict[str, list[object]] = {"id": ["a", "b", "c"], "video": [b"first", b"", None]}
    uri = write(tmp_path / "t.lance", columns, data_storage_version=version)
    assert [getattr(item, "size_bytes", getattr(item, "reason", "")) for item in listed(LanceTable(uri))] == [
        5,
        0,
        "missing",
    ]


def test_a_blob_that_points_to_a_file_outside_the_table_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret")
    videos = lance.blob_array([b"inside", lance.Blob.from_uri(secret.as_uri())])
    table = pa.table({"video": videos}, schema=pa.schema([lance.blob_field("video")]))
    uri = str(tmp_path / "t.lance")
    lance.write_dataset(table, uri, data_storage_version="2.2", allow_external_blob_outside_bases=True)
    inside, outside = listed(LanceTable(uri))
    assert isinstance(inside, VideoFile)
    assert isinstance(outside, Reject)
    assert (outside.name, outside.reason) == ("row-1", "refused")
    assert "secret.mp4, and that is not followed" in outside.detail


def test_no_table_or_no_such_version_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no Lance table can be opened at .*nowhere\.lance"):
        listed(LanceTable(str(tmp_path / "nowhere.lance")))
    uri = write(tmp_path / "t.lance", {"video": [b"A"]})
    with pytest.raises(SourceError, match=r"t\.lance in version 9: "):
        listed(LanceTable(uri, version=9))
