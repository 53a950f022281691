"""Writers at once, and writers killed anywhere: every version is whole, in one chain, with nothing lost or doubled."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cineray.lake import Lake

COMMITTER = Path(__file__).with_name("committer.py")


def start(lake: Lake, name: str, commits: int, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(COMMITTER), lake.uri, name, str(commits), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def landed(process: subprocess.Popen[str]) -> dict[str, int]:
    """Video -> version of every commit that the writer saw land."""
    out, err = process.communicate(timeout=120)
    assert process.returncode in (0, -9), err
    told = dict(line.split() for line in out.splitlines() if line != "ready")
    return {video: int(number) for video, number in told.items() if number != "conflict"}


def check_whole(lake: Lake) -> list[str]:
    """Every version is a step of one chain, adds one video, and is what its manifest says; the videos of the head."""
    versions = list(lake.versions())[::-1]
    assert [(v.number, v.parent) for v in versions] == [(n, n - 1 or None) for n in range(1, len(versions) + 1)]
    for number, version in enumerate(versions, start=1):
        report = lake.verify(version)
        assert report.ok, report
        assert version.counts["clips"] == version.counts["layers/captions"] == number
    videos: list[str] = lake.read("latest", "clips", columns=["video_id"])["video_id"].to_pylist() if versions else []
    assert len(set(videos)) == len(videos)
    return videos


@pytest.mark.parametrize("writers", [2, 4])
def test_writers_at_once_all_land_or_say_so(lake: Lake, tmp_path: Path, writers: int) -> None:
    go = tmp_path / "go"
    processes = [start(lake, f"w{n}", 5, "--wait", str(go)) for n in range(writers)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    go.touch()
    told: dict[str, int] = {}
    for process in processes:
        told |= landed(process)
    assert sorted(check_whole(lake)) == sorted(told)
    assert sorted(told.values()) == list(range(1, len(told) + 1))
    assert len(told) == 5 * writers  # with 30 tries each, nobody has to give up here


STEPS = (
    "prepared",
    "fragments clips",
    "table clips",
    "fragments layers/captions",
    "table layers/captions",
    "checked",
    "manifest",
    "tagged",
)


def test_a_writer_killed_at_any_step_leaves_the_last_version_whole(lake: Lake) -> None:
    there: list[str] = []
    for number, step in enumerate(STEPS):
        victim = start(lake, f"victim-{number}", 1, "--die-at", step)
        assert landed(victim) == {}
        assert victim.returncode == -9
        there += [f"victim-{number}-0"] if step in ("manifest", "tagged") else []
        assert check_whole(lake) == there
    assert landed(start(lake, "victim-0", 2)) == {"victim-0-0": 3, "victim-0-1": 4}
    assert check_whole(lake) == [*there, "victim-0-0", "victim-0-1"]


def test_a_writer_killed_at_any_moment_can_be_run_again(lake: Lake) -> None:
    seed = random.Random(7)
    for _ in range(4):
        process = start(lake, "again", 60)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(seed.uniform(0.0, 0.4))
        process.kill()
        told = landed(process)
        videos = check_whole(lake)
        assert set(told) <= set(videos)
        assert videos == [f"again-{n}" for n in range(len(videos))]
    assert 0 < len(videos) < 60, "the machine was too slow or too fast for these sleeps to mean anything"
    finished = landed(start(lake, "again", len(videos) + 2))
    assert check_whole(lake) == [f"again-{n}" for n in range(len(videos) + 2)]
    assert finished[f"again-{len(videos) + 1}"] == len(videos) + 2
