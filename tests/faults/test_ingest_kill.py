"""An ingest that is killed, or meets another: the last version stays whole, the next run ends as if nothing had been.

Every test here runs the real command in a process of its own and ends it with SIGKILL, which nothing can catch.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cineray.lake import Lake
from cineray.testing.fault_table import Fault
from cineray.testing.history import check_whole

COLOURS = ["red", "green", "blue", "white", "black", "gray"]
COPIES = 40
CINERAY = [sys.executable, "-m", "cineray"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Callable[..., None]) -> Path:
    """60 files: 6 distinct videos, each under 10 names, and one that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    for colour in COLOURS:
        first = folder / f"{colour}-0.mp4"
        ffmpeg("-f", "lavfi", "-i", f"color={colour}:size=64x48:rate=10", "-frames:v", 10, "-c:v", "libx264", first)
        for copy in range(1, 10):
            shutil.copy(first, folder / f"{colour}-{copy}.mp4")
    (folder / "text.mp4").write_text("not a video\n" * 100)
    return folder


def ingest_command(source: Path, lake: Path, *options: str) -> list[str]:
    return [*CINERAY, "ingest", str(source), "--lake", str(lake), "--json", *options]


def ingest(source: Path, lake: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        ingest_command(source, lake, *options), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def clean(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an ingest makes that nobody disturbs, and the seconds of the whole command."""
    folder, began = tmp_path_factory.mktemp("clean"), time.monotonic()
    return ingest(videos, folder / "lake") | {"command_seconds": time.monotonic() - began}


def assert_each_video_once(lake: Path, videos: int) -> None:
    opened = Lake.open(str(lake))
    head = opened.head()
    assert head is not None
    ids = opened.read(head, "media", columns=["video_id"])["video_id"].to_pylist()
    places = opened.read(head, "places", columns=["uri"])["uri"].to_pylist()
    assert len(ids) == len(set(ids)) == videos
    assert len(places) == len(set(places))


def nothing_is_lost(fault: Fault, videos: Path, lake: Path) -> None:
    """Each file of the source is one place of the lake, or one reject."""
    opened = Lake.open(str(lake))
    held = opened.read(opened.resolve("latest"), "places", columns=["uri"])["uri"].to_pylist()
    fault.same("files", found=held, expected=[str(path) for path in videos.iterdir()])


def grown(path: Path, pattern: str) -> Iterator[bool]:
    """Whether anything below `path` matches, asked again and again."""
    while True:
        yield path.exists() and any(path.rglob(pattern))


# Each is a sign on disk that the ingest has come to a certain point; it is killed at the moment the sign is seen.
POINTS = {
    "the lake is marked": "lake.json",
    "work is in the journal": "part-*.parquet",
    "media rows are written": "media.lance/data/*.lance",
    "media has a Lance version": "media.lance/_versions/*.manifest",
    "places are written": "places.lance/data/*.lance",
    "clips have a Lance version": "clips.lance/_versions/*.manifest",
    "the manifest is put": "versions/00000001.json",
    "a table is tagged": "_refs/tags/*.json",
}


@pytest.mark.slow
@pytest.mark.fault(
    cause="an ingest is killed, at each of 8 points of its way", happens="the next run takes up what was finished"
)
def test_killed_at_any_point_the_next_run_ends_as_if_nothing_had_happened(
    videos: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    for point, pattern in POINTS.items():
        lake, began = tmp_path / point.replace(" ", "-"), time.monotonic()
        process = subprocess.Popen(ingest_command(videos, lake), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for seen in grown(lake, pattern):
            if seen or process.poll() is not None:
                break
        process.kill()
        process.wait()
        took = time.monotonic() - began
        assert any(lake.rglob(pattern)), f"the ingest never came to: {point}"
        check_whole(str(lake))

        began = time.monotonic()
        report = ingest(videos, lake)

        fault.lost(took + time.monotonic() - began, than=clean["command_seconds"])
        nothing_is_lost(fault, videos, lake)
        assert report["fingerprint"] == clean["fingerprint"], point
        check_whole(str(lake))
        assert_each_video_once(lake, videos=len(COLOURS) + 1)


@pytest.mark.slow
@pytest.mark.fault(
    cause="an ingest is killed 8 times in a row", happens="each run leaves the lake whole; the last ends"
)
def test_killed_again_and_again_at_random_it_still_gets_done(
    videos: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    lake, began = tmp_path / "lake", time.monotonic()
    for number in range(8):
        process = subprocess.Popen(ingest_command(videos, lake), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.4 + 0.17 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        check_whole(str(lake))

    assert ingest(videos, lake)["fingerprint"] == clean["fingerprint"]
    fault.lost(time.monotonic() - began, than=clean["command_seconds"])
    nothing_is_lost(fault, videos, lake)
    assert_each_video_once(lake, videos=len(COLOURS) + 1)


@pytest.mark.fault(cause="the driver of an ingest is killed", happens="its child processes end with it")
def test_its_children_do_not_outlive_a_killed_driver(videos: Path, tmp_path: Path, fault: Fault) -> None:
    process = subprocess.Popen(
        ingest_command(videos, tmp_path / "lake"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 30
    while not children and process.poll() is None and time.monotonic() < deadline:
        children = psutil.Process(process.pid).children(recursive=True)
    assert children, "the ingest starts processes that look at the videos"
    with fault.hit():
        process.kill()
        process.wait()

        gone, alive = psutil.wait_procs(children, timeout=10)

    assert not alive
    fault.same("processes left", found=[one.pid for one in gone], expected=[one.pid for one in children])


@pytest.mark.fault(cause="two ingests write to one lake at once", happens="both land, one after the other")
def test_two_ingests_of_different_sources_at_once_both_land(
    videos: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    lake, parts = tmp_path / "lake", [tmp_path / "a", tmp_path / "b"]
    for part, colours in zip(parts, (COLOURS[:3], COLOURS[3:]), strict=True):
        part.mkdir()
        for colour in colours:
            shutil.copy(videos / f"{colour}-0.mp4", part)
    began = time.monotonic()
    running = [
        subprocess.Popen(ingest_command(part, lake), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for part in parts
    ]

    done = [(process, *process.communicate(timeout=120)) for process in running]
    fault.lost(time.monotonic() - began, than=clean["command_seconds"])

    assert [process.returncode for process, _, _ in done] == [0, 0], [err for _, _, err in done]
    assert sorted(json.loads(out)["version"] for _, out, _ in done) == [1, 2]
    held = Lake.open(str(lake))
    names = held.read(held.resolve("latest"), "places", columns=["uri"])["uri"].to_pylist()
    fault.same("files", found=names, expected=[str(path) for part in parts for path in part.iterdir()])
    assert_each_video_once(lake, videos=6)
    check_whole(str(lake))


@pytest.mark.fault(cause="two ingests of one source run at once", happens="what both did is in the lake once")
def test_two_ingests_of_the_same_source_at_once_make_it_once(
    videos: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    lake = tmp_path / "lake"
    began = time.monotonic()
    running = [
        subprocess.Popen(ingest_command(videos, lake), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]

    done = [(process, *process.communicate(timeout=120)) for process in running]
    fault.lost(time.monotonic() - began, than=clean["command_seconds"])

    assert [process.returncode for process, _, _ in done] == [0, 0], [err for _, _, err in done]
    assert {json.loads(out)["fingerprint"] for _, out, _ in done} == {clean["fingerprint"]}
    nothing_is_lost(fault, videos, lake)
    assert_each_video_once(lake, videos=len(COLOURS) + 1)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.fault(cause="a Ray worker of an ingest is killed", happens="its task runs again in another one")
def test_a_killed_ray_worker_costs_its_task_and_nothing_else(videos: Path, tmp_path: Path, fault: Fault) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for copy in range(COPIES):
        for path in videos.iterdir():
            (many / f"{copy:02d}-{path.name}").hardlink_to(path)
    lake = tmp_path / "lake"
    process = subprocess.Popen(
        ingest_command(many, lake, "--engine", "ray"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    killed = busy_worker(process, within_seconds=90)
    if killed is not None:
        with fault.hit():
            killed.kill()
            busy_worker(process, within_seconds=90, other_than=killed.pid)

    out, err = process.communicate(timeout=180)

    assert process.returncode == 0, err
    assert killed is not None, "a worker was at work, and was killed"
    report = json.loads(out)
    nothing_is_lost(fault, many, lake)
    assert (report["videos"], len(report["rejected"])) == (len(COLOURS), COPIES)
    check_whole(str(lake))
    assert_each_video_once(lake, videos=len(COLOURS) + COPIES)


def busy_worker(driver: subprocess.Popen[str], *, within_seconds: float, other_than: int = 0) -> psutil.Process | None:
    """The first of this driver's Ray workers that is seen to run a task of ours; None when the driver has ended."""
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline and driver.poll() is None:
        for child in psutil.Process(driver.pid).children(recursive=True):
            try:
                if "check_chunk" in " ".join(child.cmdline()) and child.pid != other_than:
                    return child
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.005)
    return None
