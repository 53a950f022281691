"""The feed on Ray Data: the same batches as the plain loop, whatever the world, however ranks are slow or fail.

One embedded Ray serves all tests here. Ranks are threads of this process, and once processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cineray.errors import FeedOrderError, FeedStalled, TooManySubstitutions, UsageError
from cineray.feed import DataJob, FeedConfig, FeedSpec, local_batches
from cineray.feed.throughput import feed_rate
from cineray.plan import BucketSpec, DatasetSpec, SamplingSpec
from cineray.records import Batch

ray = pytest.importorskip("ray")
from cineray.feed import ray_feed, ray_shard  # noqa: E402
from cineray.feed.ray_ahead import depth_of  # noqa: E402
from cineray.feed.ray_feed import RayFeed, RayOptions, ray_batches  # noqa: E402
from cineray.feed.ray_pull import RowPuller  # noqa: E402
from cineray.feed.ray_shard import RayShard, spilled_bytes  # noqa: E402
from cineray.feed.ray_tasks import PlanRows  # noqa: E402
from cineray.telemetry.ray_session import connected  # noqa: E402

SpecOf = Callable[..., FeedSpec]
Digests = Callable[[Iterable[Batch]], list[str]]
RankDigests = Callable[[Iterable[Iterable[Batch]]], list[str]]

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
]


@pytest.fixture(scope="module", autouse=True)
def embedded_ray() -> Iterator[None]:
    with connected(num_cpus=2, object_store_memory=160_000_000):
        yield


def in_threads(ranks: list[Any], eat: Callable[[Any], Any] = lambda shard: list(shard.batches())) -> list[Any]:
    """What each rank makes of its shard, all at the same time, as ranks do."""
    results: list[Any] = [None] * len(ranks)

    def run(rank: int) -> None:
        try:
            results[rank] = eat(ranks[rank])
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(ranks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


STEP_BY_STEP = {"task_seconds": 0.0}
"""One window a task, as it is where a step is enough work."""


def fed(spec: FeedSpec, steps: range, world: int, **options: Any) -> list[list[Batch]]:
    return in_threads(RayFeed(RayOptions(spec=spec, **options), steps, world=world).shards())


@pytest.mark.parametrize("each", [1, 4])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_same_batches_as_the_plain_loop(
    spec_of: SpecOf, digests: Digests, digests_of_ranks: RankDigests, each: int, world: int
) -> None:
    spec, steps = spec_of(clips_per_visit=each), range(1, 14)
    assert digests_of_ranks(fed(spec, steps, world, **STEP_BY_STEP)) == digests(local_batches(spec, steps))


def test_buckets_and_mixtures_too(
    spec_of: SpecOf, digests: Digests, digests_of_ranks: RankDigests, made_once: Path
) -> None:
    lake = str(made_once / "lake")
    datasets = (
        DatasetSpec(lake=lake, split=None, filter="variable_rate", weight=1),
        DatasetSpec(lake=lake, split=None, filter="NOT variable_rate", weight=2),
    )
    buckets = (
        BucketSpec(frames=20, height=32, width=32, batch_size=4, weight=1),
        BucketSpec(frames=8, height=48, width=48, batch_size=6, weight=2),
    )
    sampling = SamplingSpec(mode="random", stride=2)
    spec = spec_of(datasets=datasets, buckets=buckets, sampling=sampling, frame={}, batch_size=None, clips_per_visit=2)
    # So little work that a task takes many windows, of both shapes.
    assert RayFeed(RayOptions(spec=spec), range(12), world=2).windows_per_row > 3
    ranks = fed(spec, range(12), 2)
    assert {batch.frames_BTHWC.shape for batch in ranks[0]} == {(2, 20, 32, 32, 3), (3, 8, 48, 48, 3)}
    assert digests_of_ranks(ranks) == digests(local_batches(spec, range(12)))


def test_restarts_at_random_steps_with_other_worlds_go_on_as_if_nothing_had_happened(
    spec_of: SpecOf, digests: Digests, digests_of_ranks: RankDigests
) -> None:
    spec, generator = spec_of(clips_per_visit=4), random.Random(3)
    seen: list[str] = []
    while len(seen) < 20:
        world = generator.randint(1, 3)
        stop_after = generator.randint(1, 7)

        def some(shard: RayShard, count: int = stop_after) -> list[Batch]:
            batches = shard.batches()
            taken = [batch for _, batch in zip(range(count), batches, strict=False)]
            batches.close()  # type: ignore[attr-defined]
            return taken

        shards = RayFeed(RayOptions(spec=spec, **STEP_BY_STEP), range(len(seen), 20), world=world).shards()
        seen += digests_of_ranks(in_threads(shards, some))
    assert seen == digests(local_batches(spec, range(20)))


def test_ranks_in_processes_of_their_own(spec_of: SpecOf, digests: Digests) -> None:
    spec, steps = spec_of(clips_per_visit=4), range(8)

    @ray.remote(num_cpus=0)
    class Rank:
        def slots(self, shard: RayShard) -> list[tuple[int, list[bytes]]]:
            from cineray.batch.digest import slot_digest

            return [(batch.step, [slot_digest(batch, b) for b in range(3)]) for batch in shard.batches()]

    shards = RayFeed(RayOptions(spec=spec), steps, world=2).shards()
    ranks = [Rank.remote() for _ in shards]
    found = ray.get([rank.slots.remote(shard) for rank, shard in zip(ranks, shards, strict=True)])
    from cineray.batch.digest import slot_digest

    for (step, first), (_, second), batch in zip(*found, local_batches(spec, steps), strict=True):
        assert (step, first + second) == (batch.step, [slot_digest(batch, b) for b in range(6)])


def test_a_script_without_ray_train_gets_one_ranks_batches(
    spec_of: SpecOf, digests: Digests, digests_of_ranks: RankDigests
) -> None:
    options, steps = RayOptions(spec=spec_of()), range(5)
    ranks = [ray_batches(options, steps, rank=rank, world=2) for rank in range(2)]
    assert digests_of_ranks(ranks) == digests(local_batches(options.spec, steps))


def test_arrays_are_ray_shared_memory_and_not_copies(spec_of: SpecOf) -> None:
    (batch,) = ray_batches(RayOptions(spec=spec_of()), range(1))
    assert not batch.frames_BTHWC.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        batch.frames_BTHWC[0] = 0


# ---- bad media, errors -----------------------------------------------------------------------------------------------


def test_a_damaged_video_is_replaced_as_it_is_by_the_plain_loop(
    own_lake: Path, spec_of: SpecOf, damage: Callable[[Path], None], digests: Digests, digests_of_ranks: RankDigests
) -> None:
    spec, steps = spec_of(own_lake, max_substituted_fraction=1.0), range(8)
    supply = spec.open()
    damage(Path(supply.catalogs[0].located(supply.plan.batch(0)[2].clip_number)[1].uri))
    ranks = fed(spec, steps, 2)
    assert [one.slot for one in ranks[0][0].substitutions] == [2]
    assert digests_of_ranks(ranks) == digests(local_batches(spec, steps))
    with pytest.raises(TooManySubstitutions, match="could not be decoded"):
        fed(spec_of(own_lake, max_substituted_fraction=0.0), steps, 1)


def test_an_error_of_ours_in_a_worker_comes_out_as_it_was(spec_of: SpecOf) -> None:
    with pytest.raises(UsageError, match="was meant"):
        list(ray_batches(RayOptions(spec=dataclasses.replace(spec_of(), seed=8)), range(3)))


class Mixed:
    """Rows as they would come if Ray Data lost its order."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = iter(rows)

    def get(self, _seconds: float) -> dict[str, Any] | None:
        return next(self.rows, None)

    def look(self) -> None:
        pass

    close = look


