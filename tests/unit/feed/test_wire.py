"""Batches on their way between processes, and as arrays for other libraries."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cineray.feed import (
    FeedSpec,
    Task,
    local_batch,
    local_batches,
    make_batches,
    numpy_batches,
    to_jax,
    to_numpy,
    to_tf,
)
from cineray.feed.visits import frames_bytes
from cineray.feed.wire import ARRAYS, pack, unpack
from cineray.plan import BucketSpec, DatasetSpec, FrameSpec, SamplingSpec
from cineray.records import Batch

SpecOf = Callable[..., FeedSpec]


def same(a: Batch, b: Batch) -> bool:
    fields = [field.name for field in dataclasses.fields(Batch)]
    arrays = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ARRAYS)
    return arrays and all(getattr(a, name) == getattr(b, name) for name in fields if name not in ARRAYS)


@pytest.mark.parametrize("each", [1, 4])
def test_there_and_back_is_the_same_batch_and_nothing_is_copied(
    spec_of: SpecOf, own_lake: Path, damage: Callable[[Path], None], each: int
) -> None:
    frame = FrameSpec(height=48, width=40, crop="random", flip=0.5)
    sampling = SamplingSpec(mode="fps", fps="30000/1001", frames=70, short_videos="pad")
    spec = spec_of(own_lake, clips_per_visit=each, frame=frame, sampling=sampling, max_substituted_fraction=1.0)
    supply = spec._opened()
    damage(Path(supply.catalogs[0].located(supply.plan.batch(0)[0].clip_number)[1].uri))
    task = Task(range(each))
    frames = np.empty(frames_bytes(supply, task), np.uint8)
    batches = make_batches(spec._opened(), task, out=frames)
    assert batches[0].substitutions
    assert not batches[0].frame_is_real_BT.all()
    arrays, meta = pack(batches, frames)
    back = unpack(arrays, meta)
    assert all(same(a, b) for a, b in zip(batches, back, strict=True))
    assert all(np.shares_memory(a.frames_BTHWC, b.frames_BTHWC) for a, b in zip(batches, back, strict=True))


def test_batches_of_several_shapes_travel_together(spec_of: SpecOf) -> None:
    buckets = (
        BucketSpec(frames=20, height=32, width=32, batch_size=4),
        BucketSpec(frames=8, height=48, width=40, batch_size=6),
    )
    sampling = SamplingSpec(mode="random", stride=2)
    batches = list(local_batches(spec_of(buckets=buckets, sampling=sampling, frame={}, batch_size=None), range(6)))
    assert len({batch.frames_BTHWC.shape for batch in batches}) == 2
    assert all(same(a, b) for a, b in zip(batches, unpack(*pack(batches)), strict=True))


def test_arrays_by_name_are_the_batchs_own(spec_of: SpecOf) -> None:
    batch = local_batch(spec_of(), 3)
    (arrays,) = numpy_batches([batch])
    assert arrays["frames_BTHWC"] is batch.frames_BTHWC
    assert arrays["slot_B"].tolist() == list(range(6))
    assert arrays["caption_B"].tolist() == [spec.caption for spec in batch.specs]
    assert arrays["has_caption_B"].all()
    assert int(arrays["step"]) == 3


def test_jax_gets_the_same_numbers(spec_of: SpecOf) -> None:
    jax = pytest.importorskip("jax")
    arrays = to_numpy(local_batch(spec_of(), 0))
    found = to_jax(arrays)
    assert isinstance(found["frames_BTHWC"], jax.Array)
    assert np.array_equal(np.asarray(found["frames_BTHWC"]), arrays["frames_BTHWC"])
    assert found["caption_B"] is arrays["caption_B"]


def test_tensorflow_gets_the_same_numbers(spec_of: SpecOf) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    arrays = to_numpy(local_batch(spec_of(), 0))
    found = to_tf(arrays)
    assert found["frames_BTHWC"].dtype == tensorflow.uint8
    assert np.array_equal(found["frames_BTHWC"].numpy(), arrays["frames_BTHWC"])
    assert [text.decode() for text in found["caption_B"].numpy()] == arrays["caption_B"].tolist()


def test_one_slot_of_a_mixture_of_datasets_remembers_its_own(spec_of: SpecOf, made_once: Path) -> None:
    lake = str(made_once / "lake")
    datasets = (
        DatasetSpec(lake=lake, split=None, filter="variable_rate", weight=1),
        DatasetSpec(lake=lake, split=None, filter="NOT variable_rate", weight=2),
    )
    (batch,) = local_batches(spec_of(datasets=datasets), range(1))
    (back,) = unpack(*pack([batch]))
    assert sorted(spec.dataset for spec in back.specs) == [0, 0, 1, 1, 1, 1]
