"""Versions are found by what people call them, and let go only on purpose."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cineray.errors import LakeError, UsageError
from cineray.lake import Lake, names


@pytest.fixture
def three(lake: Lake, commit: Any, clips: Any) -> Lake:
    """A lake with versions 1 to 3, of clips a; a, b; a, b, c."""
    for video in "abc":
        commit(lake, add={"clips": clips(video)})
    return lake


def test_importing_the_lake_imports_neither_lance_nor_arrow() -> None:
    heavy = "[name for name in ('lance', 'pyarrow', 'torch', 'ray') if name in sys.modules]"
    code = f"import sys, cineray.lake, cineray.lake.manifest; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_can_be_had() -> None:
    import cineray.lake

    assert all(getattr(cineray.lake, name) is not None for name in cineray.lake.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Lakes'"):
        _ = cineray.lake.Lakes


def test_a_lake_is_made_once_and_opened_often(tmp_path: Path) -> None:
    made = Lake.create(str(tmp_path / "l"))
    assert (Lake.open(str(tmp_path / "l")).id, Lake.open_or_create(f"{tmp_path}/l/").id) == (made.id, made.id)
    assert Lake.open_or_create(str(tmp_path / "new")).head() is None
    with pytest.raises(LakeError, match="there is already a lake at"):
        Lake.create(str(tmp_path / "l"))


def test_no_lake_there_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(
        LakeError, match=f"no lake at {tmp_path}/x; `cineray ingest SOURCE --lake {tmp_path}/x` makes one"
    ):
        Lake.open(str(tmp_path / "x"))


def test_a_lake_of_a_newer_format_is_not_touched(lake: Lake, tmp_path: Path) -> None:
    marker = tmp_path / "lake" / "lake.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "format": 2}))
    for opened in (Lake.open, Lake.open_or_create):
        with pytest.raises(LakeError, match=r"is of format 2; this cineray reads format 1\. Install a newer cineray"):
            opened(lake.uri)


@pytest.mark.parametrize("ref", [2, "2", "v2", " 2 ", "second"])
def test_a_version_goes_by_number_and_name(three: Lake, ref: Any) -> None:
    three.set_name("second", 2)
    assert three.resolve(ref).number == 2


def test_a_version_goes_by_latest_and_by_fingerprint(three: Lake) -> None:
    assert three.resolve("latest") == three.head()
    first = three.resolve(1)
    assert three.resolve(first.fingerprint) == three.resolve(first.fingerprint[:8]) == first


def test_of_versions_with_the_same_data_a_fingerprint_means_the_newest(three: Lake, commit: Any, clips: Any) -> None:
    again = commit(three, remove={"clips": "video_id = 'c'"})
    assert again.fingerprint == three.resolve(2).fingerprint
    assert three.resolve(again.fingerprint[:12]) == again


@pytest.mark.parametrize("ref", [0, 4, "v9", "no-such-name", "abcdef01", "", "../1", "first\n2"])
def test_an_unknown_version_says_which_there_are(three: Lake, ref: Any) -> None:
    three.set_name("second", 2)
    with pytest.raises(LakeError, match="it has 1 to 3 and the names second"):
        three.resolve(ref)


def test_a_lake_without_versions_says_what_makes_one(lake: Lake) -> None:
    with pytest.raises(LakeError, match="has no version yet; `cineray ingest"):
        lake.resolve("latest")


def test_a_name_moves_only_on_purpose_and_keeps_its_history(three: Lake, tmp_path: Path) -> None:
    three.set_name("best", 1)
    three.set_name("best", 1)
    with pytest.raises(LakeError, match="'best' already names version 1; to point it at 2, move it on purpose"):
        three.set_name("best", 2)
    three.set_name("best", 2, move=True)
    assert three.names() == {"best": 2}
    assert [json.loads(f.read_text())["version"] for f in sorted((tmp_path / "lake/names/best").iterdir())] == [1, 2]
    three.remove_name("best")
    assert three.names() == {}
    three.set_name("best", 3)
    assert three.names() == {"best": 3}


def test_two_who_set_a_name_at_once_do_not_overwrite_each_other(three: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    real = names.put_if_absent

    def beaten(uri: str, data: bytes) -> bool:
        monkeypatch.setattr(names, "put_if_absent", real)
        names.write_pointer(three.uri, "best", 1, move=False)
        return real(uri, data)

    monkeypatch.setattr(names, "put_if_absent", beaten)
    with pytest.raises(LakeError, match="'best' already names version 1"):
        three.set_name("best", 2)
    assert three.names() == {"best": 1}


@pytest.mark.parametrize(
    "name", ["latest", "HEAD", "7", "v7", "V12", "deadbeef", "", "-a", "a/b", "a b", "é", "x" * 101, "a\n"]
)
def test_a_name_that_could_mean_something_else_is_refused(three: Lake, name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        three.set_name(name, 1)
    assert three.names() == {}


def test_a_name_of_no_version_is_refused(three: Lake) -> None:
    with pytest.raises(LakeError, match="has no version 9"):
        three.set_name("best", 9)


def test_the_log_tells_who_when_how_and_how_much(three: Lake) -> None:
    three.set_name("best", 2)
    three.retire(1)
    told = list(three.log())
    columns = ("version", "parent", "author", "command", "rows_added", "tags", "retired")
    assert [tuple(row[name] for name in columns) for row in told] == [
        (3, 2, "tester", "test", {"clips": 1}, [], False),
        (2, 1, "tester", "test", {"clips": 1}, ["best"], False),
        (1, None, "tester", "test", {"clips": 1}, [], True),
    ]
    assert told[0]["created_at"] > told[1]["created_at"] > told[2]["created_at"]


def test_a_retired_version_is_named_as_such_and_neither_head_nor_named_ones_retire(three: Lake) -> None:
    three.set_name("best", 2)
    with pytest.raises(LakeError, match="version 2 is named best; remove or move the name"):
        three.retire(2)
    with pytest.raises(LakeError, match="version 3 is the newest"):
        three.retire("latest")
    three.retire(1)
    assert three.retired() == {1}
    with pytest.raises(LakeError, match=r"version 1 of .* was retired"):
        three.read(1, "clips")


def test_what_a_killed_writer_left_beside_manifests_is_no_version(three: Lake, tmp_path: Path) -> None:
    for name in (".cineray-unfinished-1", "00000004.json.tmp", "notes.txt", "4.json"):
        (tmp_path / "lake/versions" / name).write_text("{}")
    assert [version.number for version in three.versions()] == [3, 2, 1]


def test_show_holds_what_scripts_depend_on(lake: Lake, commit: Any, clips: Any, video: Any, other: Any) -> None:
    from cineray.lake import batches_of, layer_row, media_row, reject_row
    from cineray.records import Reject

    reject = reject_row(Reject(name="b", stage="index", reason="truncated", detail="cut"), source="s")
    media = batches_of("media", [media_row(video), media_row(other("ee")), reject])
    caption = batches_of("layers/captions", [layer_row(video_id=video.video_id, value="a cat", author="a")])
    two = [*clips("a"), *clips("b", split="test")]
    made = commit(lake, add={"media": media, "clips": two, "layers/captions": caption})
    lake.set_name("best", 1)
    told = lake.show()
    assert {
        name: told[name] for name in ("version", "parent", "tags", "videos", "splits", "layers", "fingerprint")
    } == {
        "version": 1,
        "parent": None,
        "tags": ["best"],
        "videos": 2,
        "splits": {"test": 1, "train": 1},
        "layers": {"captions": 1},
        "fingerprint": made.fingerprint,
    }
    assert {name: told[name] for name in ("hours", "frames", "codecs", "rejected", "bytes")} == {
        "hours": round(2 * 2048 / 15360 / 3600, 6),
        "frames": 8,
        "codecs": {"h264": 2},
        "rejected": {"truncated": 1},
        "bytes": 2160,
    }
    assert json.loads(json.dumps(told)) == told
