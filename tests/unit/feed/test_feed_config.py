"""Every field of a job's `feed` decides something: for Ray, for PyTorch, or for both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from cineray.config import check
from cineray.errors import FeedStalled, UsageError
from cineray.feed import FeedConfig, FeedSpec, from_torch, loader_of, local_batches
from cineray.feed import torch_feed as torch_module
from cineray.records import Batch

pytest.importorskip("ray")
from cineray.feed.ray_options import RayOptions, ray_options

SpecOf = Callable[..., FeedSpec]


def test_ray_is_told_every_field_that_is_not_the_choice_of_a_driver(spec_of: SpecOf) -> None:
    told = FeedConfig(
        workers=3,
        prefetch_steps=5,
        no_batch_seconds=7,
        task_seconds=0.5,
        cpus_per_task=0.25,
        ahead_bytes=1_000_000,
        decode_subcluster="decode",
    )
    assert ray_options(spec_of(), told) == RayOptions(
        spec=spec_of(),
        workers=3,
        prefetch_steps=5,
        stall_seconds=7,
        task_seconds=0.5,
        cpus_per_task=0.25,
        ahead_bytes=1_000_000,
        decode_label={"ray-subcluster": "decode"},
    )
    assert len(FeedConfig.model_fields) == len(RayOptions.__dataclass_fields__), "`driver` here, `spec` there"


def test_what_a_job_leaves_out_is_what_ray_is_not_told(spec_of: SpecOf) -> None:
    assert ray_options(spec_of(), FeedConfig()) == RayOptions(spec=spec_of())


@pytest.mark.parametrize(
    ("field", "value"), [("workers", -1), ("prefetch_steps", 0), ("cpus_per_task", 0), ("task_seconds", -1)]
)
def test_values_that_cannot_be_are_refused_by_name(spec_of: SpecOf, field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=field):
        check(FeedConfig, {field: value})
    with pytest.raises(UsageError, match=field):
        RayOptions(spec=spec_of(), **{field: value})


def test_every_field_is_documented() -> None:
    assert [name for name, field in FeedConfig.model_fields.items() if not field.description] == []


def test_pytorch_is_told_how_many_work_and_how_many_steps_lie_ready(
    spec_of: SpecOf, digests: Callable[[Iterable[Batch]], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    real = torch_module.DataLoader

    def noted(feed: Any, **options: Any) -> Any:
        seen.append(options)
        return real(feed, **options)

    monkeypatch.setattr(torch_module, "DataLoader", noted)
    spec, steps = spec_of(clips_per_visit=2), range(6)
    loader = loader_of(spec, steps, FeedConfig(workers=2, prefetch_steps=10, no_batch_seconds=99))
    assert digests(map(from_torch, loader)) == digests(local_batches(spec, steps))
    # Two workers with three windows of two steps each: twelve steps, the least that is ten or more.
    assert (seen[0]["num_workers"], seen[0]["prefetch_factor"], seen[0]["timeout"]) == (2, 3, 99)


def test_pytorch_workers_that_bring_nothing_end_the_run(spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_module.TorchFeed, "__iter__", lambda _: iter(lambda: time.sleep(60), "never"))
    loader = loader_of(spec_of(), range(3), FeedConfig(workers=1, no_batch_seconds=1))
    loader._options["multiprocessing_context"] = "fork"  # so that the worker sleeps, too
    with pytest.raises(FeedStalled, match=r"no batch for 1 s from 1 workers of a DataLoader"):
        next(iter(loader))
