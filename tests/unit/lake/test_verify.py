"""Verify finds every difference between a version and what lies there, and says which."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import blake3
import pytest

from cineray.errors import UsageError
from cineray.lake import Lake, Problem, Version, batches_of, media_row, place_row, reject_row
from cineray.records import Place, Reject, VideoFile
from cineray.storage import place_stat


@pytest.fixture
def stored(lake: Lake, commit: Any, video: Any, tmp_path: Path) -> Version:
    """Two files, one plain and one that holds a video from byte 100 on, as a shard does; and a reject of a third."""
    media, places = [], []
    for name, offset in (("plain", 0), ("member", 100)):
        data = bytes(offset) + name.encode() * 1000
        (tmp_path / name).write_bytes(data + bytes(offset))
        digits = blake3.blake3(data[offset:]).hexdigest()
        whole = dataclasses.replace(
            video, video_id=digits[:32], content_hash=f"blake3:{digits}", size_bytes=len(data) - offset
        )
        length = len(data) - offset if offset else None
        place = Place(uri=str(tmp_path / name), offset=offset, length=length)
        size_bytes, tag = place_stat(place)
        file = VideoFile(name=name, place=place, size_bytes=size_bytes, version_tag=tag)
        media.append(media_row(whole))
        places.append(place_row(file, video_id=whole.video_id, source=str(tmp_path)))
    bad = reject_row(Reject(name="gone", stage="index", reason="missing", detail="not there"), source="s")
    gone = VideoFile(name="gone", place=Place(uri=str(tmp_path / "gone")))
    places.append(place_row(gone, video_id=bad["video_id"], source="s"))
    add = {"media": batches_of("media", [*media, bad]), "places": batches_of("places", places)}
    return commit(lake, add=add)


def rewrite(path: Path, data: bytes) -> None:
    """Other bytes of the same size at the same second: what a time stamp does not show."""
    found = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("level", ["none", "stat", "hash"])
def test_a_version_that_is_whole_is_ok(lake: Lake, stored: Version, level: str) -> None:
    report = lake.verify(stored, media=level)
    assert (report.ok, report.problems, report.notes) == (True, (), ())
    assert report.checked == {"tables": 2, "rows": 6, "places": 0 if level == "none" else 2}


def test_an_unknown_level_is_refused(lake: Lake, stored: Version) -> None:
    with pytest.raises(UsageError, match="wanted one of none, stat, hash"):
        lake.verify(stored, media="all")


def test_missing_and_grown_files_are_found_by_stat(lake: Lake, stored: Version, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"longer than before" * 1000)
    (tmp_path / "member").unlink()
    found = {Path(p.what.split("[")[0]).name: p.reason for p in lake.verify(stored, media="stat").problems}
    assert found == {"plain": "changed", "member": "missing"}


def test_a_touched_file_differs_by_stat_and_not_by_hash(lake: Lake, stored: Version, tmp_path: Path) -> None:
    os.utime(tmp_path / "plain", (1, 1))
    assert [problem.reason for problem in lake.verify(stored, media="stat").problems] == ["changed"]
    assert lake.verify(stored, media="hash").ok


def test_other_bytes_under_the_same_size_and_time_are_found_by_hash(
    lake: Lake, stored: Version, tmp_path: Path
) -> None:
    rewrite(tmp_path / "member", bytes(100) + b"Member" + b"member" * 999 + bytes(100))
    assert lake.verify(stored, media="stat").ok
    (problem,) = lake.verify(stored, media="hash").problems
    assert (problem.what, problem.reason) == (f"{tmp_path}/member[100:6100]", "changed")


def test_a_remuxed_video_is_looked_at_too(lake: Lake, commit: Any, video: Any, tmp_path: Path) -> None:
    data = b"remuxed" * 100
    digits = blake3.blake3(data).hexdigest()
    (tmp_path / "lake/media").mkdir()
    (tmp_path / "lake/media/x.mp4").write_bytes(data)
    remuxed = dataclasses.replace(video, content_hash=f"blake3:{digits}", size_bytes=len(data))
    commit(lake, add={"media": batches_of("media", [media_row(video, remuxed=remuxed, remuxed_uri="media/x.mp4")])})
    assert lake.verify(media="hash").checked["places"] == 1
    assert lake.verify(media="hash").ok
    rewrite(tmp_path / "lake/media/x.mp4", b"Remuxed" + data[7:])
    assert [p.reason for p in lake.verify(media="hash").problems] == ["changed"]


def test_a_video_known_by_its_header_is_said_not_to_be_hashed(
    lake: Lake, commit: Any, video: Any, tmp_path: Path
) -> None:
    (tmp_path / "far").write_bytes(b"far" * 360)
    header = dataclasses.replace(video, content_hash="blake3-header:" + "0" * 64, video_id="0" * 32)
    file = VideoFile(name="far", place=Place(uri=str(tmp_path / "far")), size_bytes=1080)
    rows = batches_of("places", [place_row(file, video_id=header.video_id, source="s")])
    commit(lake, add={"media": batches_of("media", [media_row(header)]), "places": rows})
    report = lake.verify(media="hash")
    assert (report.ok, report.checked["places"]) == (True, 1)
    assert report.notes == ("1 videos are known by the hash of size and header only; sizes and tags were checked",)


def test_rows_changed_behind_the_manifest_s_back_are_found(lake: Lake, stored: Version, tmp_path: Path) -> None:
    manifest = tmp_path / "lake/versions/00000001.json"
    told = json.loads(manifest.read_text())
    told["tables"]["media"]["fingerprint"] = "0" * 64
    told["tables"]["places"]["rows"] = 2
    manifest.write_text(json.dumps(told))
    problems = lake.verify(1, media="stat").problems
    assert [(p.what, p.reason) for p in problems] == [
        ("version 1", "fingerprint"),
        ("media", "fingerprint"),
        ("places", "rows"),
    ]
    assert isinstance(problems[0], Problem)


def test_a_damaged_or_missing_table_file_is_a_problem_and_no_crash(lake: Lake, stored: Version, tmp_path: Path) -> None:
    (data,) = (tmp_path / "lake/tables/media.lance/data").iterdir()
    whole = data.read_bytes()
    damaged = {"cut": whole[:50], "flipped": whole[:200] + bytes(b ^ 255 for b in whole[200:1000]) + whole[1000:]}
    for name, content in damaged.items():
        data.write_bytes(content)
        report = lake.verify(stored, media="stat")
        assert [p.what for p in report.problems] == ["media"], name
        assert report.notes == ("places were not looked at, because the tables that name them are not whole",)
    data.unlink()
    assert [(p.what, p.reason) for p in lake.verify(stored).problems] == [("media", "unreadable")]


def test_a_table_version_that_is_gone_is_named(lake: Lake, stored: Version, tmp_path: Path) -> None:
    for manifest in (tmp_path / "lake/tables/places.lance/_versions").iterdir():
        manifest.unlink()
    (problem,) = lake.verify(stored).problems
    assert (problem.what, problem.reason) == ("places", "unreadable")
    assert "has no readable table version 1" in problem.detail
