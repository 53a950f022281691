"""The feed for PyTorch: the same batches as the plain loop, with any workers, from any state."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from cineray.errors import TooManySubstitutions, UsageError
from cineray.feed import FeedSpec, TorchFeed, from_torch, local_batches, to_torch
from cineray.plan import BucketSpec
from cineray.records import Batch

SpecOf = Callable[..., FeedSpec]
Digests = Callable[[Iterable[Batch]], list[str]]


def numpys(batches: Iterable[dict[str, Any]]) -> list[Batch]:
    return [from_torch(batch) for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("each", [1, 4])
def test_the_same_batches_as_the_plain_loop(spec_of: SpecOf, digests: Digests, workers: int, each: int) -> None:
    spec, steps = spec_of(clips_per_visit=each), range(1, 14)
    loader = TorchFeed(spec, steps).loader(num_workers=workers)
    assert digests(numpys(loader)) == digests(local_batches(spec, steps))


def test_a_plain_dataloader_does_where_a_window_is_a_step(spec_of: SpecOf, digests: Digests) -> None:
    spec, steps = spec_of(), range(7)
    loader = DataLoader(TorchFeed(spec, steps), batch_size=None, num_workers=2, multiprocessing_context="forkserver")
    assert digests(numpys(loader)) == digests(local_batches(spec, steps))


def test_in_this_process_steps_come_one_by_one(spec_of: SpecOf, digests: Digests) -> None:
    spec, steps = spec_of(clips_per_visit=4), range(3, 11)
    assert digests(numpys(TorchFeed(spec, steps))) == digests(local_batches(spec, steps))


def test_a_plain_dataloader_with_longer_windows_says_what_to_do(spec_of: SpecOf) -> None:
    feed = TorchFeed(spec_of(clips_per_visit=4), range(8))
    loader = DataLoader(feed, batch_size=None, num_workers=1, multiprocessing_context="forkserver")
    with pytest.raises(UsageError, match=r"use feed\.loader"):
        list(loader)


def test_a_state_goes_on_after_the_last_batch_with_other_workers(spec_of: SpecOf, digests: Digests) -> None:
    spec, steps = spec_of(clips_per_visit=4), range(2, 15)
    expected = digests(local_batches(spec, steps))
    first = TorchFeed(spec, steps).loader(num_workers=2)
    iterator = iter(first)
    seen = [next(iterator) for _ in range(5)]
    state = first.state_dict()
    assert state == {"next_step": 7}
    del iterator
    second = TorchFeed(spec, steps).loader(num_workers=1)
    second.load_state_dict(state)
    assert digests(numpys([*seen, *second])) == expected


def test_the_state_of_the_feed_itself_is_a_step(spec_of: SpecOf, digests: Digests) -> None:
    spec, steps = spec_of(clips_per_visit=4), range(2, 15)
    feed = TorchFeed(spec, steps)
    iterator = iter(feed)
    for _ in range(4):
        next(iterator)
    resumed = TorchFeed(spec, range(15))
    resumed.load_state_dict(feed.state_dict())
    assert digests(numpys(resumed)) == digests(local_batches(spec, range(6, 15)))


def test_ranks_share_each_batch(spec_of: SpecOf, digests: Digests, digests_of_ranks: Callable[..., list[str]]) -> None:
    spec, steps = spec_of(clips_per_visit=4), range(6)
    ranks = [numpys(TorchFeed(spec, steps, rank=rank, world=3).loader()) for rank in range(3)]
    assert digests_of_ranks(ranks) == digests(local_batches(spec, steps))


def test_rank_and_world_come_from_torch_distributed(spec_of: SpecOf, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        feed = TorchFeed(spec_of(), range(2))
        assert (feed.rank, feed.world) == (0, 1)
    finally:
        torch.distributed.destroy_process_group()
    with pytest.raises(UsageError, match="give both, or neither"):
        TorchFeed(spec_of(), range(2), rank=1)


def test_buckets_come_in_their_own_shapes(spec_of: SpecOf, digests: Digests) -> None:
    from cineray.plan import SamplingSpec

    buckets = (
        BucketSpec(frames=20, height=32, width=32, batch_size=4),
        BucketSpec(frames=8, height=48, width=48, batch_size=6),
    )
    sampling, frame = SamplingSpec(mode="random", stride=2), {}
    spec = spec_of(buckets=buckets, sampling=sampling, frame=frame, batch_size=None, clips_per_visit=2)
    batches = numpys(TorchFeed(spec, range(12)).loader(num_workers=2))
    assert {batch.frames_BTHWC.shape for batch in batches} == {(4, 20, 32, 32, 3), (6, 8, 48, 48, 3)}
    assert digests(batches) == digests(local_batches(spec, range(12)))


def plain(feed: TorchFeed) -> Iterable[dict[str, Any]]:
    return DataLoader(feed, batch_size=None, num_workers=1, multiprocessing_context="forkserver")


@pytest.mark.parametrize("way", [iter, plain, TorchFeed.loader], ids=["iter", "DataLoader", "loader"])
def test_every_way_stops_where_more_is_replaced_than_the_recipe_allows(
    own_lake: Path, spec_of: SpecOf, damage: Callable[[Path], None], way: Callable[..., Iterable[dict[str, Any]]]
) -> None:
    supply = spec_of(own_lake).open()
    damage(Path(supply.catalogs[0].located(supply.plan.batch(2)[2].clip_number)[1].uri))
    seen: list[int] = []
    batches = way(TorchFeed(spec_of(own_lake, max_substituted_fraction=0.0), range(5)))
    with pytest.raises(TooManySubstitutions, match=r"clips of the last \d steps could not be decoded"):
        seen.extend(batch["step"] for batch in batches)
    assert seen == [0, 1]


def test_tensors_share_the_arrays_memory(spec_of: SpecOf) -> None:
    (batch,) = local_batches(spec_of(), range(1))
    tensors = to_torch(batch)
    assert tensors["frames_BTHWC"].data_ptr() == batch.frames_BTHWC.__array_interface__["data"][0]


def test_a_fork_after_the_lake_was_read_is_refused_and_not_a_crash(spec_of: SpecOf) -> None:
    spec_of().open()
    loader = DataLoader(
        TorchFeed(spec_of(seed=11), range(4)), batch_size=None, num_workers=1, multiprocessing_context="fork"
    )
    with pytest.raises(UsageError, match="forkserver"):
        list(loader)


def test_a_worker_that_was_forked_before_the_lake_was_read_is_fine(made_once: Path) -> None:
    """A process that leaves the plan to its workers needs no fork server."""
    code = f"""
import sys
from cineray.feed import FeedSpec, TorchFeed
from cineray.plan import DatasetSpec, Recipe, SamplingSpec
recipe = Recipe(datasets=(DatasetSpec(lake={str(made_once / "lake")!r}, version="1", split=None),), batch_size=4,
                sampling=SamplingSpec(frames=4))
steps = [batch["step"] for batch in TorchFeed(FeedSpec(recipe=recipe), range(6)).loader(num_workers=2)]
assert "lance" not in sys.modules
print(steps)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout.strip() == "[0, 1, 2, 3, 4, 5]", done.stderr
