"""A curation that is killed, or meets another: the version before stays whole, and nothing is looked at twice.

Every test here runs the real command in a process of its own and ends it with SIGKILL, which nothing can catch.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from cineray.testing import make_shapes
from cineray.testing.fault_table import Fault
from cineray.testing.history import check_whole

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
VIDEOS = 16
CINERAY = [sys.executable, "-m", "cineray"]
JOB = Path(__file__).resolve().parents[2] / "jobs" / "curate_default.py"
SETS = {
    "stages": "{scenes: {}, signatures: {}, brightness: {}}",
    "cuts.shortest_seconds": "0.2",
    "rules": "[{name: dim, leave_out: brightness_mean < 60}]",
}


def cineray(*words: object) -> subprocess.CompletedProcess[str]:
    command = [*CINERAY, *map(str, words), "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def curate_words(lake: Path, *options: str) -> list[str]:
    sets = [word for name, value in {"lake": str(lake), **SETS}.items() for word in ("--set", f"{name}={value}")]
    return ["curate", str(JOB), *sets, *options]


def curated(lake: Path, *options: str) -> dict[str, Any]:
    done = cineray(*curate_words(lake, *options))
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def started(lake: Path, *options: str) -> subprocess.Popen[bytes]:
    words = [*CINERAY, *curate_words(lake, *options), "--json"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of 16 short videos of moving shapes, each one that nobody else is like."""
    folder = tmp_path_factory.mktemp("curate")
    make_shapes(folder / "videos", videos=VIDEOS)
    done = cineray("ingest", folder / "videos", "--lake", folder / "lake")
    assert done.returncode == 0, done.stderr
    return folder / "lake"


