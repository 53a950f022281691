"""A lake in an object store: the same promises, against a real S3 server process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cineray.errors import LakeError
from cineray.lake import Changes, Lake, Version, batches_of, clip_row, media_row

pytestmark = pytest.mark.network


def test_versions_names_gc_verify_and_export_on_s3(
    s3_bucket: str, commit: Any, clips: Any, video: Any, tmp_path: Path
) -> None:
    lake = Lake.create(f"{s3_bucket}/lake")
    with pytest.raises(LakeError, match="already a lake"):
        Lake.create(f"{s3_bucket}/lake")
    commit(lake, add={"clips": clips("a", "b"), "media": batches_of("media", [media_row(video)])})
    commit(lake, add={"clips": clips("c")}, remove={"clips": "video_id = 'a'"})
    lake.set_name("best", 2)
    lake.table("clips").write(clips("orphan"))
    lake.retire(1)
    assert [item.kind for item in lake.gc(dry_run=False, older_than_seconds=0).garbage].count("table_version") == 1
    assert lake.gc(older_than_seconds=0).garbage == ()
    assert Lake.open(f"{s3_bucket}/lake").read("best", "clips", columns=["video_id"]).num_rows == 2
    assert lake.verify().ok
    lake.export("best", f"{s3_bucket}/out")
    back = Lake.create(str(tmp_path / "back"))
    assert back.import_(f"{s3_bucket}/out", author="me").fingerprint == lake.resolve("best").fingerprint


@pytest.mark.parametrize("arrived", [False, True])
def test_a_commit_that_is_cut_off_lands_once(
    s3_server: Any, s3_bucket: str, faulty_proxy: Any, commit: Any, clips: Any, monkeypatch: Any, arrived: bool
) -> None:
    """A table's version, which is put under a condition: cut off twice, before or after it reached the store."""
    lake = Lake.create(f"{s3_bucket}/lake")
    commit(lake, add={"clips": clips("a")})
    proxy, met = faulty_proxy(s3_server.url), []

    def weather(method: str, path: str) -> str:
        if method != "PUT" or "clips.lance/_versions/" not in path or len(met) == 2:
            return ""
        met.append(path)
        proxy.lose_answers_to_puts += arrived
        return "" if arrived else "reset"

    proxy.weather = weather
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    lake = Lake.open(lake.uri)
    commit(lake, add={"clips": clips("b")})
    assert len(met) == (1 if arrived else 2), "what did land is found"
    assert [version.number for version in lake.versions()] == [2, 1]
    assert sorted(lake.read("latest", "clips")["video_id"].to_pylist()) == ["a", "b"]
    assert lake.verify().ok


def test_writers_at_once_on_s3_all_land(s3_bucket: str) -> None:
    lake = Lake.create(f"{s3_bucket}/lake")

    def write(writer: int) -> None:
        for number in range(3):
            row = clip_row(video_id=f"{writer}-{number}", start_pts=0, end_pts=1, split=None, group_id="g")

            def prepare(_head: Version | None, row: Any = row) -> Changes:
                return Changes(add={"clips": batches_of("clips", [row])})

            Lake.open(lake.uri).commit(prepare, author=str(writer), command="c", source="s", processing={})

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    assert [version.number for version in lake.versions()] == list(range(9, 0, -1))
    assert sorted(lake.read("latest", "clips")["video_id"].to_pylist()) == [f"{w}-{n}" for w in "012" for n in "012"]
    assert all(lake.verify(version).ok for version in lake.versions())
