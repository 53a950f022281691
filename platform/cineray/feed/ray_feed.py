"""The feed on Ray Data: a plan in words and a range of steps go in, every rank's batches come out, in order.

    rows (steps, rank) in order  ->  decode tasks on any node  ->  put in order again  ->  rank 0, rank 1, rank 0, ...

    feed = RayFeed(spec, range(0, 10_000), world=8)
    for batch in feed.shards()[rank].batches(): ...              scripts and tests
    TorchTrainer(..., datasets=PLACEHOLDER, dataset_config=data_config(options))   and in the train function:
    for batch in train_shard(options, range(start, stop)).batches(): ...

There are no epochs, segments or state: one dataset lists its rows lazily from the first step to the last, so nothing
pauses in between, and a restart makes a new one from the next step. Rows are decoded ahead within a bound of bytes
(`ray_ahead.py`), and each rank checks that what it gets is what is due (`ray_shard.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import ray
import ray.data

from cineray.feed import ray_scaling
from cineray.feed.ahead_bytes import Rows, rows_of
from cineray.feed.ray_ahead import Bound, install
from cineray.feed.ray_options import RayOptions, ray_options
from cineray.feed.ray_shard import RayShard
from cineray.feed.ray_tasks import PlanRows, make_row
from cineray.records import Batch

__all__ = ["DATASET", "RayFeed", "RayOptions", "data_config", "ray_batches", "ray_options", "train_shard"]

DATASET = "train"
"""The name under which Ray Train hands a rank its share."""


class RayFeed:
    """The batches of some steps for all ranks of a world, or (`ranks`) for some of them."""

    def __init__(self, options: RayOptions, steps: range, *, world: int = 1, ranks: range | None = None) -> None:
        self.options, self.steps, self.world = options, steps, world
        self.ranks = ranks if ranks is not None else range(world)

    @cached_property
    def rows(self) -> Rows:
        """How the plan is cut into rows: known before anything is decoded."""
        options = self.options
        return rows_of(
            options.spec, world=self.world, prefetch_steps=options.prefetch_steps, task_seconds=options.task_seconds
        )

    @property
    def windows_per_row(self) -> int:
        """How many windows one task makes."""
        return self.rows.windows

    def row_bytes(self) -> int:
        """How large the largest row is."""
        return self.rows.row_bytes

    def dataset(self) -> Any:
        """The Ray dataset whose rows are the ranks' batches, in the order in which they are due."""
        options = self.options
        steps_per_row = options.spec.recipe.clips_per_visit * self.windows_per_row
        rows = PlanRows(self.steps, steps_per_row, self.ranks)
        if options.ahead_bytes is not None:
            self.rows.check(options.ahead_bytes, ranks=len(self.ranks))
        context = ray.data.DataContext.get_current().copy()
        _set(context, options)
        bound = Bound(
            row_bytes=self.row_bytes(),
            world=len(self.ranks),
            in_hand=self.rows.in_hand,
            workers=options.workers,
            cpus_per_task=options.cpus_per_task,
            ahead_bytes=options.ahead_bytes,
        )
        install(context, bound)
        ray_scaling.install(context)
        with ray.data.DataContext.current(context):
            # Listing needs no core; asking for none also keeps Ray Data from joining the two into one task.
            listed = ray.data.read_datasource(
                rows,
                override_num_blocks=rows.listers,
                num_cpus=0,
                label_selector=_not_for_decoding(options),
                compute=ray.data.TaskPoolStrategy(size=1),
            )
            return listed.map_batches(
                make_row,
                fn_kwargs={
                    "spec": options.spec,
                    "world": self.world,
                    "in_hand": self.rows.in_hand,
                    "pass_name": uuid.uuid4().hex,
                },
                batch_size=None,
                num_cpus=options.cpus_per_task,
                compute=ray.data.TaskPoolStrategy(),
            )

    def iterators(self) -> list[Any]:
        """One Ray Data iterator per rank."""
        iterators: list[Any] = self.dataset().streaming_split(len(self.ranks), equal=False)
        return iterators

    def shards(self) -> list[RayShard]:
        """One shard per rank."""
        return [
            _shard(self.options, it, self.steps, rank) for rank, it in zip(self.ranks, self.iterators(), strict=True)
        ]


def ray_batches(options: RayOptions, steps: range, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """One rank's batches in a script that has no Ray Train: each such process has a dataset of its own."""
    (shard,) = RayFeed(options, steps, world=world, ranks=range(rank, rank + 1)).shards()
    return shard.batches()


def data_config(options: RayOptions, steps: Callable[[], range]) -> Any:
    """The `dataset_config` of a Ray Train trainer; `steps` is asked for what is left at every start of its workers.

    The trainer needs some dataset of the name `train` to ask for: `datasets={DATASET: lambda: ray.data.range(1)}`.
    """
    import ray.train

    class PlanDataConfig(ray.train.DataConfig):  # type: ignore[misc]
        """Gives each rank its share of the plan, whatever the world's size is this time."""

        def configure(self, datasets: Any, world_size: int, *_: Any, **__: Any) -> list[dict[str, Any]]:  # noqa: ARG002
            iterators = RayFeed(options, steps(), world=world_size).iterators()
            return [{DATASET: iterator} for iterator in iterators]

    return PlanDataConfig()


def train_shard(options: RayOptions, steps: range, *, counts_substitutes: bool = True) -> RayShard:
    """This rank's shard, inside a Ray Train worker. `steps` must be those that `data_config` was told.

    `counts_substitutes`: false where the caller adds them up over the ranks, which tells more than each one's share.
    """
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    shard = _shard(options, ray.train.get_dataset_shard(DATASET), steps, rank)
    if not counts_substitutes:
        shard.max_substituted_fraction = 1.0
    return shard


def _shard(options: RayOptions, iterator: Any, steps: range, rank: int) -> RayShard:
    return RayShard(
        iterator,
        steps,
        rank=rank,
        max_substituted_fraction=options.spec.recipe.max_substituted_fraction,
        stall_seconds=options.stall_seconds,
    )


def _not_for_decoding(options: RayOptions) -> dict[str, str] | None:
    """Where rows are listed: beside the trainers. A lister lives as long as its rows last, and a decoding node with one
    would never be idle, so that no autoscaler could take it away. Where all nodes decode, on any."""
    label = dict(options.decode_label or {})
    others = [node for node in ray.nodes() if node["Alive"] and not label.items() <= node["Labels"].items()]
    return {name: f"!{value}" for name, value in label.items()} if others else None


def _set(context: Any, options: RayOptions) -> None:
    """What ordered ingest needs of Ray Data; each line is there because something goes wrong without it."""
    context.target_max_block_size = 1  # listed rows leave one by one; a single row cannot be cut
    context.max_errored_blocks = 0  # a dropped block would move all later ranks
    context.execution_no_progress_timeout_s = -1  # a trainer that validates for an hour is healthy; we watch ourselves
    context.memory_usage_poll_interval_s = None  # or a thread in each task adds up its worker's pages every second
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options = ray.data.ExecutionOptions(
        preserve_order=True,
        verbose_progress=False,
        label_selector=dict(options.decode_label) if options.decode_label else None,
    )
