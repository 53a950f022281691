"""How far the feed on Ray Data goes ahead of its trainers, and what it takes for that: rows, tasks, memory, processes.

One embedded Ray serves all tests here. Ranks are threads of this process.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cineray.errors import UsageError
from cineray.feed import DataJob, FeedConfig, FeedSpec
from cineray.feed.throughput import feed_rate
from cineray.records import Batch
from cineray.testing.ranks import in_threads

ray = pytest.importorskip("ray")
from cineray.feed import ray_feed  # noqa: E402
from cineray.feed.ray_ahead import depth_of  # noqa: E402
from cineray.feed.ray_feed import RayFeed, RayOptions, ray_batches  # noqa: E402
from cineray.feed.ray_shard import spilled_bytes  # noqa: E402
from cineray.telemetry.ray_session import connected  # noqa: E402

SpecOf = Callable[..., FeedSpec]

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
]
STEP_BY_STEP = {"task_seconds": 0.0}
"""One window a task, as it is where a step is enough work."""


@pytest.fixture(scope="module", autouse=True)
def embedded_ray() -> Iterator[None]:
    with connected(num_cpus=2, object_store_memory=160_000_000):
        yield


@pytest.fixture
def rows_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], int]:
    """How many rows workers have begun to make."""
    file, real = tmp_path / "begun", ray_feed.make_row
    file.touch()

    def make_row(row: dict[str, Any], **told: Any) -> dict[str, Any]:
        with file.open("ab") as log:
            log.write(b".")
        return real(row, **told)

    monkeypatch.setattr(ray_feed, "make_row", make_row)
    return lambda: file.stat().st_size


def at_rest(count: Callable[[], int], *, at_least: int) -> int:
    """The count once it has come so far and grows no more for a second, however slow the machine is."""
    ends = time.monotonic() + 60
    seen, since = count(), time.monotonic()
    while (seen < at_least and time.monotonic() < ends) or time.monotonic() - since < 1:
        time.sleep(0.02)
        if count() != seen:
            seen, since = count(), time.monotonic()
    return seen


LARGE = {"frame": {"height": 256, "width": 256}}
"""Rows of 9.4 MB for a rank of one, so that the object store of 160 MB holds 16."""


@pytest.mark.parametrize(("rows_ahead", "world"), [(5, 1), (7, 2), (None, 1)])
def test_a_slow_trainer_stops_decoding_at_the_bound_and_nothing_spills(
    spec_of: SpecOf, rows_begun: Callable[[], int], rows_ahead: int | None, world: int
) -> None:
    spec, spilled = spec_of(**LARGE), spilled_bytes()
    row_bytes = RayFeed(RayOptions(spec=spec, **STEP_BY_STEP), range(1), world=world).row_bytes()
    assert row_bytes == 6 // world * 8 * 256 * 256 * 3
    ahead_bytes = rows_ahead * row_bytes if rows_ahead else None
    most = rows_ahead or int(0.8 * 0.5 * 160e6 / row_bytes)  # by default a share of what Ray Data may use of the store
    options = RayOptions(spec=spec, ahead_bytes=ahead_bytes, prefetch_steps=2, **STEP_BY_STEP)

    ranks = [shard.batches() for shard in RayFeed(options, range(60), world=world).shards()]
    for used in (1, 7):
        take(ranks, used)
        begun = at_rest(rows_begun, at_least=(used - 2) * world + most)
        assert (used - 2) * world + most <= begun <= used * world + most
    take(ranks, 60)
    assert spilled_bytes() == spilled


def test_a_feed_that_is_far_enough_ahead_leaves_the_cores_to_the_trainer(
    spec_of: SpecOf, rows_begun: Callable[[], int]
) -> None:
    """Ray Data asks again at once where no task is at work: most of a core, for as long as a trainer is slow."""
    spec = spec_of()
    row_bytes = RayFeed(RayOptions(spec=spec, **STEP_BY_STEP), range(1)).row_bytes()
    (shard,) = RayFeed(RayOptions(spec=spec, ahead_bytes=5 * row_bytes, **STEP_BY_STEP), range(60)).shards()
    batches = shard.batches()
    next(batches)
    at_rest(rows_begun, at_least=5)
    before, began = coordinator_seconds(), time.monotonic()
    time.sleep(3)
    assert coordinator_seconds() - before < 0.25 * (time.monotonic() - began)
    assert [batch.step for batch in batches] == [*range(1, 60)]


def coordinator_seconds() -> float:
    """Processor time of the actors that run Ray Data for all ranks."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "SplitCoordinator" in " ".join(process.cmdline()):
                total += sum(process.cpu_times()[:2])
    return total


@pytest.mark.parametrize("world", [1, 2])
def test_the_end_of_an_epoch_is_no_gap_in_what_is_decoded_ahead(
    spec_of: SpecOf, rows_begun: Callable[[], int], world: int
) -> None:
    """An epoch is 4 steps. Were the next one begun only when the last is used up, each end would be a pause as long as
    a task takes: here the rows of later epochs are begun while the last steps of one are still to come."""
    spec = spec_of()
    assert spec.open().plan.steps_per_epoch == 4
    row_bytes = RayFeed(RayOptions(spec=spec, **STEP_BY_STEP), range(1), world=world).row_bytes()
    most = 5 * world
    options = RayOptions(spec=spec, ahead_bytes=(most + world) * row_bytes, prefetch_steps=1, **STEP_BY_STEP)

    ranks = [shard.batches() for shard in RayFeed(options, range(24), world=world).shards()]
    for used in (3, 4, 5, 8):
        take(ranks, used)
        assert at_rest(rows_begun, at_least=(used - 1) * world + most) >= (used - 1) * world + most
    take(ranks, 24)


