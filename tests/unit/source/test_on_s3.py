"""Every source on an S3 server process, with requests and bytes counted: listing reads no video."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import lance
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cineray.errors import SourceError
from cineray.records import Reject, VideoFile
from cineray.source import Source, open_source
from cineray.storage import lance_options, open_place, put_object

pytestmark = pytest.mark.network

VIDEOS = {f"train/walk/{number}.mp4": bytes([number]) * 300_000 for number in range(4)}


def contents(source: Source) -> dict[str, bytes]:
    found = {}
    for item in source.list_videos():
        assert isinstance(item, VideoFile), item
        with open_place(item.place, expect_tag=item.version_tag) as reader:
            found[item.name] = reader.read_at(0, reader.size_bytes)
    return found


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_a_prefix_is_a_folder_with_splits_labels_metadata_and_sidecars(s3_server, s3_bucket: str) -> None:
    for name, data in VIDEOS.items():
        put_object(f"{s3_bucket}/clips/{name}", data)
    put_object(f"{s3_bucket}/clips/train/walk/0.txt", b"a dog")
    put_object(f"{s3_bucket}/clips/train/metadata.csv", b"file_name,group\nwalk/1.mp4,tape\nwalk/9.mp4,tape\n")
    put_object(f"{s3_bucket}/clips-2/other.mp4", b"a prefix is no folder of another name")
    before = len(s3_server.requests())
    *files, lost = open_source(f"{s3_bucket}/clips").list_videos()
    gets = [line for line in s3_server.requests()[before:] if line.startswith("GET") and "list-type" not in line]
    assert [line.split()[1].partition("?")[0].rpartition("/")[2] for line in gets] == ["metadata.csv"]
    assert [(f.name, f.split, f.label, f.group, len(f.sidecars)) for f in files if isinstance(f, VideoFile)] == [
        ("train/walk/0.mp4", "train", "walk", None, 1),
        ("train/walk/1.mp4", "train", "walk", "tape", 0),
        ("train/walk/2.mp4", "train", "walk", None, 0),
        ("train/walk/3.mp4", "train", "walk", None, 0),
    ]
    assert isinstance(lost, Reject)
    assert (lost.name, lost.reason) == ("train/walk/9.mp4", "missing")


def test_what_a_folder_lists_opens(s3_bucket: str) -> None:
    for name, data in VIDEOS.items():
        put_object(f"{s3_bucket}/clips/{name}", data)
    assert contents(open_source(f"{s3_bucket}/clips/")) == VIDEOS


def test_nothing_below_a_prefix_is_an_error_that_names_it(s3_bucket: str) -> None:
    with pytest.raises(SourceError, match=f"nothing lies below {s3_bucket}/none"):
        list(open_source(f"{s3_bucket}/none").list_videos())


def test_a_shard_is_listed_by_small_requests_and_its_videos_are_read_by_their_ranges(s3_server, s3_bucket: str) -> None:
    files = {name: data for video, data in VIDEOS.items() for name, data in [(video, data), (f"{video[:-3]}txt", b"t")]}
    put_object(f"{s3_bucket}/shards/s-0.tar", tar_of(files))
    source = open_source(f"{s3_bucket}/shards/s-{{0..0}}.tar")
    before = len(s3_server.requests())
    assert len([item for item in source.list_videos() if isinstance(item, VideoFile)]) == 4
    gets = [line for line in s3_server.requests()[before:] if line.startswith("GET")]
    assert len(gets) <= 1 + len(VIDEOS) + 1, "the compression check, then one request a video and its sidecar"
    assert contents(source) == {f"s-0.tar::{name}": data for name, data in VIDEOS.items()}


def test_a_folder_of_shards_is_known_as_such_and_a_missing_one_is_named(s3_bucket: str) -> None:
    for number in range(2):
        put_object(f"{s3_bucket}/shards/s-{number}.tar", tar_of({f"{number}.mp4": b"x"}))
    assert open_source(f"{s3_bucket}/shards").kind == "webdataset"
    assert contents(open_source(f"{s3_bucket}/shards/s-*.tar")) == {"s-0.tar::0.mp4": b"x", "s-1.tar::1.mp4": b"x"}
    *_, last = open_source(f"{s3_bucket}/shards/s-{{0..2}}.tar").list_videos()
    assert isinstance(last, Reject)
    assert (last.name, last.reason) == ("s-2.tar", "missing")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_manifest_names_places_relative_to_itself(s3_bucket: str, suffix: str) -> None:
    put_object(f"{s3_bucket}/data/clips/1.mp4", b"one")
    table = {"uri": ["clips/1.mp4", f"{s3_bucket}/data/clips/1.mp4"]}
    buffer = io.BytesIO()
    if suffix == "parquet":
        pq.write_table(pa.table(table), buffer)
    else:
        head, line = ("uri\n", "{}\n") if suffix == "csv" else ("", '{{"uri": "{}"}}\n')
        buffer.write((head + "".join(line.format(uri) for uri in table["uri"])).encode())
    put_object(f"{s3_bucket}/data/m.{suffix}", buffer.getvalue())
    assert contents(open_source(f"{s3_bucket}/data/m.{suffix}")) == dict.fromkeys(table["uri"], b"one")


def test_a_lance_table_on_s3_lists_its_rows_and_opens_its_blobs(s3_bucket: str) -> None:
    schema = pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("video", pa.large_binary(), metadata={b"lance-encoding:blob": b"true"}),
        ]
    )
    table = pa.table({"id": list(VIDEOS), "video": list(VIDEOS.values())}, schema=schema)
    uri = f"{s3_bucket}/t.lance"
    lance.write_dataset(table, uri, storage_options=lance_options(uri))
    assert contents(open_source(uri)) == VIDEOS


def test_a_video_of_a_shard_that_was_replaced_is_not_read(s3_bucket: str, tmp_path: Path) -> None:
    from cineray.errors import PlaceChanged

    put_object(f"{s3_bucket}/s.tar", tar_of({"1.mp4": b"old"}))
    (video,) = open_source(f"{s3_bucket}/s.tar").list_videos()
    assert isinstance(video, VideoFile)
    put_object(f"{s3_bucket}/s.tar", tar_of({"1.mp4": b"new"}))
    with pytest.raises(PlaceChanged):
        open_place(video.place, expect_tag=video.version_tag)
