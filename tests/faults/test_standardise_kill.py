"""A standardising that is killed, or meets another: no video is encoded twice but those in work, and one version comes.

Every test here runs the real command in a process of its own and ends it with SIGKILL, which nothing can catch.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.testing.fault_table import Fault

pytestmark = pytest.mark.timeout(900)
VIDEOS = 8
KILLS = 4
OPTIONS = ["--gop", "8", "--short-side", "48", "--preset", "veryfast", "--shard-bytes", "40000", "--json"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Callable[..., None]) -> Path:
    """A lake of eight videos of different pictures: version 1."""
    folder = tmp_path_factory.mktemp("raw")
    (folder / "videos").mkdir()
    for number in range(VIDEOS):
        words = ["-f", "lavfi", "-i", f"testsrc2=size=128x96:rate=12:duration={2 + number / 4}"]
        ffmpeg(*words, "-c:v", "libx264", "-g", 250, folder / "videos" / f"{number}.mp4")
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return folder / "lake"


def started(lake: Path, **how: Any) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE if how.get("told") else subprocess.DEVNULL
    command = [sys.executable, "-m", "cineray", "standardise", str(lake), *OPTIONS, "--workers", "1"]
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


@pytest.fixture(scope="module")
def clean(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What comes of it undisturbed, and the seconds of the whole command."""
    lake = tmp_path_factory.mktemp("clean") / "lake"
    shutil.copytree(raw, lake)
    began = time.monotonic()
    return ended(started(lake, told=True)) | {"command_seconds": time.monotonic() - began, "lake": lake}


def marks(lake: Path) -> dict[str, int]:
    """The finished work in the staging, and when each was put there."""
    found = {}
    for path in lake.glob("staging/standardise-*/*.json"):
        found[path.stem] = path.stat().st_mtime_ns
    return found


def same_as_clean(fault: Fault, lake: Path, clean: dict[str, Any], report: dict[str, Any]) -> None:
    opened, undisturbed = Lake.open(str(lake)), Lake.open(str(clean["lake"]))
    assert report["version"] == 2
    assert content(opened) == content(undisturbed)
    assert opened.verify("latest", media="hash").ok
    assert not list(lake.glob("staging/standardise-*"))
    named = set(opened.read("latest", "media", columns=["uri"])["uri"].to_pylist())
    assert named == {str(path) for path in lake.glob("shards/*/*.tar")}
    fault.same("videos", found=ids(opened), expected=ids(undisturbed))


def content(lake: Lake) -> dict[str, str]:
    """Fingerprints of all tables but one: places say where each lake's own shards lie."""
    tables = lake.resolve("latest").tables
    return {name: state.fingerprint for name, state in tables.items() if name != "places"}


def ids(lake: Lake) -> list[str]:
    found: list[str] = lake.read("latest", "media", columns=["video_id"])["video_id"].to_pylist()
    return found


@pytest.mark.slow
@pytest.mark.fault(
    cause="a standardising is killed 4 times in a row, at random moments",
    happens="what is encoded stays encoded; the last run makes the version that an undisturbed one makes",
    long=True,
)
def test_killed_again_and_again_nothing_that_is_finished_is_encoded_again(
    raw: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    lake, seen, began = tmp_path / "lake", dict[str, int](), time.monotonic()
    shutil.copytree(raw, lake)
    moments = random.Random(8)
    for _ in range(KILLS):
        process = started(lake)
        wanted, deadline = len(seen) + 1, time.monotonic() + 120
        try:
            while len(marks(lake)) < wanted and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.15))  # anywhere between one finished video and the next
        finally:
            process.kill()
            process.wait()
        if Lake.open(str(lake)).resolve("latest").number > 1:
            break  # it was quicker
        now = marks(lake)
        assert {name: now.get(name) for name in seen} == seen, "finished work was touched"
        seen = now
        assert Lake.open(str(lake)).verify("latest").ok
    report = ended(started(lake, told=True))
    fault.lost(time.monotonic() - began, than=clean["command_seconds"])
    assert report["resumed"] == len(seen) or report["unchanged"] == VIDEOS
    same_as_clean(fault, lake, clean, report)


SIGNS = {
    "the first shard is there": "shards/*/*.tar",
    "rows of the next version are written": "tables/layers/encoding.lance/data/*.lance",
    "the manifest is put": "versions/00000002.json",
}


def killed_where(lake: Path, pattern: str) -> float:
    """Start, and kill at the moment when such a file is seen; the seconds that it lived."""
    process, began = started(lake), time.monotonic()
    try:
        while not any(lake.glob(pattern)) and process.poll() is None:
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    assert any(lake.glob(pattern)), f"{pattern} never came"
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.fault(
    cause="a standardising is killed, at each of 3 points when all is encoded",
    happens="finished shards stay, the next run ends as if nothing had been",
    long=True,
)
def test_killed_at_any_point_the_next_run_ends_as_if_nothing_had_happened(
    raw: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    for number, pattern in enumerate(SIGNS.values()):
        lake = tmp_path / f"lake{number}"
        shutil.copytree(raw, lake)
        took = killed_where(lake, pattern)
        shards = {path: path.stat().st_mtime_ns for path in lake.glob("shards/*/*.tar")}
        began = time.monotonic()
        report = ended(started(lake, told=True))
        fault.lost(took + time.monotonic() - began, than=clean["command_seconds"])
        assert {path: path.stat().st_mtime_ns for path in shards} == shards, "a finished shard was written again"
        same_as_clean(fault, lake, clean, report)


@pytest.mark.fault(cause="a standardising is killed while it encodes", happens="the next run encodes the others only")
def test_killed_amid_encoding_the_next_run_encodes_the_rest(
    raw: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(raw, lake)
    took, finished = killed_where(lake, "staging/standardise-*/*.json"), len(marks(lake))
    began = time.monotonic()
    report = ended(started(lake, told=True))
    fault.lost(took + time.monotonic() - began, than=clean["command_seconds"])
    assert (report["resumed"], report["videos"]) == (finished, VIDEOS)
    same_as_clean(fault, lake, clean, report)


@pytest.mark.fault(
    cause="two standardisings of one version run at once", happens="they share the work, and one version comes of it"
)
def test_two_at_once_make_one_version(raw: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault) -> None:
    lake, began = tmp_path / "lake", time.monotonic()
    shutil.copytree(raw, lake)
    reports = [ended(process) for process in [started(lake, told=True) for _ in range(2)]]
    fault.lost(time.monotonic() - began, than=clean["command_seconds"])
    assert {report["version"] for report in reports} == {2}
    for report in reports:
        assert report["rejected"] == {}
        same_as_clean(fault, lake, clean, report)
