"""The feed for anybody's own PyTorch loop: steps go in, dicts of tensors come out, in a DataLoader with any workers.

    feed = TorchFeed(spec, range(0, 1000))                     rank and world from torch.distributed where it runs
    for batch in feed.loader(num_workers=4):                   or `for batch in feed`, in this process
        train(batch["frames_BTHWC"])
    torch.save(loader.state_dict(), ...)                       a few integers

A worker takes whole windows, the workers in turn, and a DataLoader asks them in turn: so the order is kept, and what is
decoded together stays together. With one clip per visit a window is a step, and a plain
`DataLoader(feed, batch_size=None, num_workers=n)` does the same as `loader`.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from cineray.errors import FeedStalled, UsageError
from cineray.feed.job import FeedConfig
from cineray.feed.limit import SubstitutionLimit
from cineray.feed.supply import FeedSpec, Supply
from cineray.feed.visits import make_batches, tasks_of
from cineray.feed.wire import ARRAYS
from cineray.records import Batch

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - read about, never written to by us
TorchBatch = dict[str, Any]
"""A Batch's fields by name, the arrays as tensors."""


def to_torch(batch: Batch) -> TorchBatch:
    """A batch as tensors that share its memory. Those of the Ray feed are read-only: copy before changing in place."""
    told: TorchBatch = {name: getattr(batch, name) for name in Batch.__slots__}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return told | {name: torch.from_numpy(told[name]) for name in ARRAYS}


def from_torch(told: TorchBatch) -> Batch:
    """The inverse, for tensors in main memory."""
    return Batch(**(told | {name: told[name].numpy() for name in ARRAYS}))


