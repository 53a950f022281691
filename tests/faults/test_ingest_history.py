"""Ingests that are killed at random, while readers look: each video is committed, rejected or pending, and one of them.

A history is a source that grows and whose files change, ingested again and again by the real command, which is ended by
SIGKILL a random moment after a random number of files has appeared in its lake: so the kills fall where it writes, and
not where it starts. A reader polls all the time; every version and every look that it had is held to the promise.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from cineray.lake import Lake
from cineray.testing.clusters.ray_head import RayHead
from cineray.testing.fault_table import Fault
from cineray.testing.history import COMMITTED, REJECTED, History

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
COLOURS = ("red", "green", "blue", "white")
MORE_FILES = 20
"""Files that come between two versions."""
FILES_OF_A_VERSION = 30
"""How many files an ingest makes in its lake, at least: kills are spread over so many."""
MOMENT_SECONDS = 0.3
PATIENCE_SECONDS = 200


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Callable[..., None]) -> list[Path]:
    """Four videos and a text; the files of every source are copies of them."""
    folder = tmp_path_factory.mktemp("masters")
    for colour in COLOURS:
        ffmpeg("-f", "lavfi", "-i", f"color={colour}:size=64x48:rate=10", "-frames:v", 5, folder / f"{colour}.mp4")
    (folder / "text.mp4").write_text("not a video\n" * 100)
    return sorted(folder.iterdir())


class GrowingSource:
    """A folder to which files come, and in which some are replaced; it knows what each should become."""

    def __init__(self, folder: Path, masters: list[Path], chance: random.Random) -> None:
        self.folder, self._masters, self._chance = folder, masters, chance
        self.wanted: dict[str, str] = {}
        folder.mkdir()

    def grow(self, files: int) -> None:
        for _ in range(files):
            self._put(self.folder / f"{len(self.wanted):05d}.mp4")

    def replace(self, files: int) -> set[str]:
        """Other bytes at places that were there; their names."""
        chosen = self._chance.sample(sorted(self.wanted), files)
        for name in chosen:
            self._put(Path(name))
        return set(chosen)

    def _put(self, path: Path) -> None:
        """Whole at once, as whoever delivers videos should."""
        master = self._chance.choice(self._masters)
        new = path.with_suffix(".new")
        shutil.copy(master, new)
        new.rename(path)
        self.wanted[str(path)] = REJECTED if master.name == "text.mp4" else COMMITTED


Running = subprocess.Popen[str]


def start(source: Path, lake: Path, *words: str, environment: Mapping[str, str] | None = None) -> Running:
    command = [sys.executable, "-m", "cineray", "ingest", str(source), "--lake", str(lake), "--json"]
    return subprocess.Popen(
        [*command, "--max-reject-fraction", "1", *words],
        env={**(environment or os.environ)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(running: Running) -> None:
    out, err = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 0, err[-3000:]
    assert json.loads(out)["version"] >= 1


def kill_when_grown(running: Running, lake: Path, chance: random.Random) -> bool:
    """SIGKILL to its whole group a moment after so many files more have appeared; whether it came to that."""
    before, seen, files = set(files_of(lake)), set[str](), chance.randint(1, FILES_OF_A_VERSION)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(seen) < files and running.poll() is None and time.monotonic() < deadline:
        seen |= set(files_of(lake)) - before
    time.sleep(chance.choice((0.0, MOMENT_SECONDS)) * chance.random())  # at a file's appearing, or between two
    killed = running.poll() is None
    if killed:
        os.killpg(running.pid, signal.SIGKILL)
    running.communicate(timeout=PATIENCE_SECONDS)
    return killed


def files_of(folder: Path) -> Iterator[str]:
    return (os.path.join(where, name) for where, _, names in os.walk(folder) for name in names)


def clean_seconds(source: Path, lake: Path, *words: str, environment: Mapping[str, str] | None = None) -> float:
    """What the last source takes undisturbed, in a lake of its own."""
    began = time.monotonic()
    finish(start(source, lake, *words, environment=environment))
    return time.monotonic() - began


def as_promised(history: History, source: GrowingSource, clean: Path, fault: Fault) -> None:
    """No look was wrong, no version has changed, and at the end all is as an undisturbed ingest makes it."""
    assert history.read_again() >= 1
    assert history.problems == []
    assert history.looks[-1].states == source.wanted
    fault.same("videos", found=history.looks[-1].states.items(), expected=source.wanted.items())
    fault.same("versions", found=history.versions, expected=range(1, history.looks[-1].number + 1))
    heads = [Lake.open(str(lake)).head() for lake in (history.lake, clean)]
    assert heads[0] is not None
    assert heads[1] is not None
    assert heads[0].fingerprint == heads[1].fingerprint


def story(
    folder: Path,
    masters: list[Path],
    fault: Fault,
    *words: str,
    seed: int,
    kills: int,
    files: int = MORE_FILES,
    environment: Mapping[str, str] | None = None,
) -> None:
    """A source grows and changes; the ingest of each state is killed, and its next run is, until `kills` were."""
    chance = random.Random(seed)
    source, lake = GrowingSource(folder / "videos", masters, chance), folder / "lake"
    history, spent, killed = History(str(lake)), 0.0, 0
    with history.watching():
        while killed < kills:
            source.grow(files)
            if killed:
                history.may_change |= source.replace(files // 4)
            for _ in range(2):
                began = time.monotonic()
                running = start(source.folder, lake, *words, environment=environment)
                killed += kill_when_grown(running, lake, chance)
                spent += time.monotonic() - began
        began = time.monotonic()
        finish(start(source.folder, lake, *words, environment=environment))
        spent += time.monotonic() - began
    fault.lost(spent, than=clean_seconds(source.folder, folder / "clean", *words, environment=environment))
    as_promised(history, source, folder / "clean", fault)


LOCAL = {
    "cause": "an ingest is killed {kills} times at random, while its source grows and changes",
    "happens": "each look of a reader finds each video committed, rejected or pending; the last run ends it",
}


@pytest.mark.parametrize(
    ("seed", "kills"),
    [
        pytest.param(1, 4, marks=pytest.mark.fault(**LOCAL)),
        *(pytest.param(seed, 12, marks=pytest.mark.fault(**LOCAL, long=True)) for seed in (2, 3)),
    ],
)
def test_every_look_at_a_lake_whose_ingests_are_killed_is_as_promised(
    masters: list[Path], tmp_path: Path, fault: Fault, seed: int, kills: int
) -> None:
    story(tmp_path, masters, fault, "--engine", "local", seed=seed, kills=kills)


ON_RAY = {
    "cause": "the driver of an ingest on Ray is killed {kills} times at random, while its source grows and changes",
    "happens": "as with the local engine; chunks that its tasks had written are taken up",
}


@pytest.mark.ray
@pytest.mark.parametrize(
    ("seed", "kills"),
    [
        pytest.param(1, 2, marks=pytest.mark.fault(**ON_RAY)),
        pytest.param(2, 8, marks=pytest.mark.fault(**ON_RAY, long=True)),
    ],
)
def test_every_look_at_a_lake_whose_ingests_on_ray_are_killed_is_as_promised(
    ray_head: RayHead, masters: list[Path], tmp_path: Path, fault: Fault, seed: int, kills: int
) -> None:
    words = ("--engine", "ray", "--address", ray_head.address)
    story(tmp_path, masters, fault, *words, seed=seed, kills=kills, files=300, environment=ray_head.environment)


@pytest.fixture(scope="module")
def ray_head() -> Iterator[RayHead]:
    with RayHead(cpus=2) as head:
        yield head


TWO = {
    "cause": "two ingests write to one lake, and {kills} times at random one of them is killed",
    "happens": "whoever is left lands; both sources are in the lake once",
}


@pytest.mark.parametrize(
    ("seed", "kills"),
    [
        pytest.param(1, 2, marks=pytest.mark.fault(**TWO)),
        pytest.param(2, 10, marks=pytest.mark.fault(**TWO, long=True)),
    ],
)
def test_every_look_at_a_lake_of_two_writers_of_whom_one_is_killed_is_as_promised(
    masters: list[Path], tmp_path: Path, fault: Fault, seed: int, kills: int
) -> None:
    chance, lake = random.Random(seed), tmp_path / "lake"
    sources = [GrowingSource(tmp_path / name, masters, chance) for name in ("one", "other")]
    history, spent = History(str(lake)), 0.0
    with history.watching(), ExitStack() as over:
        for number in range(kills):
            for source in sources:
                source.grow(MORE_FILES)
            began = time.monotonic()
            running = [start(source.folder, lake, "--engine", "local") for source in sources]
            over.callback(lambda ended: [one.kill() for one in ended], running)
            kill_when_grown(running[number % 2], lake, chance)
            finish(running[1 - number % 2])
            spent += time.monotonic() - began
        began = time.monotonic()
        for source in sources:
            finish(start(source.folder, lake, "--engine", "local"))
        spent += time.monotonic() - began
    clean = sum(clean_seconds(source.folder, tmp_path / "clean") for source in sources)
    fault.lost(spent, than=clean)
    both = GrowingSource(tmp_path / "both", masters, chance)
    both.wanted = sources[0].wanted | sources[1].wanted
    as_promised(history, both, tmp_path / "clean", fault)