@pytest.fixture(scope="module")
def clean(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a curation makes that nobody disturbs, and the seconds of the whole command."""
    lake, began = shutil.copytree(raw, tmp_path_factory.mktemp("clean") / "lake"), time.monotonic()
    return curated(lake, "--workers", "1") | {"command_seconds": time.monotonic() - began}


def kept(lake: Path) -> set[str]:
    """Videos whose results are on disk: what the next run may not look at again."""
    found: set[str] = set()
    for part in lake.glob("staging/curate/*/part-*.parquet"):
        found |= set(pq.read_table(part, columns=["video_id"])["video_id"].to_pylist())
    return found


def goes_on(lake: Path, clean: dict[str, Any], fault: Fault, *options: str) -> None:
    """The next run ends with the same version, bit for bit, and looks only at what nobody had finished."""
    version, finished = check_whole(str(lake)), kept(lake)
    report = curated(lake, *options)
    assert report["fingerprint"] == clean["fingerprint"]
    fault.same("videos", found=[report["videos"]], expected=[VIDEOS])
    if version == 1:
        assert report["looked_at"] == VIDEOS - len(finished)
    else:
        assert report["looked_at"] == 0, "all was in the version already"
    assert check_whole(str(lake)) == 2
    assert kept(lake) == set(), "what is in a version is staged no longer"


def seen(lake: Path, pattern: str, process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Waits until something below the lake matches; the process may end first."""
    while process.poll() is None and not any(lake.glob(pattern)):
        yield


POINTS = {
    "a batch is finished": "staging/curate/*/part-*.parquet",
    "measures are written": "tables/layers/quality.lance/data/*.lance",
    "scenes have a Lance version": "tables/layers/scenes.lance/_versions/*.manifest",
    "the manifest is put": "versions/00000002.json",
}


def at(point: str, *, long: bool) -> Any:
    """A point of the way; the first is tried in every run of the tests."""
    told = {"cause": "a curation is killed when {point}", "happens": "the next run takes up what was finished"}
    return pytest.param(point, marks=pytest.mark.fault(**told, long=long))


@pytest.mark.parametrize("point", [at(point, long=number > 0) for number, point in enumerate(POINTS)])
def test_killed_at_any_point_the_next_run_ends_with_the_same_version(
    raw: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault, point: str
) -> None:
    lake, began = shutil.copytree(raw, tmp_path / "lake"), time.monotonic()
    process = started(lake, "--workers", "1")
    for _ in seen(lake, POINTS[point], process):
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert any(lake.glob(POINTS[point])), f"the curation never came to: {point}"
    goes_on(lake, clean, fault, "--workers", "1")
    fault.lost(time.monotonic() - began, than=clean["command_seconds"])


@pytest.mark.fault(
    cause="a curation is killed 4 times at random",
    happens="no run looks again at what one before it had finished",
    long=True,
)
def test_killed_again_and_again_at_random_it_still_gets_done(
    raw: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    lake, began, draw = shutil.copytree(raw, tmp_path / "lake"), time.monotonic(), random.Random(1)
    before: set[str] = set()
    for _ in range(4):
        process = started(lake, "--workers", "1")
        try:
            process.wait(draw.uniform(0.3, 1.2) * clean["command_seconds"])
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if check_whole(str(lake)) == 1:
            assert before <= kept(lake), "what was finished stays"
            before = kept(lake)
    goes_on(lake, clean, fault, "--workers", "1")
    fault.lost(time.monotonic() - began, than=clean["command_seconds"])


@pytest.mark.fault(cause="the driver of a curation is killed", happens="its child processes end with it")
def test_its_children_do_not_outlive_a_killed_driver(raw: Path, tmp_path: Path, fault: Fault) -> None:
    process = started(shutil.copytree(raw, tmp_path / "lake"), "--workers", "2")
    children: list[psutil.Process] = []
    while not children and process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
    assert children, "the curation starts processes that look at the videos"
    with fault.hit():
        process.kill()
        process.wait()
        gone, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    fault.same("processes left", found=[one.pid for one in gone], expected=[one.pid for one in children])


@pytest.mark.fault(cause="two curations of one lake run at once", happens="both end; the version is made once")
def test_two_curations_of_one_lake_at_once_make_one_version(
    raw: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    lake, began = shutil.copytree(raw, tmp_path / "lake"), time.monotonic()
    words = [*CINERAY, *curate_words(lake, "--workers", "1"), "--json"]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    done = [(process, *process.communicate(timeout=300)) for process in running]
    fault.lost(time.monotonic() - began, than=clean["command_seconds"])
    assert [process.returncode for process, _, _ in done] == [0, 0], [err for _, _, err in done]
    told = [json.loads(out) for _, out, _ in done]
    assert {(one["fingerprint"], one["version"]) for one in told} == {(clean["fingerprint"], 2)}
    fault.same("videos", found=[one["videos"] for one in told], expected=[VIDEOS, VIDEOS])
    assert check_whole(str(lake)) == 2


@pytest.mark.ray
@pytest.mark.fault(
    cause="the driver of a curation on Ray is killed", happens="the next run takes up its tasks' parts", long=True
)
def test_a_driver_on_ray_that_is_killed_loses_no_finished_chunk(
    raw: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    lake = shutil.copytree(raw, tmp_path / "lake")
    process = started(lake, "--engine", "ray", "--workers", "1")
    for _ in seen(lake, POINTS["a batch is finished"], process):
        time.sleep(0.01)
    tree = psutil.Process(process.pid).children(recursive=True)
    with fault.hit():
        process.kill()
        process.wait()
        psutil.wait_procs(tree, timeout=60)
        goes_on(lake, clean, fault, "--engine", "ray", "--workers", "1")


@pytest.mark.ray
@pytest.mark.fault(
    cause="a Ray worker of a curation is killed", happens="its task runs again in another one", long=True
)
def test_a_killed_ray_worker_costs_its_task_and_nothing_else(
    raw: Path, clean: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    lake = shutil.copytree(raw, tmp_path / "lake")
    words = [*CINERAY, *curate_words(lake, "--engine", "ray", "--workers", "1"), "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killed = busy_worker(process)
    assert killed is not None, "a worker was at work"
    with fault.hit():
        killed.kill()
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out)["fingerprint"] == clean["fingerprint"]
    fault.same("videos", found=[json.loads(out)["videos"]], expected=[VIDEOS])
    assert check_whole(str(lake)) == 2


def busy_worker(driver: subprocess.Popen[str]) -> psutil.Process | None:
    """The first of this driver's Ray workers that is seen to look at a chunk; None when the driver has ended."""
    while driver.poll() is None:
        for child in psutil.Process(driver.pid).children(recursive=True):
            try:
                if "look_at_chunk" in " ".join(child.cmdline()):
                    return child
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.005)
    return None
