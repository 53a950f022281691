"""What an ingest promises of its version: everything is in it once, and has its reason where it is left out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cineray.ingest import IngestReport
from cineray.lake import Lake

Run = Callable[..., IngestReport]
Make = Callable[..., Path]


def rows(report: IngestReport, table: str, *columns: str, lake: Path) -> list[dict[str, Any]]:
    return Lake.open(str(lake)).read(report.version, table, columns=list(columns)).to_pylist()


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def test_each_video_becomes_a_row_a_place_and_a_clip_of_its_whole_length(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    video(tmp_path / "v" / "a.mp4", "red")
    video(tmp_path / "v" / "b.mp4", "blue")

    report = run(tmp_path / "v")

    media = rows(report, "media", "video_id", "state", "num_frames", "uri", lake=lake)
    assert [(m["state"], m["num_frames"], Path(m["uri"]).name) for m in sorted(media, key=lambda m: m["uri"])] == [
        ("ready", 10, "a.mp4"),
        ("ready", 10, "b.mp4"),
    ]
    clips = rows(report, "clips", "video_id", "start_pts", "end_pts", "group_id", lake=lake)
    assert {(c["video_id"], c["start_pts"], c["end_pts"], c["group_id"]) for c in clips} == {
        (m["video_id"], 0, 10240, m["video_id"]) for m in media
    }
    assert {(p["name"], p["video_id"]) for p in rows(report, "places", "name", "video_id", lake=lake)} == {
        (Path(m["uri"]).name, m["video_id"]) for m in media
    }


def test_ingesting_again_finds_nothing_new_and_leaves_the_version_as_it_is(
    run: Run, video: Make, tmp_path: Path
) -> None:
    video(tmp_path / "v" / "a.mp4")
    first = run(tmp_path / "v")

    again = run(tmp_path / "v")

    assert again.version == first.version
    assert (again.added, again.unchanged, again.summary.bytes_read) == (0, 1, 0)


def test_a_new_file_adds_its_rows_and_rewrites_nothing(run: Run, video: Make, tmp_path: Path, lake: Path) -> None:
    video(tmp_path / "v" / "a.mp4", "red")
    run(tmp_path / "v")
    data = lake / "tables" / "media.lance" / "data"
    before = {path.name: path.stat().st_mtime_ns for path in data.iterdir()}

    video(tmp_path / "v" / "b.mp4", "blue")
    report = run(tmp_path / "v")

    after = {path.name: path.stat().st_mtime_ns for path in data.iterdir()}
    assert (report.version.number, report.added, report.unchanged, report.videos) == (2, 1, 1, 2)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1


def test_the_same_bytes_under_two_names_are_one_video_with_two_places(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    video(tmp_path / "v" / "b.mp4")
    shutil.copy(tmp_path / "v" / "b.mp4", tmp_path / "v" / "a.mp4")

    report = run(tmp_path / "v")

    assert (report.videos, report.duplicates) == (1, 1)
    (media,) = rows(report, "media", "video_id", "uri", lake=lake)
    assert Path(media["uri"]).name == "a.mp4"
    assert {(p["name"], p["video_id"]) for p in rows(report, "places", "name", "video_id", lake=lake)} == {
        ("a.mp4", media["video_id"]),
        ("b.mp4", media["video_id"]),
    }
    assert len(rows(report, "clips", "clip_id", lake=lake)) == 1


def test_a_file_whose_bytes_changed_replaces_its_old_video(run: Run, video: Make, tmp_path: Path, lake: Path) -> None:
    video(tmp_path / "v" / "a.mp4", "red")
    video(tmp_path / "v" / "b.mp4", "green")
    first = run(tmp_path / "v")
    old = {p["name"]: p["video_id"] for p in rows(first, "places", "name", "video_id", lake=lake)}

    video(tmp_path / "v" / "a.mp4", "blue")
    second = run(tmp_path / "v")

    new = {p["name"]: p["video_id"] for p in rows(second, "places", "name", "video_id", lake=lake)}
    assert new["b.mp4"] == old["b.mp4"]
    assert new["a.mp4"] != old["a.mp4"]
    for table in ("media", "clips"):
        assert {r["video_id"] for r in rows(second, table, "video_id", lake=lake)} == set(new.values())
    assert {r["video_id"] for r in rows(first, "media", "video_id", lake=lake)} == set(old.values()), (
        "version 1 is as it was"
    )


def test_a_video_that_lost_its_first_place_is_described_by_the_other(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    video(tmp_path / "v" / "a.mp4", "red")
    shutil.copy(tmp_path / "v" / "a.mp4", tmp_path / "v" / "b.mp4")
    first = run(tmp_path / "v")
    (old,) = rows(first, "media", "video_id", lake=lake)

    video(tmp_path / "v" / "a.mp4", "blue")
    second = run(tmp_path / "v")

    uris = {m["video_id"]: Path(m["uri"]).name for m in rows(second, "media", "video_id", "uri", lake=lake)}
    assert uris.pop(old["video_id"]) == "b.mp4"
    assert list(uris.values()) == ["a.mp4"]


def test_a_changed_caption_refreshes_the_facts_and_keeps_video_split_and_clip(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    video(tmp_path / "v" / "a.mp4")
    (tmp_path / "v" / "a.txt").write_text("a red wall\n")
    first = run(tmp_path / "v")
    clip = rows(first, "clips", "clip_id", "video_id", "split", lake=lake)

    (tmp_path / "v" / "a.txt").write_text("a wall, painted red\n")
    second = run(tmp_path / "v")

    assert [m["captions"] for m in rows(first, "media", "captions", lake=lake)] == [["a red wall"]]
    assert [m["captions"] for m in rows(second, "media", "captions", lake=lake)] == [["a wall, painted red"]]
    assert rows(second, "clips", "clip_id", "video_id", "split", lake=lake) == clip


def test_a_moved_label_folder_relabels_the_clip(run: Run, video: Make, tmp_path: Path, lake: Path) -> None:
    video(tmp_path / "v" / "a.mp4")
    table = tmp_path / "v" / "metadata.csv"
    table.write_text("file_name,label\na.mp4,cat\n")
    run(tmp_path / "v")

    table.write_text("file_name,label\na.mp4,dog\n")
    report = run(tmp_path / "v")

    assert [c["label"] for c in rows(report, "clips", "label", lake=lake)] == ["dog"]


def test_a_bad_file_is_a_row_with_its_reason_until_it_is_repaired(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    video(tmp_path / "v" / "good.mp4", "green")
    (tmp_path / "v" / "bad.mp4").write_bytes(b"")
    first = run(tmp_path / "v")
    rejected = [m for m in rows(first, "media", "state", "reason", "uri", lake=lake) if m["state"] == "rejected"]
    assert [(m["reason"], Path(m["uri"]).name) for m in rejected] == [("empty", "bad.mp4")]
    assert [(r["name"], r["reason"]) for r in first.summary.rejects] == [("bad.mp4", "empty")]

    video(tmp_path / "v" / "bad.mp4", "red")
    second = run(tmp_path / "v")

    assert [m["state"] for m in rows(second, "media", "state", lake=lake)] == ["ready", "ready"]
    assert second.version.counts["rejected"] == 0


def test_subtitles_become_a_layer_in_the_videos_own_time_base(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    video(tmp_path / "v" / "a.mp4")
    (tmp_path / "v" / "a.srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,500\nhello\n\n2\n00:00:00,500 --> 00:00:00,900\nworld\n"
    )

    report = run(tmp_path / "v")

    (media,) = rows(report, "media", "time_base_num", "time_base_den", lake=lake)
    assert (media["time_base_num"], media["time_base_den"]) == (1, 10240)
    layer = rows(report, "layers/captions", "start_pts", "end_pts", "value", "author", lake=lake)
    assert sorted((r["start_pts"], r["end_pts"], r["value"], r["author"]) for r in layer) == [
        (1024, 5120, "hello", "ingest"),
        (5120, 9216, "world", "ingest"),
    ]


def test_a_json_bomb_beside_a_video_costs_the_sidecar_and_not_the_video(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    video(tmp_path / "v" / "a.mp4")
    (tmp_path / "v" / "a.json").write_text("[" * 100_000)

    report = run(tmp_path / "v")

    assert [m["state"] for m in rows(report, "media", "state", lake=lake)] == ["ready"]
    (reject,) = rows(report, "layers/sidecar_rejects", "value", lake=lake)
    told = json.loads(reject["value"])
    assert (told["reason"], Path(told["uri"]).name) == ("bad_sidecar", "a.json")


def test_a_transport_stream_is_remuxed_into_the_lake_and_keeps_its_identity(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    video(tmp_path / "v" / "a.ts", "red", "-bf", 2)

    report = run(tmp_path / "v")

    (media,) = rows(report, "media", "video_id", "num_frames", "remuxed_uri", "content_hash", lake=lake)
    assert (media["num_frames"], media["remuxed_uri"]) == (10, f"media/{media['video_id']}.mp4")
    assert (lake / media["remuxed_uri"]).is_file()
    assert media["content_hash"].startswith(f"blake3:{media['video_id']}")
    assert Lake.open(str(lake)).verify(report.version, media="hash").ok


def test_a_file_that_changes_after_its_ingest_is_found_by_verify(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    path = video(tmp_path / "v" / "a.mp4")
    report = run(tmp_path / "v")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    times = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # not even size and time tell

    opened = Lake.open(str(lake))

    assert opened.verify(report.version, media="stat").ok
    assert [p.reason for p in opened.verify(report.version, media="hash").problems] == ["changed"]


def test_what_a_killed_run_finished_is_taken_up_and_the_version_is_as_if_nothing_had_happened(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    for number, colour in enumerate(["red", "green", "blue", "white", "black"]):
        video(tmp_path / "v" / f"{number}.mp4", colour)
    clean = run(tmp_path / "v", lake=str(tmp_path / "clean"))

    class Killed(BaseException):
        pass

    def kill_at_the_commit(progress: Any) -> None:
        if progress.stage == "committing":
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "v", on_progress=kill_at_the_commit)
    resumed = run(tmp_path / "v")

    assert (resumed.resumed, resumed.summary.bytes_read > 0) == (5, True)
    assert resumed.version.fingerprint == clean.version.fingerprint
    assert resumed.added == 5


@pytest.mark.ray
def test_both_engines_make_the_same_version(run: Run, video: Make, tmp_path: Path) -> None:
    for number, colour in enumerate(["red", "green", "blue", "white", "black"]):
        video(tmp_path / "v" / f"{number}.mp4", colour)
    (tmp_path / "v" / "empty.mp4").write_bytes(b"")
    local = run(tmp_path / "v", lake=str(tmp_path / "local"))

    on_ray = run(tmp_path / "v", engine="ray")

    assert on_ray.version.fingerprint == local.version.fingerprint
    assert (on_ray.added, on_ray.summary.rejected) == (5, 1)
    assert not list((tmp_path / "lake" / "staging").rglob("*.*"))
