"""Rows say everything that the records say, under ids that the same fact always has."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest

from cineray.errors import UsageError
from cineray.lake import (
    MEDIA,
    PLACES,
    batches_of,
    clip_row,
    layer_row,
    media_row,
    place_from_row,
    place_row,
    reject_row,
    sidecars_from_row,
    sql_in,
    table_schema,
    unpack_text,
    video_from_row,
)
from cineray.records import IndexedVideo, Place, Reject, Sidecar, VideoFile


def through_arrow(table: str, row: dict[str, object]) -> dict[str, object]:
    """The row as a reader of the table gets it."""
    (batch,) = batches_of(table, [row])
    assert batch.schema.equals(table_schema(table))
    return batch.to_pylist()[0]


def test_an_indexed_video_comes_back_from_its_row_as_it_was(video: IndexedVideo) -> None:
    assert video_from_row(through_arrow("media", media_row(video))) == video


def test_a_media_row_also_holds_what_people_ask_for(video: IndexedVideo) -> None:
    row = through_arrow("media", media_row(video, label="cat", captions=["a cat"], columns={"b": 1, "a": None}))
    asked = ("state", "label", "captions", "columns", "num_frames", "num_key_frames", "start_pts", "end_pts")
    assert [row[name] for name in asked] == ["ready", "cat", ["a cat"], '{"a": null, "b": 1}', 4, 1, 0, 2048]
    assert row["duration_seconds"] == 2048 / 15360
    assert row["frames_per_second"] == 30000 / 1001


def test_a_remuxed_video_keeps_its_identity_and_has_the_frames_and_hash_of_the_bytes_to_decode(
    video: IndexedVideo,
) -> None:
    remuxed = dataclasses.replace(
        video, video_id="f" * 32, content_hash="blake3:" + "f" * 64, size_bytes=999, container="mp4"
    )
    made = media_row(video, remuxed=remuxed, remuxed_uri="media/x.mp4", remux_reason="TS with B-frames")
    row = through_arrow("media", made)
    assert (row["video_id"], row["content_hash"], row["size_bytes"]) == (video.video_id, video.content_hash, 1080)
    assert video_from_row(row) == dataclasses.replace(remuxed, video_id=video.video_id)


def test_a_reject_is_a_row_with_a_reason_and_an_id_made_of_source_and_name() -> None:
    reject = Reject(name="a.mp4", stage="index", reason="truncated", detail="half of it is missing")
    row = through_arrow("media", reject_row(reject, source="/videos"))
    assert {name: value for name, value in row.items() if value not in (None, [])} == {
        "video_id": row["video_id"],
        "state": "rejected",
        "reason": "truncated",
        "detail": "half of it is missing",
    }
    assert row["video_id"] == reject_row(reject, source="/videos")["video_id"]
    assert row["video_id"] != reject_row(reject, source="/other")["video_id"]
    with pytest.raises(UsageError, match="is rejected \\(truncated\\): it has no frames"):
        video_from_row(row)


def test_a_place_comes_back_with_its_sidecars_and_the_same_place_has_the_same_id() -> None:
    place = Place(uri="s3://b/shard.tar", offset=512, length=100)
    sidecar = Sidecar(kind="srt", place=Place(uri="s3://b/shard.tar", offset=1024, length=20))
    file = VideoFile(name="x/a.mp4", place=place, size_bytes=100, version_tag="etag", sidecars=(sidecar,))
    row = through_arrow("places", place_row(file, video_id="v", source="s3://b"))
    assert place_from_row(row) == place
    assert sidecars_from_row(row) == (sidecar,)
    renamed = dataclasses.replace(file, name="other", version_tag="new")
    assert place_row(renamed, video_id="w", source="elsewhere")["place_id"] == row["place_id"]
    beside = dataclasses.replace(file, place=dataclasses.replace(place, offset=0))
    assert place_row(beside, video_id="v", source="s3://b")["place_id"] != row["place_id"]


@pytest.mark.parametrize("name", ["a\nb'c\"d.mp4", "\udcff\\udc80.mp4", "x" * 4000, "\u202e\U0001f600.mp4", "\\x41"])
def test_a_hostile_name_is_kept_exactly(name: str) -> None:
    file = VideoFile(name=name, place=Place(uri=f"/videos/{name}"))
    row = through_arrow("places", place_row(file, video_id="v", source="/videos"))
    assert unpack_text(str(row["name"])) == name
    assert place_from_row(row) == file.place


def test_the_same_annotation_has_the_same_id_and_another_value_another() -> None:
    row = layer_row(video_id="v", start_pts=0, end_pts=5, value="a cat", author="tester")
    assert row == layer_row(video_id="v", start_pts=0, end_pts=5, value="a cat", author="tester")
    assert row["row_id"] != layer_row(video_id="v", start_pts=0, end_pts=5, value="a dog", author="tester")["row_id"]


def test_a_clip_is_known_by_its_video_and_span() -> None:
    row = clip_row(video_id="v", start_pts=0, end_pts=5, split="train", group_id="g")
    assert row["clip_id"] == clip_row(video_id="v", start_pts=0, end_pts=5, split="test", group_id="h")["clip_id"]
    assert row["clip_id"] != clip_row(video_id="v", start_pts=0, end_pts=6, split="train", group_id="g")["clip_id"]


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(UsageError, match=r"unknown columns \['clipid'\]"):
        list(batches_of("clips", [{"clipid": "a"}]))


@pytest.mark.parametrize("name", ["medias", "layers/", "layers/../media", "layers/a/b", "", "layers/\n"])
def test_a_table_that_a_lake_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no table"):
        table_schema(name)


def test_no_column_is_there_twice() -> None:
    for schema in (MEDIA, PLACES):
        assert len(set(schema.names)) == len(schema.names)


def test_values_cannot_break_out_of_sql() -> None:
    assert sql_in("name", ["a' OR 'x'='x", "b"]) == "name IN ('a'' OR ''x''=''x', 'b')"
    assert sql_in("name", []) == "false"


def test_rows_become_batches_without_holding_them_all() -> None:
    taken = 0

    def rows() -> object:
        nonlocal taken
        for taken in range(1, 1001):
            yield clip_row(video_id=str(taken), start_pts=0, end_pts=1, split=None, group_id="g")

    first = next(batches_of("clips", rows(), rows_per_batch=10))
    assert isinstance(first, pa.RecordBatch)
    assert (first.num_rows, taken) == (10, 10)