class TorchFeed(IterableDataset[Any]):
    """One rank's batches of some steps.

    Iterating stops with TooManySubstitutions above the recipe's fraction; each rank, and each worker of a plain
    DataLoader, counts what it makes itself.
    """

    def __init__(
        self, source: FeedSpec | Supply, steps: range, *, rank: int | None = None, world: int | None = None
    ) -> None:
        super().__init__()
        self.source, self.steps = source, steps
        self.rank, self.world = _placed(rank, world)
        self._by_window = False
        self._done = 0
        """Windows that this copy of the feed has handed out since `steps.start`; each worker has a copy."""
        self._limit = _limit_of(source)
        """Counts what this copy hands out; `loader` counts what all of them do."""

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        supply = self._supply()
        if supply.journal is not None:
            supply.journal.reload()
        each = supply.plan.recipe.clips_per_visit
        if worker is not None and each > 1 and not self._by_window:
            raise UsageError(
                f"clips_per_visit is {each}: the workers of a DataLoader hand out whole windows of so many steps; "
                "use feed.loader(num_workers=...), which takes them apart in order"
            )
        if worker is not None:
            torch.set_num_threads(1)
        number, workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        tasks = tasks_of(supply, self.steps, self.rank, self.world)
        for task in itertools.islice(tasks, number + self._done * workers, None, workers):
            batches = [to_torch(batch) for batch in make_batches(supply, task)]
            if worker is not None:
                self._done += 1
            if self._by_window:
                yield batches
                continue
            for batch in batches:
                _count(self._limit, batch)
                if worker is None:
                    self.steps = range(batch["step"] + 1, self.steps.stop)
                yield batch

    def _supply(self) -> Supply:
        return self.source.open() if isinstance(self.source, FeedSpec) else self.source

    def __len__(self) -> int:
        return len(self.steps)

    def state_dict(self) -> dict[str, int]:
        """Where to go on. A worker's copy counts its own windows: its state fits the same worker of as many."""
        return {"first_step": self.steps.start, "windows_done": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there, up to the same last step."""
        self.steps = range(int(state["first_step"]), self.steps.stop)
        self._done = int(state["windows_done"])

    def loader(self, num_workers: int = 0, **options: Any) -> TorchLoader:
        """Batches in the order of their steps, made by so many worker processes. `options` are DataLoader's."""
        return TorchLoader(self, num_workers, options)


class TorchLoader:
    """A DataLoader over whole windows, taken apart into steps. Iterating again goes on after the last batch."""

    def __init__(self, feed: TorchFeed, num_workers: int, options: dict[str, Any]) -> None:
        self._feed, self._workers, self._options = feed, num_workers, options
        self.next_step = feed.steps.start
        self._limit = _limit_of(feed.source)

    def __iter__(self) -> Iterator[TorchBatch]:
        feed = TorchFeed(
            self._feed.source,
            range(self.next_step, self._feed.steps.stop),
            rank=self._feed.rank,
            world=self._feed.world,
        )
        feed._by_window = True
        if self._workers and "lance" in sys.modules:
            # Forked workers would crash in a lake's tables that this process has opened.
            self._options.setdefault("multiprocessing_context", _fork_server())
        for window in _watched(DataLoader(feed, batch_size=None, num_workers=self._workers, **self._options)):
            for batch in window:
                if batch["step"] != self.next_step:
                    raise UsageError(
                        f"step {batch['step']} came where {self.next_step} was due: not a DataLoader's order"
                    )
                _count(self._limit, batch)
                self.next_step += 1
                yield batch

    def __len__(self) -> int:
        return len(self._feed.steps)

    def state_dict(self) -> dict[str, int]:
        """Where to go on: after the last batch that was handed out, whatever workers have made ahead."""
        return {"next_step": self.next_step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there, with any number of workers and ranks."""
        self.next_step = int(state["next_step"])


def loader_of(
    spec: FeedSpec, steps: range, feed: FeedConfig, *, rank: int | None = None, world: int | None = None
) -> TorchLoader:
    """What a job says of its feed, for PyTorch: so many workers, so many steps ready, and an end to waiting."""
    workers = feed.workers or len(os.sched_getaffinity(0))
    windows_each = -(-feed.prefetch_steps // (workers * spec.recipe.clips_per_visit))
    options = {"prefetch_factor": windows_each, "timeout": feed.no_batch_seconds}
    return TorchFeed(spec, steps, rank=rank, world=world).loader(workers, **options)


def _limit_of(source: FeedSpec | Supply) -> SubstitutionLimit:
    recipe = source.recipe if isinstance(source, FeedSpec) else source.plan.recipe
    return SubstitutionLimit(recipe.max_substituted_fraction)


def _count(limit: SubstitutionLimit, batch: TorchBatch) -> None:
    limit.count(len(batch["specs"]), batch["substitutions"], of=batch["global_size"])


def _watched(loader: DataLoader[Any]) -> Iterator[list[TorchBatch]]:
    try:
        yield from loader
    except RuntimeError as error:
        if "timed out" not in str(error):
            raise
        raise FeedStalled(
            f"no batch for {loader.timeout:g} s from {loader.num_workers} workers of a DataLoader; is the place of the "
            f"media slow, or a worker stuck? {_shared_memory()}A restart goes on from here"
        ) from error


def _shared_memory() -> str:
    """Workers hand batches on in it; one that finds it full says so to nobody, and waits for ever."""
    try:
        told = shutil.disk_usage(SHARED_MEMORY)
    except OSError:
        return ""
    return (
        f"Is there room for the batches that workers have ready: shared memory ({SHARED_MEMORY}) has "
        f"{told.free / 1e6:,.1f} of {told.total / 1e6:,.1f} MB free (docker run --shm-size=... gives more)? "
    )


def _fork_server() -> BaseContext:
    """Workers forked from a fresh process that has imported what they need, once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    return context


def _placed(rank: int | None, world: int | None) -> tuple[int, int]:
    """The rank and world that were given, or those of torch.distributed, or one alone."""
    if (rank is None) != (world is None):
        raise UsageError(f"rank is {rank} and world is {world}; give both, or neither to ask torch.distributed")
    if rank is not None and world is not None:
        return rank, world
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
