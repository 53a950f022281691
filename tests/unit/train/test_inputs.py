"""From a batch to micro-batches: every clip once, all parts alike, and what only fills up counts for nothing."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from cineray.errors import UsageError
from cineray.train.inputs import inputs_of, micro_batches

IDS = {"left": 0, "right": 1}


@pytest.mark.parametrize(
    ("share", "largest", "micro_batch", "sizes"),
    [
        (5, 5, None, [5]),
        (2, 3, None, [2]),
        (5, 5, 2, [2, 2, 2]),
        (4, 4, 2, [2, 2]),
        (4, 5, 2, [2, 2, 2]),
        (1, 2, 1, [1, 1]),
        (3, 3, 8, [3]),
    ],
)
def test_every_clip_counts_once_and_all_parts_have_one_size(
    made: ModuleType, share: int, largest: int, micro_batch: int | None, sizes: list[int]
) -> None:
    inputs = inputs_of(made.made_batch(0, size=share), class_ids=IDS, captions=True)
    parts = micro_batches(inputs, largest_share=largest, micro_batch=micro_batch)
    assert [len(part) for part in parts] == sizes
    counted = [(part, b) for part in parts for b in range(len(part)) if part.weight_B[b]]
    assert [int(part.slots_B[b]) for part, b in counted] == list(range(share))
    assert sum(part.count for part in parts) == share
    for part, b in counted:
        slot = int(part.slots_B[b])
        assert torch.equal(part.frames_BTHWC[b], inputs.frames_BTHWC[slot])
        assert part.captions[b] == inputs.captions[slot]
        assert part.class_B[b] == inputs.class_B[slot]


def test_slots_are_those_of_the_global_batch(made: ModuleType) -> None:
    inputs = inputs_of(made.made_batch(3, rank=1, world=2))
    assert inputs.slots_B.tolist() == [2, 3, 4]
    assert inputs.class_B is None
    assert inputs.captions == ()


def test_pixels_are_not_copied_and_may_be_read_only(made: ModuleType) -> None:
    batch = made.made_batch(0)
    batch.frames_BTHWC.flags.writeable = False
    inputs = inputs_of(batch)
    assert inputs.frames_BTHWC.data_ptr() == batch.frames_BTHWC.ctypes.data


def test_a_clip_without_a_label_is_of_no_class_and_an_unknown_label_is_refused(made: ModuleType) -> None:
    batch = made.made_batch(0)
    assert inputs_of(made.without_labels(batch), class_ids=IDS).class_B.tolist() == [2] * 5
    with pytest.raises(UsageError, match=r"step 0: clips have the label '(left|right)', which is none of the job's 1"):
        inputs_of(batch, class_ids={"up": 0})
