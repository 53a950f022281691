"""How the kind of a source is guessed, and what is said where it cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cineray.errors import SourceError, UsageError
from cineray.source import SOURCES, open_source


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("s3://b/clips/shard-{000..012}.tar", "webdataset"),
        ("s3://b/clips/*.tar", "webdataset"),
        ("https://h/shard.tar?X-Amz-Signature=0", "webdataset"),
        ("clips.TAR", "webdataset"),
        ("clips.tar.gz", "webdataset"),
        ("hf://datasets/o/n/m.parquet", "manifest"),
        ("m.csv", "manifest"),
        ("gs://b/m.jsonl", "manifest"),
        ("s3://b/table.lance", "lance"),
        ("table.lance/", "lance"),
    ],
)
def test_a_spelling_that_says_its_kind_needs_no_look(uri: str, kind: str) -> None:
    assert open_source(uri).kind == kind


def test_a_folder_of_nothing_but_shards_is_webdataset_and_any_other_a_folder(tmp_path: Path) -> None:
    shards, mixed, empty = tmp_path / "shards", tmp_path / "mixed", tmp_path / "empty"
    for folder in (shards / "sub", mixed, empty):
        folder.mkdir(parents=True)
    for path in (shards / "sub" / "0.tar", shards / "0.tar", shards / "0.idx", shards / ".DS_Store"):
        path.touch()
    for path in (mixed / "0.tar", mixed / "1.mp4"):
        path.touch()
    assert [open_source(folder).kind for folder in (shards, mixed, empty)] == ["webdataset", "folder", "folder"]


def test_what_cannot_be_guessed_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "one.mp4").touch()
    (tmp_path / "what.zip").touch()
    for uri, words in [
        (tmp_path / "nowhere", "nothing lies at .*nowhere; look at the path"),
        (tmp_path / "one.mp4", "is one file, and a source is a folder.*name its folder"),
        (tmp_path / "what.zip", "is one file"),
        ("https://h/page", "is one file"),
        ("s3://b/clip.mp4", "is one file"),
        (tmp_path / "*.mp4", "patterns name WebDataset shards"),
    ]:
        with pytest.raises(SourceError, match=words):
            open_source(uri)


def test_an_unknown_kind_or_option_is_a_usage_error_that_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="source kind 'zip'; wanted auto, folder, webdataset, lance, manifest"):
        open_source(tmp_path, kind="zip")
    with pytest.raises(UsageError, match="a source of kind folder does not take column"):
        open_source(tmp_path, column="video")


def test_every_kind_of_the_registry_calls_itself_so() -> None:
    assert {kind: source.kind for kind, source in SOURCES.items()} == {kind: kind for kind in SOURCES}


def test_importing_and_listing_a_folder_loads_no_heavy_library(tmp_path: Path) -> None:
    code = (
        "import sys; from cineray.source import open_source; list(open_source(sys.argv[1]).list_videos());"
        "print([m for m in ('torch', 'ray', 'lance', 'pyarrow', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