def take(ranks: list[Iterator[Batch]], used: int) -> None:
    """All ranks at once, up to the step before this one."""
    in_threads(ranks, lambda batches: next(batch for batch in batches if batch.step == used - 1))


@pytest.mark.parametrize(
    ("rows_per_second", "slow_task_seconds", "most", "depth"),
    [
        (0.0, 0.0, 100, 10 + 4),  # nothing measured yet: all cores, and one row for each rank
        (2.0, 0.5, 100, 10 + 1 + 4),  # what the trainer uses up while a task takes half a second
        (2.0, 30.0, 100, 10 + 60 + 4),  # a slow store: further ahead
        (2.0, 300.0, 100, 100),  # but never more than the bytes allow
    ],
)
def test_depth_follows_from_how_long_tasks_take(
    rows_per_second: float, slow_task_seconds: float, most: int, depth: int
) -> None:
    told = {"rows_per_second": rows_per_second, "slow_task_seconds": slow_task_seconds, "most": most}
    assert depth_of(at_work=10, world=4, **told) == depth  # type: ignore[arg-type]


def test_no_more_tasks_run_at_once_than_were_asked_for(
    spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, real = tmp_path / "log", ray_feed.make_row

    def make_row(row: dict[str, Any], **told: Any) -> dict[str, Any]:
        with file.open("a") as log:
            log.write("+")
        made = real(row, **told)
        time.sleep(0.1)  # long enough for others to begin meanwhile
        with file.open("a") as log:
            log.write("-")
        return made

    monkeypatch.setattr(ray_feed, "make_row", make_row)

    def most_at_once(workers: int) -> int:
        file.write_text("")
        list(ray_batches(RayOptions(spec=spec_of(), workers=workers, **STEP_BY_STEP), range(20)))
        log = file.read_text()
        return max(log[:at].count("+") - log[:at].count("-") for at in range(len(log)))

    assert most_at_once(workers=1) == 1
    assert most_at_once(workers=0) == 2


def test_a_bound_that_would_let_nothing_move_is_refused(spec_of: SpecOf) -> None:
    options = RayOptions(spec=spec_of(), ahead_bytes=4 * 165_888, prefetch_steps=2, **STEP_BY_STEP)
    with pytest.raises(UsageError, match=r"2 ranks with 2 rows in hand each.*take 829,440 \(a row is 165,888\)"):
        RayFeed(options, range(9), world=2).dataset()


# ---- long runs -------------------------------------------------------------------------------------------------------


def test_a_loop_that_is_left_early_leaves_no_thread(spec_of: SpecOf) -> None:
    before = set(threading.enumerate())
    batches = ray_batches(RayOptions(spec=spec_of()), range(1000))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) == before


def test_memory_is_flat_over_300_steps(spec_of: SpecOf) -> None:
    """Of this process, and of the largest of Ray's: how many of those there are, and which are new, is Ray's affair."""
    spec, own, seen = spec_of(clips_per_visit=4, frame={"height": 96, "width": 96}), psutil.Process(), []
    for batch in ray_batches(RayOptions(spec=spec, **STEP_BY_STEP), range(300)):
        if batch.step % 20 == 0:
            seen.append([unshared_bytes(own), max(unshared_bytes(process) for process in ours_of_ray(own))])
    grown = np.median(seen[-4:], axis=0) - np.median(seen[4:8], axis=0)
    assert max(grown) < 30e6, f"{np.round(np.array(seen) / 1e6)} MB"  # all pictures of those steps would be 200 MB


def unshared_bytes(process: psutil.Process) -> int:
    """Without the pages of the object store that a process has touched: those are fewer at first, and then all."""
    memory = process.memory_info()
    return int(memory.rss - memory.shared)


def ours_of_ray(own: psutil.Process) -> list[psutil.Process]:
    """The processes that decode and that schedule decoding."""
    names = ("ray::", "raylet")
    return [p for p in own.children(recursive=True) if p.name().startswith(names)]


def test_an_endless_run_starts_as_fast_and_with_as_few_processes_as_a_short_one(spec_of: SpecOf) -> None:
    batches, most = ray_batches(RayOptions(spec=spec_of()), range(10**7)), 0
    for batch in batches:
        most = max(most, sum(p.name().startswith("ray::ReadPlanRows") for p in ours_of_ray(psutil.Process())))
        if batch.step == 40:
            break
    batches.close()  # type: ignore[attr-defined]
    assert most <= 2, "one lists, and maybe one that has just done so"


def test_a_task_takes_as_many_windows_as_make_it_worth_its_while(spec_of: SpecOf) -> None:
    spec = spec_of()
    windows = [RayFeed(RayOptions(spec=spec, task_seconds=s), range(9)).windows_per_row for s in (0, 0.1, 1000)]
    assert windows[0] == 1 < windows[1] < windows[2] == 16
    large = spec_of(frame={"height": 512, "width": 512})
    assert RayFeed(RayOptions(spec=large, task_seconds=1000), range(9)).row_bytes() <= 64 << 20


def test_a_job_of_this_driver_can_be_measured(spec_of: SpecOf) -> None:
    job = DataJob(name="tiny", recipe=spec_of().recipe, seed=7, feed=FeedConfig(driver="ray", workers=2))
    rate = feed_rate(job, spec_of(), cores=2, seconds=0.5)
    assert (rate.clips % 6, rate.frames, rate.seconds >= 0.5) == (0, rate.clips * 8, True)
    assert rate.startup_seconds > 0
