"""The way out of Lance, and back: Parquet that anybody reads, and the same fingerprint on return."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cineray.errors import LakeError, UsageError
from cineray.lake import Lake, SplitRule, Version, batches_of, export, layer_row, media_row, video_from_row


@pytest.fixture
def full(lake: Lake, commit: Any, clips: Any, video: Any, other: Any) -> Version:
    """Two videos, a thousand clips, two captions, one layer that was emptied again, and a split rule."""
    add: dict[str, Any] = {
        "media": batches_of("media", [media_row(video, captions=["é"]), media_row(other("ee"))]),
        "clips": clips(*(f"v{n}" for n in range(1000))),
        "layers/captions": batches_of("layers/captions", [layer_row(video_id=c, value=c, author="a") for c in "ab"]),
        "layers/depth": batches_of("layers/depth", [layer_row(video_id="v", value="x", author="a")]),
    }
    commit(lake, add=add, rule=SplitRule(salt="mine"))
    return commit(lake, remove={"layers/depth": "true"})


def test_an_export_comes_back_as_the_same_data(lake: Lake, full: Version, tmp_path: Path, video: Any) -> None:
    written = lake.export(full, str(tmp_path / "out"))
    assert [uri.removeprefix(f"{tmp_path}/out/") for uri in written] == [
        "clips/part-00000.parquet",
        "layers/captions/part-00000.parquet",
        "media/part-00000.parquet",
        "manifest.json",
    ]
    back = Lake.create(str(tmp_path / "back"))
    made = back.import_(str(tmp_path / "out"), author="me")
    assert (made.number, made.fingerprint, made.split_rule) == (1, full.fingerprint, full.split_rule)
    assert back.verify().ok
    assert back.import_(str(tmp_path / "out"), author="me") == made  # nothing new: no new version
    row = back.read("latest", "media", filter=f"video_id = '{video.video_id}'").to_pylist()[0]
    assert video_from_row(row) == video


def test_an_export_is_read_by_pyarrow_alone(lake: Lake, full: Version, tmp_path: Path) -> None:
    lake.export(full, str(tmp_path / "out"))
    code = (
        "import sys, pyarrow.parquet as pq;"
        f"print(pq.read_table({str(tmp_path / 'out/clips')!r}).num_rows,"
        f" sorted(pq.read_table({str(tmp_path / 'out/layers/captions')!r})['value'].to_pylist()),"
        " [m for m in ('lance', 'cineray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1000 ['a', 'b'] []\n"


def test_its_manifest_tells_the_version_and_every_file(lake: Lake, full: Version, tmp_path: Path) -> None:
    lake.export(full, str(tmp_path / "out"))
    told = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (told["number"], told["fingerprint"], told["export"]["lake"]) == (2, full.fingerprint, lake.id)
    (part,) = told["export"]["files"]["clips"]
    assert (part["path"], part["rows"]) == ("clips/part-00000.parquet", 1000)
    assert part["size_bytes"] == (tmp_path / "out/clips/part-00000.parquet").stat().st_size


def test_large_tables_are_cut_into_parts(
    lake: Lake, full: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PART_BYTES", 20_000)
    monkeypatch.setattr("cineray.lake.tables._SCAN_ROWS", 100)
    lake.export(full, str(tmp_path / "out"))
    parts = sorted((tmp_path / "out/clips").iterdir())
    assert len(parts) > 3
    assert sum(pq.read_metadata(part).num_rows for part in parts) == 1000
    back = Lake.create(str(tmp_path / "back"))
    assert back.import_(str(tmp_path / "out"), author="me").fingerprint == full.fingerprint


def test_an_export_is_never_written_over(lake: Lake, full: Version, tmp_path: Path) -> None:
    lake.export(1, str(tmp_path / "out"))
    with pytest.raises(LakeError, match="there is already an export at"):
        lake.export(full, str(tmp_path / "out"))


def test_an_export_that_was_changed_is_refused_and_makes_no_version(lake: Lake, full: Version, tmp_path: Path) -> None:
    lake.export(full, str(tmp_path / "out"))
    part = tmp_path / "out/clips/part-00000.parquet"
    table = pq.read_table(part).slice(1)
    pq.write_table(table, part)
    back = Lake.create(str(tmp_path / "back"))
    with pytest.raises(LakeError, match=r"clips/part-00000\.parquet was changed since it was exported"):
        back.import_(str(tmp_path / "out"), author="me")
    assert back.head() is None


@pytest.mark.parametrize("out", ["lake", "lake/out", "lake/tables/../x", ".", "link", "link/out", "file://lake"])
def test_an_export_into_around_or_over_the_lake_is_refused(lake: Lake, full: Version, tmp_path: Path, out: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "lake")
    before = sorted(tmp_path.rglob("*"))
    spelled = f"file://{tmp_path}/lake" if out.startswith("file:") else f"{tmp_path}/{out}"
    with pytest.raises(UsageError, match="an export lies beside a lake, not in it or around it"):
        lake.export(full, spelled)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_export_beside_a_lake_of_a_similar_name_is_fine(lake: Lake, full: Version, tmp_path: Path) -> None:
    assert lake.export(full, f"{tmp_path}/lake-out")[-1] == f"{tmp_path}/lake-out/manifest.json"


def test_a_bucket_and_a_lake_in_it_are_told_apart_by_their_names() -> None:
    for out in ("s3://b", "s3://b/lake", "s3a://b/lake/", "s3://b/lake/x"):
        with pytest.raises(UsageError, match="not in it or around it"):
            export.check_apart("s3://b/lake", out)
    for out in ("s3://b/lake-2", "s3://c/lake", "/b/lake", "gs://b/lake"):
        export.check_apart("s3://b/lake", out)


def test_a_part_outside_the_export_is_not_read(lake: Lake, full: Version, tmp_path: Path) -> None:
    lake.export(full, str(tmp_path / "out"))
    manifest = tmp_path / "out/manifest.json"
    manifest.write_text(manifest.read_text().replace("clips/part", "../clips/part"))
    with pytest.raises(LakeError, match="which is not inside it"):
        Lake.create(str(tmp_path / "back")).import_(str(tmp_path / "out"), author="me")


def test_no_export_there_says_so(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=r"there is no export at .*: it has no manifest\.json"):
        lake.import_(str(tmp_path / "nothing"), author="me")
    (tmp_path / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(LakeError, match="is not the manifest of an export"):
        lake.import_(str(tmp_path), author="me")


def test_a_lake_with_other_data_is_replaced_only_on_purpose(
    lake: Lake, full: Version, tmp_path: Path, commit: Any, clips: Any
) -> None:
    lake.export(full, str(tmp_path / "out"))
    back = Lake.create(str(tmp_path / "back"))
    other = commit(back, add={"clips": clips("other")})
    with pytest.raises(LakeError, match="the lake holds version 1 with other data; import into a new lake"):
        back.import_(str(tmp_path / "out"), author="me")
    made = back.import_(str(tmp_path / "out"), author="me", replace=True)
    assert (made.number, made.fingerprint) == (2, full.fingerprint)
    assert back.read(other, "clips").num_rows == 1
