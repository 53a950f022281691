"""Disks and shared memory that are full: what was whole stays whole, the error says so, and with room it goes on.

The disks are small file systems in memory, which root may mount; elsewhere these tests skip themselves.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cineray.batch import batch_digest
from cineray.feed import FeedSpec, local_batches
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import broken_videos, make_shapes
from cineray.testing.fault_table import Fault
from cineray.testing.history import COMMITTED, REJECTED, History

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STEPS = range(12)
COMMAND = [sys.executable, "-m", "cineray"]
CURATE_JOB = Path(__file__).resolve().parents[2] / "jobs" / "curate_default.py"


@dataclass
class Disk:
    """A file system of some kilobytes."""

    folder: Path

    def resize(self, kilobytes: int) -> None:
        self._mount("remount,", kilobytes)

    def mount(self, kilobytes: int) -> None:
        self.folder.mkdir()
        self._mount("", kilobytes)

    def _mount(self, how: str, kilobytes: int) -> None:
        command = ["mount", "-t", "tmpfs", "-o", f"{how}size={kilobytes}k", "tmpfs", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"a small disk needs root: {done.stderr.strip()}")


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Callable[[str, int], Disk]]:
    """`disks(name, kilobytes)` mounts one; all are gone after the test."""
    made: list[Disk] = []

    def make(name: str, kilobytes: int) -> Disk:
        disk = Disk(tmp_path / name)
        disk.mount(kilobytes)
        made.append(disk)
        return disk

    yield make
    for disk in made:
        subprocess.run(["umount", "--lazy", str(disk.folder)], check=True)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 videos, and 4 files that are none."""
    folder = tmp_path_factory.mktemp("full") / "videos"
    make_shapes(folder, videos=12)
    broken_videos(folder)
    return folder


def ingested(videos: Path, lake: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    began = time.monotonic()
    words = ["ingest", str(videos), "--lake", str(lake), "--json", "--max-reject-fraction", "1"]
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, timeout=200)
    return done, time.monotonic() - began


@pytest.mark.fault(
    cause="the disk of a lake is full, at each of 4 points of an ingest",
    happens="it ends and says so; readers see no half version; with room the next run ends it",
)
def test_an_ingest_whose_disk_is_full_leaves_a_whole_lake_and_goes_on_when_there_is_room(
    videos: Path, tmp_path: Path, disks: Callable[[str, int], Disk], fault: Fault
) -> None:
    done, clean_seconds = ingested(videos, tmp_path / "clean")
    assert done.returncode == 0, done.stderr
    clean = json.loads(done.stdout)
    kilobytes = kilobytes_of(tmp_path / "clean")
    broken = {path.name for path in videos.glob("*.mp4")}
    wanted = {str(path): REJECTED if path.name in broken else COMMITTED for path in videos.rglob("*.mp4")}
    for share in (0.1, 0.4, 0.7, 0.9):
        disk = disks(f"disk-{share}", max(4, int(share * kilobytes)))
        lake = disk.folder / "lake"
        history = History(str(lake))
        with history.watching():
            failed, failed_seconds = ingested(videos, lake)
            assert failed.returncode == 1, f"{share}: {failed.stdout}"
            assert "No space left on device" in failed.stderr, failed.stderr[-2000:]
            assert "Traceback" not in failed.stderr, failed.stderr[-2000:]
            disk.resize(10 * kilobytes)
            done, seconds = ingested(videos, lake)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["fingerprint"] == clean["fingerprint"]
        assert history.read_again() == 1
        assert history.problems == []
        fault.lost(failed_seconds + seconds, than=clean_seconds)
        fault.same("files", found=history.looks[-1].states.items(), expected=wanted.items())


def standardised(lake: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    began = time.monotonic()
    words = ["standardise", str(lake), "--short-side", "48", "--preset", "veryfast", "--json"]
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, timeout=200)
    return done, time.monotonic() - began


def curated(lake: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    began = time.monotonic()
    words = ["curate", str(CURATE_JOB), "--set", f"lake={lake}", "--set", "cuts.shortest_seconds=0.2", "--json"]
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, timeout=200)
    return done, time.monotonic() - began


def kilobytes_of(folder: Path) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4 for path in folder.rglob("*") if path.is_file())


@pytest.mark.fault(
    cause="the disk of a lake is full, at each of 3 points of a standardising",
    happens="it ends and says so; the version before stays whole; with room the next run ends it",
)
def test_a_standardising_whose_disk_is_full_leaves_a_whole_lake_and_goes_on_when_there_is_room(
    videos: Path, tmp_path: Path, disks: Callable[[str, int], Disk], fault: Fault
) -> None:
    raw = tmp_path / "raw"
    ingest(IngestConfig(source=str(videos), lake=str(raw), max_reject_fraction=1), EngineConfig(engine="local"))
    shutil.copytree(raw, tmp_path / "clean")
    done, clean_seconds = standardised(tmp_path / "clean")
    assert done.returncode == 0, done.stderr
    before, after = kilobytes_of(raw), kilobytes_of(tmp_path / "clean")
    wanted = Lake.open(str(tmp_path / "clean")).read("latest", "media", columns=["video_id"])["video_id"].to_pylist()
    for share in (0.1, 0.5, 0.9):
        disk = disks(f"disk-{share}", before + int(share * (after - before)))
        lake = disk.folder / "lake"
        shutil.copytree(raw, lake)
        failed, failed_seconds = standardised(lake)
        assert failed.returncode == 1, f"{share}: {failed.stdout}"
        assert "No space left on device" in failed.stderr, failed.stderr[-2000:]
        assert "Traceback" not in failed.stderr, failed.stderr[-2000:]
        assert Lake.open(str(lake)).resolve("latest").number == 1
        disk.resize(20 * after)
        done, seconds = standardised(lake)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["version"] == 2
        fault.lost(failed_seconds + seconds, than=clean_seconds)
        opened = Lake.open(str(lake))
        assert opened.verify("latest", media="hash").ok
        found = opened.read("latest", "media", columns=["video_id"])["video_id"].to_pylist()
        fault.same("videos", found=found, expected=wanted)