def test_a_batch_that_is_not_due_stops_the_run(spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch) -> None:
    (iterator,) = RayFeed(RayOptions(spec=spec_of(), **STEP_BY_STEP), range(3), world=1).iterators()
    puller = RowPuller(iterator)
    rows = [puller.get(60) for _ in range(3)]
    assert puller.get(60) is None
    puller.close()
    monkeypatch.setattr(ray_shard, "RowPuller", Mixed)
    shard = RayShard([rows[0], rows[2], rows[1]], range(3), rank=0, max_substituted_fraction=0.0)
    with pytest.raises(FeedOrderError, match="was to get step 1 and got step 2 of rank 0"):
        list(shard.batches())
    shard = RayShard(rows, range(3), rank=1, max_substituted_fraction=0.0)
    with pytest.raises(FeedOrderError, match="rank 1 was to get step 0 and got step 0 of rank 0"):
        list(shard.batches())
    shard = RayShard(rows[:2], range(3), rank=0, max_substituted_fraction=0.0)
    with pytest.raises(FeedOrderError, match="no more rows where step 2 was due"):
        list(shard.batches())


def test_a_feed_that_gets_no_core_says_so_and_does_not_hang(spec_of: SpecOf) -> None:
    options = RayOptions(spec=spec_of(), decode_label={"ray-subcluster": "nowhere"}, stall_seconds=5)
    with pytest.raises(FeedStalled, match=r"no batch for 5 s, step 0 is due.*resources: \{.*'CPU': 2.0"):
        list(ray_batches(options, range(3)))


