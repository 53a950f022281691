"""Object stores that answer late, wrongly or not at all, and disks that are full: what comes is what would have come.

Between cineray and a real S3 server stands a proxy that does to every so many requests, of whatever kind, what stores
and networks do on a bad day. All that a lake, a feed and a training ask of a store goes through it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cineray.batch import batch_digest
from cineray.feed import DataJob, FeedConfig, FeedSpec, local_batches
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.storage import upload_file
from cineray.testing import broken_videos, make_shapes
from cineray.testing.fault_table import Fault
from cineray.testing.history import states_of
from cineray.train.checkpoint import Checkpoints
from cineray.train.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(900)]
LOCAL = EngineConfig(engine="local", workers=2)
STEPS = range(8)

BAD_DAYS = [("503", 3), ("reset", 3), ("truncate", 3), ("slow", 1)]
TOLD = {
    "503": "every {every}rd answer of the store is a 503",
    "reset": "every {every}rd connection to the store is reset",
    "truncate": "every {every}rd answer of the store ends in the middle",
    "slow": "each answer of the store comes a fifth of a second late",
    "stall": "every {every}th request is never answered",
}


def bad_days(doing: str, happens: str, *more: Any) -> Callable[[Any], Any]:
    """The test once for each bad day, each with its row; CI has the errors."""

    def cause(fault: str, every: int) -> str:
        return f"{TOLD[fault].format(every=every)}, {doing}"

    marked = [
        pytest.param(*day, marks=pytest.mark.fault(cause=cause(*day), happens=happens, long=day[0] != "503"))
        for day in (*BAD_DAYS, *more)
    ]
    return pytest.mark.parametrize(("trouble", "every"), marked)


class Weather:
    """Every so many requests meet a trouble, so that those that are tried again get through."""

    def __init__(self, trouble: str, every: int) -> None:
        self._trouble, self._every, self._counted = trouble, every, itertools.count(1)
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str) -> str:
        with self._lock:
            return self._trouble if next(self._counted) % self._every == 0 else ""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 videos, and 4 files that are none."""
    folder = tmp_path_factory.mktemp("storage-faults") / "videos"
    make_shapes(folder, videos=12)
    broken_videos(folder)
    return folder


@pytest.fixture
def stored(made: Path, s3_bucket: str) -> str:
    """They in a bucket."""
    for path in sorted(made.rglob("*.mp4")):
        upload_file(str(path), f"{s3_bucket}/videos/{path.relative_to(made)}")
    return s3_bucket


Through = Callable[[str, int], Any]


@pytest.fixture
def through(s3_server: Any, faulty_proxy: Any, monkeypatch: pytest.MonkeyPatch) -> Through:
    """From here on all goes through a proxy, and troubles begin."""

    def begin(trouble: str, every: int) -> Any:
        proxy = faulty_proxy(s3_server.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.weather = Weather(trouble, every)
        return proxy

    return begin


def ingested(bucket: str, lake: str) -> tuple[str, dict[str, str], float]:
    """What a lake is called for what is in it, each file's state, and the seconds that it took."""
    began = time.monotonic()
    config = IngestConfig(source=f"{bucket}/videos", lake=f"{bucket}/{lake}", max_reject_fraction=1)
    version = ingest(config, LOCAL).version
    seconds, opened = time.monotonic() - began, Lake.open(f"{bucket}/{lake}")
    tables = [opened.read(version, name).to_pylist() for name in ("media", "places", "clips")]
    states, wrong = states_of(*tables)
    assert wrong == []
    return version.fingerprint, states, seconds


@bad_days("under an ingest", "asked again; the lake is the same", ("stall", 40))
def test_an_ingest_from_and_into_a_store_on_a_bad_day_makes_the_same_lake(
    stored: str, through: Through, fault: Fault, trouble: str, every: int
) -> None:
    fingerprint, states, seconds = ingested(stored, "clean")
    proxy = through(trouble, every)
    found = ingested(stored, "lake")
    assert len(proxy.met) >= 3
    fault.lost(found[2], than=seconds)
    fault.same("files", found=found[1].items(), expected=states.items())
    assert found[0] == fingerprint


def feed_of(bucket: str) -> FeedSpec:
    recipe = Recipe(
        datasets=(DatasetSpec(lake=f"{bucket}/lake", split=None),),
        sampling=SamplingSpec(mode="random", frames=4, stride=2),
        frame=FrameSpec(height=32, width=32),
        batch_size=4,
    )
    return FeedSpec(recipe=recipe, seed=3).pinned()


def fed(spec: FeedSpec) -> tuple[list[str], float]:
    began = time.monotonic()
    batches = list(local_batches(spec, STEPS))
    assert not any(batch.substitutions for batch in batches)
    return [batch_digest([batch]) for batch in batches], time.monotonic() - began


@bad_days("under a feed", "asked again; the batches are the same, and no clip is replaced", ("stall", 30))
def test_a_feed_from_a_store_on_a_bad_day_gives_the_same_batches(
    stored: str, through: Through, fault: Fault, trouble: str, every: int
) -> None:
    ingested(stored, "lake")
    expected, seconds = fed(feed_of(stored))
    proxy = through(trouble, every)
    found, took = fed(feed_of(stored))
    assert len(proxy.met) >= 3
    fault.lost(took, than=seconds)
    fault.same("batches", found=found, expected=expected)
    assert found == expected


class Keep:
    """All checkpoints."""

    keep_last, keep_best, keep_every, best_metric = 100, 0, 0, ""


def state_of(value: float) -> dict[str, Any]:
    return {"model": {"w": torch.full((300_000,), value)}}


def saved_and_loaded(bucket: str, name: str, spec: FeedSpec) -> tuple[list[tuple[int, float]], float]:
    """(step, value) of the newest checkpoint after each of three was saved, each read by a reader that is new."""
    began, found = time.monotonic(), []
    job = DataJob(name="checkpoints", recipe=spec.recipe, seed=spec.seed, feed=FeedConfig(driver="local"))
    run = RunFolder.create(job, spec, f"{bucket}/{name}")
    for step in (1, 2, 3):
        Checkpoints(run, Keep()).save(state_of(step), step, blocking=True)
        found.append(newest(RunFolder.open(run.uri)))
    return found, time.monotonic() - began


def newest(run: RunFolder) -> tuple[int, float]:
    checkpoints, state = Checkpoints(run, Keep()), state_of(0)
    info = checkpoints.latest()
    assert info is not None
    checkpoints.load(state, info)
    (value,) = state["model"]["w"].unique().tolist()
    return info.step, value


@bad_days("under checkpoints", "asked again; each is whole, and the newest is gone on with", ("stall", 30))
def test_checkpoints_in_a_store_on_a_bad_day_are_whole_and_the_newest_is_found(
    stored: str, through: Through, fault: Fault, trouble: str, every: int
) -> None:
    ingested(stored, "lake")
    spec = feed_of(stored)
    expected, seconds = saved_and_loaded(stored, "clean", spec)
    proxy = through(trouble, every)
    found, took = saved_and_loaded(stored, "run", spec)
    assert len(proxy.met) >= 3
    fault.lost(took, than=seconds)
    fault.same("checkpoints", found=found, expected=expected)
    assert found == expected == [(1, 1.0), (2, 2.0), (3, 3.0)]