LOADER = """
import json, sys
from cineray.batch import batch_digest
from cineray.errors import CinerayError
from cineray.feed import FeedConfig, FeedSpec, from_torch
from cineray.feed.torch_feed import loader_of
from cineray.plan import Recipe
told = json.loads(sys.argv[1])
spec = FeedSpec(recipe=Recipe.model_validate(told["recipe"]), seed=told["seed"])
feed = FeedConfig(driver="torch", workers=2, no_batch_seconds=told["patience"])
try:
    for batch in loader_of(spec, range(told["start"], told["stop"]), feed, rank=0, world=1):
        print(batch_digest([from_torch(batch)]), flush=True)
except CinerayError as error:
    sys.exit(f"error: {error}")
"""


@pytest.fixture(scope="module")
def spec(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> FeedSpec:
    lake = tmp_path_factory.mktemp("full-lake") / "lake"
    ingest(IngestConfig(source=str(videos), lake=str(lake), max_reject_fraction=1), EngineConfig(engine="local"))
    recipe = Recipe(
        datasets=(DatasetSpec(lake=str(lake), split=None),),
        sampling=SamplingSpec(mode="random", frames=4, stride=2),
        frame=FrameSpec(height=64, width=64),
        batch_size=6,
    )
    return FeedSpec(recipe=recipe, seed=3).pinned()


def loaded(
    spec: FeedSpec, start: int, shm_kilobytes: int, *, patience: float
) -> tuple[list[str], subprocess.CompletedProcess[str]]:
    """What a PyTorch loader of a process with so much shared memory of its own gives."""
    told: dict[str, Any] = {"recipe": spec.recipe.model_dump(mode="json"), "seed": spec.seed}
    told |= {"start": start, "stop": STEPS.stop, "patience": patience}
    mount = f'mount -t tmpfs -o size={shm_kilobytes}k tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", LOADER, json.dumps(told)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    return done.stdout.split(), done


@pytest.mark.fault(
    cause="/dev/shm is full under a PyTorch loader", happens="the loop ends and says so; with room it goes on"
)
def test_a_loader_whose_shared_memory_is_full_ends_and_goes_on_when_there_is_room(spec: FeedSpec, fault: Fault) -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("a /dev/shm of a process's own needs root")
    expected = [batch_digest([batch]) for batch in local_batches(spec, STEPS)]
    fault.strikes()
    seen, failed = loaded(spec, STEPS.start, 600, patience=30)
    assert failed.returncode == 1, failed.stdout
    assert "error: no batch for 30 s from 2 workers of a DataLoader" in failed.stderr, failed.stderr[-2000:]
    assert "shared memory (/dev/shm) has" in failed.stderr
    rest, done = loaded(spec, STEPS.start + len(seen), 100_000, patience=300)
    fault.over()
    assert done.returncode == 0, done.stderr[-2000:]
    fault.same("batches", found=seen + rest, expected=expected)
    assert seen + rest == expected


@pytest.mark.fault(
    cause="the disk of a lake is full, at each of 3 points of a curation",
    happens="it ends and says so; the version before stays whole; with room the next run ends it",
    long=True,
)
def test_a_curation_whose_disk_is_full_leaves_a_whole_lake_and_goes_on_when_there_is_room(
    videos: Path, tmp_path: Path, disks: Callable[[str, int], Disk], fault: Fault
) -> None:
    raw = tmp_path / "raw"
    ingest(IngestConfig(source=str(videos), lake=str(raw), max_reject_fraction=1), EngineConfig(engine="local"))
    shutil.copytree(raw, tmp_path / "clean")
    done, clean_seconds = curated(tmp_path / "clean")
    assert done.returncode == 0, done.stderr
    clean = json.loads(done.stdout)
    before, after = kilobytes_of(raw), kilobytes_of(tmp_path / "clean")
    for share in (0.0, 0.4, 0.8):
        disk = disks(f"disk-{share}", before + int(share * (after - before)))
        lake = disk.folder / "lake"
        shutil.copytree(raw, lake)
        failed, failed_seconds = curated(lake)
        assert failed.returncode == 1, f"{share}: {failed.stdout}"
        assert "No space left on device" in failed.stderr, failed.stderr[-2000:]
        assert "Traceback" not in failed.stderr, failed.stderr[-2000:]
        assert Lake.open(str(lake)).resolve("latest").number == 1
        disk.resize(20 * after)
        done, seconds = curated(lake)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["fingerprint"] == clean["fingerprint"]
        fault.lost(failed_seconds + seconds, than=clean_seconds)
        fault.same("videos", found=[json.loads(done.stdout)["videos"]], expected=[clean["videos"]])
