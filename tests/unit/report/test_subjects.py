"""What lies at a path is told by the files in it; what is nothing that a report can be of is refused with what was
wanted."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from cineray.errors import CinerayError, UsageError
from cineray.report import subject_of, write_report
from cineray.report.write import file_name


@pytest.mark.parametrize("kind", ["run", "evaluation", "comparison", "pipeline", "batch", "sweep"])
def test_a_folder_is_what_its_files_say(kind: str, subjects: ModuleType, tmp_path: Path) -> None:
    folder = getattr(subjects, f"make_{kind}")(tmp_path / "any name")
    found = subject_of(str(folder))

    assert (found.kind, found.uri) == (kind, str(folder))


@pytest.mark.parametrize("kind", ["evaluation", "comparison", "pipeline", "sweep"])
def test_a_json_file_is_what_it_holds(kind: str, subjects: ModuleType, tmp_path: Path) -> None:
    folder = getattr(subjects, f"make_{kind}")(tmp_path / "made")
    other = (folder / f"{'sweep-result' if kind == 'sweep' else kind}.json").rename(folder / "renamed.json")

    found = subject_of(str(other))

    assert (found.kind, found.uri) == (kind, str(folder))


def test_a_folder_of_batches_is_no_batch(subjects: ModuleType, tmp_path: Path) -> None:
    subjects.make_batch(tmp_path / "batch-out/step-00000012")
    with pytest.raises(UsageError, match=r"or batch\.npz lies there"):
        subject_of(str(tmp_path / "batch-out"))


def test_a_sweep_of_which_no_trial_has_ended_says_how_to_go_on_with_it(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(UsageError, match=r"no sweep-result\.json yet: no trial of it has ended; `cineray sweep "):
        subject_of(str(tmp_path))


def test_what_is_nothing_of_that_is_refused_with_what_was_wanted(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text(json.dumps({"colour": "red"}))
    (tmp_path / "torn.json").write_text('{"metrics": [')

    with pytest.raises(UsageError, match="nothing lies there; wanted a lake, a run"):
        subject_of(str(tmp_path / "gone"))
    with pytest.raises(UsageError, match=r"none of lake\.json, run\.json.* lies there"):
        subject_of(str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="holds colour; wanted an evaluation"):
        subject_of(str(tmp_path / "other.json"))
    with pytest.raises(CinerayError, match=r"torn\.json is no JSON"):
        subject_of(str(tmp_path / "torn.json"))


@pytest.mark.parametrize(
    ("kind", "title", "name"),
    [
        ("lake", "shapes, version 7 (train-2026)", "lake-shapes-version-7-train-2026.html"),
        ("batch", "Batch of step 12", "batch-of-step-12.html"),
        ("run", "../../etc/<x>", "run-etc-x.html"),
        ("run", "日本", "run-report.html"),
    ],
)
def test_a_pages_file_is_named_for_what_it_is_of(kind: str, title: str, name: str) -> None:
    assert file_name(kind, title) == name


def test_only_a_lake_has_versions(subjects: ModuleType, tmp_path: Path) -> None:
    folder = subjects.make_comparison(tmp_path / "made")
    with pytest.raises(UsageError, match="is a comparison, which has no versions"):
        write_report(str(folder), str(tmp_path / "page.html"), version="3")


def test_a_page_lies_where_it_was_asked_for_and_says_its_size(subjects: ModuleType, tmp_path: Path) -> None:
    folder = subjects.make_evaluation(tmp_path / "made")
    made = write_report(str(folder), str(tmp_path / "deep/page.html"), clips=2)

    content = (tmp_path / "deep/page.html").read_bytes()
    assert (made.path, made.size_bytes, made.inlined) == (str(tmp_path / "deep/page.html"), len(content), 4)
    assert b"It holds 4 pictures and clips" in content
