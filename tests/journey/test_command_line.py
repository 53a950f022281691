"""A user's way through the commands, as programs see it (JSON on a pipe) and as people do (tables on a terminal)."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CINERAY = [sys.executable, "-m", "cineray"]


def cineray(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*CINERAY, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def json_of(*arguments: object, code: int = 0) -> Any:
    return json.loads(cineray(*arguments, code=code).stdout)


def lines_of(*arguments: object) -> list[Any]:
    return [json.loads(line) for line in cineray(*arguments).stdout.splitlines()]


def on_a_terminal(*arguments: object) -> str:
    """What a person sees: the command's output on a pseudo-terminal of 120 columns."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*CINERAY, *map(str, arguments)],
        stdout=slave,
        stderr=slave,
        stdin=slave,
        env={**os.environ, "COLUMNS": "120", "TERM": "dumb"},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    process.wait()
    os.close(master)
    return shown.decode()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "out"
    cineray("demo", "--out", folder, "--videos", 8, "--until", "ingest")
    return folder


def test_the_demo_makes_a_version_and_rejects_the_broken_files_with_their_reasons(tmp_path: Path) -> None:
    facts = json_of("demo", "--out", tmp_path / "out", "--videos", 8, "--until", "ingest")

    assert {r["name"]: r["reason"] for r in facts["ingest"]["rejected"]} == {
        "empty.mp4": "empty",
        "lfs_pointer.mp4": "lfs_pointer",
        "not_video.mp4": "not_video",
        "truncated.mp4": "truncated",
    }
    assert (facts["ingest"]["version"], facts["ingest"]["videos"], facts["version"]["rejected"]["empty"]) == (1, 8, 1)


def test_the_demos_lake_says_what_is_true_of_each_video_and_holds_combinations_out(tmp_path: Path) -> None:
    facts = json_of("demo", "--out", tmp_path / "out", "--videos", 40, "--until", "ingest")
    assert facts["version"]["layers"] == {"truth": 40}
    columns = ("--limit", 0, "--columns", "video_id,value")
    rows = lines_of("lake", "query", tmp_path / "out" / "lake", "--from", "layers/truth", *columns)
    told = {row["video_id"]: json.loads(row["value"]) for row in rows}
    clips = lines_of("lake", "query", tmp_path / "out" / "lake", "--from", "clips", "--limit", 0)
    for clip in clips:
        truth = told[clip["video_id"]]
        assert truth["direction"] == clip["label"]
        assert clip["split"] == ("validation" if truth["held_out"] else "train")
    assert {clip["split"] for clip in clips} == {"train", "validation"}


def test_the_demo_leaves_a_folder_alone_that_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("the only copy")

    done = cineray("demo", "--out", tmp_path, code=2)

    assert "was not made by the demo; name another folder" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "the only copy"


def test_ingest_prints_the_facts_that_scripts_depend_on(demo: Path, tmp_path: Path) -> None:
    facts = json_of(
        "ingest", demo / "videos", "--lake", tmp_path / "lake", "--max-reject-fraction", 1, "--name", "first"
    )

    assert facts.keys() >= {"version", "videos", "added", "unchanged", "rejected", "bytes_read", "seconds"}
    assert facts["rejected"][0].keys() >= {"uri", "reason"}
    shown = json_of("lake", "show", tmp_path / "lake")
    assert shown.keys() >= {"version", "parent", "tags", "videos", "splits", "layers", "fingerprint"}
    assert (shown["version"], shown["tags"], shown["fingerprint"]) == (1, ["first"], facts["fingerprint"])


def test_too_many_rejects_end_with_exit_code_3_after_the_facts(demo: Path, tmp_path: Path) -> None:
    done = cineray("ingest", demo / "videos", "--lake", tmp_path / "lake", "--max-reject-fraction", 0.01, code=3)

    assert json.loads(done.stdout)["videos"] == 8
    assert "4 of 12 new videos (33%) were rejected" in done.stderr


