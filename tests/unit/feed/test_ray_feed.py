"""The feed on Ray Data: the same batches as the plain loop, whatever the world, however ranks are slow or fail.

One embedded Ray serves all tests here. Ranks are threads of this process, and once processes.
"""

from __future__ import annotations

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
from cineray.feed import FeedSpec, local_batches
from cineray.plan import BucketSpec, DatasetSpec, SamplingSpec
from cineray.records import Batch

ray = pytest.importorskip("ray")
from cineray.feed.ray_feed import RayFeed, RayOptions, ray_batches  # noqa: E402
from cineray.feed.ray_shard import RayShard, spilled_bytes  # noqa: E402
from cineray.feed.ray_tasks import PlanRows  # noqa: E402
from cineray.telemetry.ray_session import connected  # noqa: E402

SpecOf = Callable[..., FeedSpec]
Digests = Callable[[Iterable[Batch]], list[str]]
RankDigests = Callable[[Iterable[Iterable[Batch]]], list[str]]

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # A thread of Ray Data that still waits when Ray is ended leaves with SystemExit, which pytest reports.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def embedded_ray() -> Iterator[None]:
    with connected(num_cpus=2, object_store_memory=160_000_000):
        yield


def in_threads(
    shards: list[RayShard], eat: Callable[[RayShard], Any] = lambda shard: list(shard.batches())
) -> list[Any]:
    """What each rank makes of its shard, all at the same time, as ranks do."""
    results: list[Any] = [None] * len(shards)

    def run(rank: int) -> None:
        try:
            results[rank] = eat(shards[rank])
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(shards))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def fed(spec: FeedSpec, steps: range, world: int, **options: Any) -> list[list[Batch]]:
    return in_threads(RayFeed(RayOptions(spec=spec, **options), steps, world=world).shards())


@pytest.mark.parametrize("each", [1, 4])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_same_batches_as_the_plain_loop(
    spec_of: SpecOf, digests: Digests, digests_of_ranks: RankDigests, each: int, world: int
) -> None:
    spec, steps = spec_of(clips_per_visit=each), range(1, 14)
    assert digests_of_ranks(fed(spec, steps, world)) == digests(local_batches(spec, steps))


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

        shards = RayFeed(RayOptions(spec=spec), range(len(seen), 20), world=world).shards()
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
    """An iterator as Ray Data would be if it lost its order: rows of two steps changed places."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def iter_batches(self, **_: Any) -> Iterator[dict[str, Any]]:
        yield from self.rows


def test_a_batch_that_is_not_due_stops_the_run(spec_of: SpecOf) -> None:
    options = RayOptions(spec=spec_of())
    (iterator,) = RayFeed(options, range(3), world=1).iterators()
    rows = list(iterator.iter_batches(batch_size=1, batch_format="numpy"))
    shard = RayShard(Mixed([rows[0], rows[2], rows[1]]), range(3), rank=0, max_substituted_fraction=0.0)
    with pytest.raises(FeedOrderError, match="was to get step 1 and got step 2 of rank 0"):
        list(shard.batches())
    shard = RayShard(Mixed(rows), range(3), rank=1, max_substituted_fraction=0.0)
    with pytest.raises(FeedOrderError, match="rank 1 was to get step 0 and got step 0 of rank 0"):
        list(shard.batches())
    shard = RayShard(Mixed(rows[:2]), range(3), rank=0, max_substituted_fraction=0.0)
    with pytest.raises(FeedOrderError, match="no more rows where step 2 was due"):
        list(shard.batches())


def test_a_feed_that_gets_no_core_says_so_and_does_not_hang(spec_of: SpecOf) -> None:
    options = RayOptions(spec=spec_of(), decode_label={"ray-subcluster": "nowhere"}, stall_seconds=5)
    with pytest.raises(FeedStalled, match=r"no batch for 5 s, step 0 is due.*resources: \{.*'CPU': 2.0"):
        list(ray_batches(options, range(3)))


# ---- backpressure ----------------------------------------------------------------------------------------------------


def test_by_default_the_window_is_a_share_of_the_object_store(spec_of: SpecOf) -> None:
    spec, before = spec_of(frame={"height": 256, "width": 256}), spilled_bytes()
    for batch in ray_batches(RayOptions(spec=spec), range(40)):
        time.sleep(0.25 if batch.step < 8 else 0.0)
        if batch.step == 7:
            assert 3 < store_bytes() / batch.frames_BTHWC.nbytes < 0.4 * 16 + 3.1
    assert spilled_bytes() == before


def store_bytes() -> float:
    """What the object store holds now."""
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    address = ray.get_runtime_context().gcs_address
    return float(get_memory_info_reply(get_state_from_address(address)).store_stats.object_store_bytes_used)


def test_memory_is_flat_over_300_steps(spec_of: SpecOf) -> None:
    seen = []
    for batch in ray_batches(RayOptions(spec=spec_of(clips_per_visit=4)), range(300)):
        if batch.step % 20 == 0:
            own = psutil.Process()
            seen.append(sum(p.memory_info().rss for p in [own, *ours_of_ray(own)]))
    early, late = float(np.median(seen[4:8])), float(np.median(seen[-4:]))
    assert late - early < 30e6, f"{[round(rss / 1e6) for rss in seen]} MB"


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