# ---- backpressure ----------------------------------------------------------------------------------------------------


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


# ---- what is relied on -----------------------------------------------------------------------------------------------


def test_rows_are_listed_window_by_window_for_all_ranks_and_in_few_tasks() -> None:
    rows = PlanRows(range(3, 11), 4, range(2))
    tasks = rows.get_read_tasks(1)
    listed = [row for task in tasks for table in task() for row in table.to_pylist()]
    expected = [(3, 4, 0), (3, 4, 1), (4, 8, 0), (4, 8, 1), (8, 11, 0), (8, 11, 1)]
    assert [(row["first_step"], row["stop_step"], row["rank"]) for row in listed] == expected
    assert len(tasks) == rows.listers == 1
    assert PlanRows(range(100_000), 1, range(8)).listers == 391
    endless = PlanRows(range(10**9), 1, range(64))
    assert endless.listers == len(endless.get_read_tasks(1)) == 1000


def test_ray_data_plans_the_two_operators_that_the_window_knows(spec_of: SpecOf) -> None:
    """Were they joined into one task, a single task would decode thousands of steps."""
    from ray.data._internal.logical.optimizers import get_execution_plan

    dataset = RayFeed(RayOptions(spec=spec_of()), range(4), world=2).dataset()
    plan, _ = get_execution_plan(dataset._logical_plan)
    names = [op.name for op in plan.dag.post_order_iter()]
    assert names == ["Input", "ReadPlanRows", "MapBatches(make_row)"]


# ---- under Ray Train -------------------------------------------------------------------------------------------------


def train(told: dict[str, Any]) -> None:
    """A train function that learns nothing: it writes down what it gets, and dies once."""
    import json

    import ray.train

    from cineray.batch.digest import slot_digest
    from cineray.feed.ray_feed import train_shard

    rank = ray.train.get_context().get_world_rank()
    folder = Path(told["folder"])
    start = told["steps_left"]()
    for batch in train_shard(told["options"], start).batches():
        slots = [slot_digest(batch, b).hex() for b in range(len(batch.specs))]
        (folder / f"{batch.step}-{rank}.json").write_text(json.dumps(slots))
        if batch.step == 5 and start.start == 0:
            raise RuntimeError("this worker dies once")


def test_ray_train_gives_each_rank_its_share_and_goes_on_after_a_failure(
    spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    import ray.train
    from ray.train.torch import TorchTrainer

    from cineray.batch.digest import slot_digest
    from cineray.feed.ray_feed import DATASET, data_config

    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # so that the test takes less long
    ray.cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])  # workers cannot import tests
    options, folder = RayOptions(spec=spec_of(clips_per_visit=2), stall_seconds=60, **STEP_BY_STEP), tmp_path / "seen"
    folder.mkdir()

    def steps_left() -> range:
        """As a checkpoint would say: all steps that both ranks have written are done."""
        done = 0
        while all((folder / f"{done}-{rank}.json").exists() for rank in range(2)):
            done += 1
        return range(done, 12)

    trainer = TorchTrainer(
        train,
        train_loop_config={"options": options, "folder": str(folder), "steps_left": steps_left},
        scaling_config=ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.25}),
        datasets={DATASET: lambda: ray.data.range(1)},
        dataset_config=data_config(options, steps_left),
        run_config=ray.train.RunConfig(
            storage_path=str(tmp_path / "runs"), failure_config=ray.train.FailureConfig(max_failures=1)
        ),
    )
    trainer.fit()

    for batch in local_batches(options.spec, range(12)):
        found = [json.loads((folder / f"{batch.step}-{rank}.json").read_text()) for rank in range(2)]
        assert found[0] + found[1] == [slot_digest(batch, b).hex() for b in range(6)]
