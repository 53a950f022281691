"""Manifests: rows of places from CSV, JSONL and Parquet, in flat memory, each bad row named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cineray.errors import SourceError
from cineray.records import Place, Reject, VideoFile
from cineray.source import Manifest
from cineray.source.rows import MAX_ROW_BYTES, Row, read_rows
from cineray.storage import AccessPolicy


def listed(path: Path) -> list[VideoFile | Reject]:
    return list(Manifest(str(path)).list_videos())


def rejects(path: Path) -> list[tuple[str, str, str]]:
    return [(item.name, item.reason, item.detail) for item in listed(path) if isinstance(item, Reject)]


def rows(path: Path) -> list[Row]:
    return list(read_rows(str(path), policy=AccessPolicy()))


ROWS = [
    {"uri": "a/1.mp4", "split": "val", "label": "walk", "group": "g", "caption": 'a, "dog"\nruns', "fps": "25"},
    {"uri": "s3://bucket/shard.tar", "offset": 1536, "length": 100, "name": "clip two"},
    {"uri": "/abs/3.mp4"},
]


def write(folder: Path, suffix: str, table: list[dict[str, object]]) -> Path:
    path = folder / f"m.{suffix}"
    names = list(dict.fromkeys(name for row in table for name in row))
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
    elif suffix == "parquet":
        pq.write_table(pa.table({name: [row.get(name) for row in table] for name in names}), path)
    else:
        import csv

        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(table)
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_three_formats_say_the_same(tmp_path: Path, suffix: str) -> None:
    assert listed(write(tmp_path, suffix, ROWS)) == [
        VideoFile(
            name="a/1.mp4",
            place=Place(uri=f"{tmp_path}/a/1.mp4"),
            split="validation",
            label="walk",
            group="g",
            captions=('a, "dog"\nruns',),
            columns={"fps": "25"},
        ),
        VideoFile(name="clip two", place=Place(uri="s3://bucket/shard.tar", offset=1536, length=100), size_bytes=100),
        VideoFile(name="/abs/3.mp4", place=Place(uri="/abs/3.mp4")),
    ]


def test_a_bad_row_is_a_reject_with_its_number_and_the_others_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    lines = [
        '{"uri": "1.mp4"}',
        '{"caption": "no uri"}',
        '{"uri": "gopher://h/x.mp4"}',
        '{"uri": "pipe:rm -rf /"}',
        '{"uri": "2.mp4", "offset": 5}',
        '{"uri": "2.mp4", "offset": -1, "length": 5}',
        '{"uri": "2.mp4", "offset": 1e400, "length": 5}',
        '{"uri": "2.mp4", "length": "many"}',
        '["2.mp4"]',
        "not json",
        "[" * 5000,
        '{"uri": 7}',
        '{"uri": "a\\u0000b"}',
        "",
        '{"uri": "3.mp4", "offset": "0", "length": "7"}',
    ]
    path.write_text("\n".join(lines) + "\n")
    assert [(name, reason) for name, reason, _ in rejects(path)] == [
        ("row 2", "bad_row"),
        ("row 3", "refused"),
        ("row 4", "refused"),
        ("row 5", "bad_row"),
        ("row 6", "bad_row"),
        ("row 7", "bad_row"),
        ("row 8", "bad_row"),
        ("row 9", "bad_row"),
        ("row 10", "bad_row"),
        ("row 11", "bad_row"),
        ("row 12", "bad_row"),
        ("row 13", "refused"),
    ]
    assert rejects(path)[0][2] == f"row 2 of {path}: it has no `uri`; write the address of its video there"
    assert [item.name for item in listed(path) if isinstance(item, VideoFile)] == ["1.mp4", "3.mp4[0+7]"]


def test_a_manifest_without_a_uri_column_is_an_error_that_says_what_it_has(tmp_path: Path) -> None:
    for suffix in ("csv", "parquet"):
        with pytest.raises(SourceError, match="has the columns path, caption; wanted one called `uri`"):
            listed(write(tmp_path, suffix, [{"path": "1.mp4", "caption": "x"}]))


@pytest.mark.parametrize("split", ["te st", "1", "_x", "trän", "x" * 65, "a/b", "train\n2"])
def test_a_row_whose_split_is_no_name_is_a_reject_and_is_in_no_split(tmp_path: Path, split: str) -> None:
    path = write(tmp_path, "jsonl", [{"uri": "1.mp4", "split": split}, {"uri": "2.mp4", "split": "Hold-out_2"}])
    ((name, reason, detail),) = rejects(path)
    assert (name, reason) == ("row 1", "bad_row")
    assert "wanted a name of at most 64 letters, digits, _ and - that begins with a letter. Correct it" in detail
    assert [(item.name, item.split) for item in listed(path) if isinstance(item, VideoFile)] == [
        ("2.mp4", "Hold-out_2")
    ]


def test_a_repeated_name_gets_its_row_as_a_suffix(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", [{"uri": "a.mp4"}, {"uri": "a.mp4"}, {"uri": "b.mp4", "name": "a.mp4"}])
    assert [item.name for item in listed(path)] == ["a.mp4", "a.mp4#row-2", "a.mp4#row-3"]


def test_a_relative_address_is_taken_from_the_manifests_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    path = write(tmp_path / "sub", "csv", [{"uri": "../v/1.mp4"}, {"uri": "file:///x/a%20b.mp4"}])
    monkeypatch.chdir("/")
    assert [item.place.uri for item in listed(path) if isinstance(item, VideoFile)] == [
        f"{tmp_path}/v/1.mp4",
        "/x/a b.mp4",
    ]


def test_what_is_missing_broken_or_no_table_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "cut.parquet").write_bytes(write(tmp_path, "parquet", ROWS).read_bytes()[:-50])
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "twice.csv").write_bytes(b"uri,uri\n1,2\n")
    (tmp_path / "wide.csv").write_bytes("uri\n1.mp4\n".encode("utf-16"))
    (tmp_path / "m.xlsx").write_bytes(b"PK")
    for name, words in [
        ("none.csv", "none.csv cannot be read: .* no such file"),
        ("cut.parquet", "cut.parquet is not a whole Parquet file"),
        ("empty.csv", "empty.csv has no header line"),
        ("twice.csv", "names a column twice"),
        ("wide.csv", r"begins with \\xff\\xfeu\\x00.*, which is no UTF-8 text; save it as UTF-8"),
        ("m.xlsx", r"no table that we read; wanted one of \.csv, \.jsonl, \.parquet"),
    ]:
        with pytest.raises(SourceError, match=words):
            listed(tmp_path / name)
    assert listed(_write(tmp_path / "header.csv", b"uri\n")) == []


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "head", "bomb", "tail"),
    [
        ("m.jsonl", b'{"uri": "1.mp4"}\n', b'{"uri": "' + b"x" * (3 * MAX_ROW_BYTES) + b'"}\n', b'{"uri": "2.mp4"}\n'),
        ("m.csv", b"uri,x\n1.mp4,\n", b"x" * (3 * MAX_ROW_BYTES) + b",\n", b"2.mp4,\n"),
    ],
)
def test_an_endless_line_costs_itself_only(tmp_path: Path, name: str, head: bytes, bomb: bytes, tail: bytes) -> None:
    path = _write(tmp_path / name, head + bomb + tail)
    assert [item.name for item in listed(path)] == ["1.mp4", "row 2", "2.mp4"]
    assert "longer than 1,048,576 bytes" in rejects(path)[0][2]


def test_an_open_quote_in_a_csv_neither_fills_the_memory_nor_raises(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.csv", b'uri,x\n1.mp4,"\n' + b'","\n' * 600_000 + b"2.mp4,\n")
    tracemalloc.start()
    found = sum("is a quote left open?" in row.problem for row in read_rows(str(path), policy=AccessPolicy()))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == 1
    assert peak_bytes < 80 << 20


def test_a_row_with_too_many_cells_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.csv", b"uri,x\n1.mp4,2,3\n\n2.mp4\n")
    assert rows(path) == [
        Row(1, problem="has 3 cells; the header has 2 columns"),
        Row(2, {"uri": "2.mp4", "x": None}),
    ]


def test_bytes_that_are_not_utf8_name_the_file_that_they_name_on_disk(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.csv", b"uri,label\nnot\xffutf8.mp4,l\xff\n")
    (file,) = listed(path)
    assert isinstance(file, VideoFile)
    assert os.fsencode(file.place.uri).endswith(b"/not\xffutf8.mp4")
    assert (file.name, file.label) == ("not\\xffutf8.mp4", "l\\xff")


def test_columns_with_raw_bytes_are_not_read(tmp_path: Path) -> None:
    table = pa.table(
        {
            "uri": ["1.mp4"],
            "video": [{"bytes": b"x" * 1000, "path": "p"}],
            "blob": [b"x"],
            "tags": [["a", "b"]],
            "when": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")),
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    (file,) = listed(tmp_path / "m.parquet")
    assert isinstance(file, VideoFile)
    assert file.columns["tags"] == '["a", "b"]'
    assert set(file.columns) == {"tags", "when"}


GROWTH = """
import resource, sys
from cineray.source import Manifest
for count, item in enumerate(Manifest(sys.argv[1]).list_videos(), start=1):
    if count == 10_000:
        early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(count, item.name, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early) >> 10)
"""


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_hundred_thousand_rows_take_flat_memory(tmp_path: Path, suffix: str) -> None:
    count = 100_000
    path = tmp_path / f"m.{suffix}"
    if suffix == "parquet":
        uris = [f"clips/{number % 5}.mp4" for number in range(count)]
        pq.write_table(pa.table({"uri": uris, "caption": ["a dog runs"] * count}), path)
    else:
        line = (
            '{{"uri": "clips/{}.mp4", "caption": "a dog runs"}}\n' if suffix == "jsonl" else "clips/{}.mp4,a dog runs\n"
        )
        head = "" if suffix == "jsonl" else "uri,caption\n"
        path.write_text(head + "".join(line.format(number % 5) for number in range(count)))
    done = subprocess.run([sys.executable, "-c", GROWTH, str(path)], capture_output=True, text=True, check=True)
    found, last, grown_mib = done.stdout.split()
    assert (found, last) == (str(count), "clips/4.mp4#row-100000")
    assert int(grown_mib) < 12
