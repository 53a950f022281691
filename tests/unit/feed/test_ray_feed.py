"""The feed on Ray Data: the same batches as the plain loop, whatever the world, however ranks are slow or fail.

One embedded Ray serves all tests here. Ranks are threads of this process, and once processes.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cineray.errors import FeedOrderError, FeedStalled, TooManySubstitutions, UsageError
from cineray.feed import FeedSpec, local_batches
from cineray.plan import BucketSpec, DatasetSpec, SamplingSpec
from cineray.records import Batch
from cineray.testing.ranks import in_threads

ray = pytest.importorskip("ray")
from cineray.feed import ray_shard  # noqa: E402
from cineray.feed.ray_feed import RayFeed, RayOptions, ray_batches  # noqa: E402
from cineray.feed.ray_pull import RowPuller  # noqa: E402
from cineray.feed.ray_shard import RayShard  # noqa: E402
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