def test_a_lake_is_logged_compared_named_asked_and_verified(demo: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    cineray("ingest", demo / "videos" / "up", "--lake", lake, "-m", "only up")
    cineray("ingest", demo / "videos", "--lake", lake, "--max-reject-fraction", 1)

    log = lines_of("lake", "log", lake)
    assert [(row["version"], row["parent"], row["message"]) for row in log] == [(2, 1, ""), (1, None, "only up")]
    assert "ingest" in log[0]["command"]

    added = json_of("lake", "diff", lake, 1, 2)["tables"]["clips"]["added"]
    assert added == json_of("lake", "show", lake)["clips"] - json_of("lake", "show", lake, "--version", 1)["clips"]

    assert lines_of("lake", "tag", lake, "train-2026-11", "--version", 1) == [{"name": "train-2026-11", "version": 1}]
    assert "already names version 1" in cineray("lake", "tag", lake, "train-2026-11", "--version", 2, code=1).stderr
    moved = ("lake", "tag", lake, "train-2026-11", "--version", 2, "--move")
    assert lines_of(*moved) == [{"name": "train-2026-11", "version": 2}]
    assert lines_of("lake", "tag", lake, "train-2026-11", "--remove") == []
    assert lines_of("lake", "tag", lake, "train-2026-11", "--version", 1) == [{"name": "train-2026-11", "version": 1}]
    rows = lines_of("lake", "query", lake, "--filter", "state = 'ready'", "--columns", "label,num_frames", "--limit", 3)
    assert len(rows) == 3
    assert rows[0].keys() == {"label", "num_frames"}
    assert json_of("lake", "verify", lake, "--media", "hash")["ok"] is True


def test_a_wrong_column_is_answered_with_the_columns_that_there_are(demo: Path) -> None:
    done = cineray("lake", "query", demo / "lake", "--filter", "codek = 'h264'", code=2)

    assert "codec" in done.stderr
    assert "Traceback" not in done.stderr


def test_export_and_import_give_the_same_fingerprint(demo: Path, tmp_path: Path) -> None:
    before = json_of("lake", "show", demo / "lake")["fingerprint"]

    cineray("lake", "export", demo / "lake", tmp_path / "parquet")

    assert json_of("lake", "import", tmp_path / "other", tmp_path / "parquet")["fingerprint"] == before


def test_annotations_from_a_file_become_a_layer_of_a_new_version(demo: Path, tmp_path: Path) -> None:
    cineray("ingest", demo / "videos" / "up", "--lake", tmp_path / "lake")
    (place,) = lines_of(
        "lake", "query", tmp_path / "lake", "--from", "places", "--columns", "name,video_id", "--limit", 1
    )
    rows = tmp_path / "scores.jsonl"
    rows.write_text(json.dumps({"name": place["name"], "value": "0.75"}) + "\n")

    made = json_of("lake", "annotate", tmp_path / "lake", "scores", rows, "--author", "model-7")

    assert (made["version"], made["rows"]) == (2, 1)
    layer = lines_of(
        "lake", "query", tmp_path / "lake", "--from", "layers/scores", "--columns", "video_id,value,author"
    )
    assert layer == [{"video_id": place["video_id"], "value": "0.75", "author": "model-7"}]
    assert json_of("lake", "annotate", tmp_path / "lake", "scores", rows, "--author", "model-7")["version"] == 2


def test_an_annotation_of_an_unknown_video_is_refused_by_row(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"name": "nowhere.mp4", "value": "x"}\n')

    done = cineray("lake", "annotate", demo / "lake", "scores", tmp_path / "rows.jsonl", code=2)

    assert "rows.jsonl, row 1: the lake has no video with name 'nowhere.mp4'; nothing was committed" in " ".join(
        done.stderr.split()
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ingest", "/nowhere/at/all", "--lake", "LAKE"], "/nowhere/at/all"),
        (["ingest", "SOURCE", "--lake", "SOURCE"], "the lake needs a place of its own"),
        (["ingest", "SOURCE", "--lake", "LAKE", "--split", "train"], "--split train=0.9"),
        (["ingest", "SOURCE", "--lake", "LAKE", "--level", "deep"], "'header'"),
        (["ingest", "SOURCE", "--lake", "ftp://host/lake"], "ftp"),
        (["lake", "show", "/nowhere/at/all"], "there is no lake at /nowhere/at/all"),
    ],
)
def test_errors_are_a_sentence_and_never_a_traceback(
    arguments: list[str], told: str, demo: Path, tmp_path: Path
) -> None:
    names = {"LAKE": str(tmp_path / "lake"), "SOURCE": str(demo / "videos")}
    done = subprocess.run(
        [*CINERAY, *(names.get(a, a) for a in arguments)], capture_output=True, text=True, check=False
    )

    assert done.returncode in (1, 2)
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_person_sees_a_table_where_a_program_gets_json(demo: Path) -> None:
    shown = on_a_terminal("lake", "show", demo / "lake")

    assert "clips per split" in shown
    assert not shown.lstrip().startswith("{")


def test_a_reader_that_leaves_early_is_no_error(demo: Path) -> None:
    command = f"{sys.executable} -m cineray lake query {demo / 'lake'} --limit 0 | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)

    assert "Traceback" not in done.stderr


def test_doctor_says_what_it_found_and_that_this_machine_is_ready() -> None:
    facts = json_of("doctor")

    assert facts["ready"] is True
    assert {f["part"] for f in facts["findings"]} >= {"ffmpeg", "torch and torchcodec", "ray", "lake", "memory", "disk"}


def test_every_command_explains_itself() -> None:
    for command in ([], ["ingest"], ["lake"], ["lake", "query"], ["lake", "gc"], ["doctor"], ["demo"]):
        assert "Usage" in cineray(*command, "--help").stdout
