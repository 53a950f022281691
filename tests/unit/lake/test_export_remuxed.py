"""Remuxed videos are data of the lake: they leave with an export, and a lake made of it has them."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import blake3
import pyarrow.parquet as pq
import pytest

from cineray.errors import LakeError
from cineray.lake import Lake, Version, batches_of, media_row

BYTES = b"lossless" * 1000


@pytest.fixture
def remuxed(lake: Lake, commit: Any, video: Any, other: Any) -> Version:
    """One video as it is and one with a remux in the lake's media/, as ingest writes it; and a remux of no version."""
    folder = Path(lake.uri) / "media"
    folder.mkdir()
    (folder / f"{video.video_id}.mp4").write_bytes(BYTES)
    (folder / "orphan.mp4").write_bytes(b"of an ingest that was killed")
    hashed = f"blake3:{blake3.blake3(BYTES).hexdigest()}"
    made = dataclasses.replace(video, content_hash=hashed, size_bytes=len(BYTES))
    row = media_row(video, remuxed=made, remuxed_uri=f"media/{video.video_id}.mp4", remux_reason="TS with B-frames")
    return commit(lake, add={"media": batches_of("media", [row, media_row(other("ee"))])})


@pytest.fixture
def out(lake: Lake, remuxed: Version, tmp_path: Path) -> Path:
    """The export of it."""
    lake.export(remuxed, str(tmp_path / "out"))
    return tmp_path / "out"


def edit_manifest(out: Path, change: Any) -> None:
    told = json.loads((out / "manifest.json").read_text())
    change(told["export"])
    (out / "manifest.json").write_text(json.dumps(told))


def test_a_remux_goes_out_and_comes_back_whole(lake: Lake, remuxed: Version, tmp_path: Path, video: Any) -> None:
    name = f"{video.video_id}.mp4"
    written = lake.export(remuxed, str(tmp_path / "out"))
    assert [uri.removeprefix(f"{tmp_path}/out/") for uri in written] == [
        "media/part-00000.parquet",
        f"remuxed/{name}",
        "manifest.json",
    ]
    assert json.loads((tmp_path / "out/manifest.json").read_text())["export"]["remuxed"] == [
        {"path": f"remuxed/{name}", "size_bytes": len(BYTES), "blake3": blake3.blake3(BYTES).hexdigest()}
    ]
    assert pq.read_table(tmp_path / "out/media").num_rows == 2  # a table's folder holds nothing but its Parquet files
    back = Lake.create(str(tmp_path / "back"))
    made = back.import_(str(tmp_path / "out"), author="me")
    report = back.verify(media="hash")
    assert (made.fingerprint, report.ok, report.checked["places"]) == (remuxed.fingerprint, True, 1)
    assert {path.name: path.read_bytes() for path in (tmp_path / "back/media").iterdir()} == {name: BYTES}


def test_importing_again_restores_a_remux_that_was_lost_and_leaves_one_that_is_there(
    out: Path, tmp_path: Path, video: Any
) -> None:
    back = Lake.create(str(tmp_path / "back"))
    made = back.import_(str(out), author="me")
    file = tmp_path / f"back/media/{video.video_id}.mp4"
    os.utime(file, (1, 1))
    assert back.import_(str(out), author="me") == made
    assert file.stat().st_mtime == 1
    file.unlink()
    assert back.import_(str(out), author="me") == made
    assert file.read_bytes() == BYTES


def test_a_remux_that_was_changed_in_the_export_is_refused(out: Path, tmp_path: Path, video: Any) -> None:
    (out / f"remuxed/{video.video_id}.mp4").write_bytes(BYTES[::-1])
    back = Lake.create(str(tmp_path / "back"))
    with pytest.raises(LakeError, match="was changed since it was exported"):
        back.import_(str(out), author="me")
    assert (back.head(), (tmp_path / "back/media").exists()) == (None, False)


def test_another_remux_of_the_same_name_is_not_written_over(out: Path, tmp_path: Path, video: Any) -> None:
    back = Lake.create(str(tmp_path / "back"))
    (tmp_path / "back/media").mkdir()
    (tmp_path / f"back/media/{video.video_id}.mp4").write_bytes(b"mine")
    with pytest.raises(LakeError, match=r"media/.*\.mp4 holds other bytes than the export's"):
        back.import_(str(out), author="me")
    assert (tmp_path / f"back/media/{video.video_id}.mp4").read_bytes() == b"mine"


def test_a_lake_with_other_data_gets_neither_rows_nor_remuxes(
    out: Path, tmp_path: Path, commit: Any, clips: Any
) -> None:
    back = Lake.create(str(tmp_path / "back"))
    commit(back, add={"clips": clips("other")})
    with pytest.raises(LakeError, match="with other data"):
        back.import_(str(out), author="me")
    assert not (tmp_path / "back/media").exists()


def test_an_export_from_before_remuxes_were_in_it_is_refused_unless_the_lake_has_them(
    lake: Lake, out: Path, tmp_path: Path
) -> None:
    edit_manifest(out, lambda export: export.pop("remuxed"))
    back = Lake.create(str(tmp_path / "back"))
    with pytest.raises(LakeError, match=r"lacks 1 remuxed video that its rows name \(media/.*\.mp4\).*export .* again"):
        back.import_(str(out), author="me")
    assert back.head() is None
    os.rename(Path(lake.uri) / "media", tmp_path / "back/media")
    back.import_(str(out), author="me")
    assert back.verify(media="hash").ok


@pytest.mark.parametrize("path", ["remuxed/../../x.mp4", "remuxed/..", "/etc/passwd", "versions/1.json", "remuxed/a/b"])
def test_a_remux_that_would_lie_elsewhere_is_refused(out: Path, tmp_path: Path, path: str) -> None:
    edit_manifest(out, lambda export: export["remuxed"][0].update(path=path))
    back = Lake.create(str(tmp_path / "back"))
    with pytest.raises(LakeError, match="is no remuxed video of an export"):
        back.import_(str(out), author="me")
    assert back.head() is None


@pytest.mark.parametrize("data", [None, b"x" * len(BYTES)])
def test_a_remux_that_is_lost_or_damaged_is_not_exported(
    lake: Lake, remuxed: Version, tmp_path: Path, video: Any, data: bytes | None
) -> None:
    file = Path(lake.uri) / f"media/{video.video_id}.mp4"
    file.write_bytes(data) if data else file.unlink()
    with pytest.raises(LakeError, match="cineray lake verify"):
        lake.export(remuxed, str(tmp_path / "out"))
    assert not (tmp_path / "out/manifest.json").exists()
