"""A batch is what its clips are, in the order of the slots, without a copy of what was decoded into it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cineray.batch import allocate, assemble, text_of
from cineray.errors import UsageError
from cineray.records import Batch, Clip, ClipSpec, Substitution

SpecOf = Callable[..., ClipSpec]


def clip(spec: ClipSpec, value: int) -> Clip:
    return Clip(spec=spec, frames_THWC=np.full((3, 4, 6, 3), value, np.uint8), frames_decoded=value)


def test_clips_decoded_into_the_batch_are_not_copied(spec_of: SpecOf) -> None:
    specs = [spec_of(0), spec_of(1)]
    frames = allocate(specs)
    assert frames.shape == (2, 3, 4, 6, 3)
    frames[...] = 9
    clips = [Clip(spec=s, frames_THWC=f, frames_decoded=1) for s, f in zip(specs, frames, strict=True)]
    batch = assemble(0, 0, 2, specs, clips, frames_BTHWC=frames)
    assert batch.frames_BTHWC is frames
    assert np.all(frames == 9)


def test_a_clip_that_was_decoded_elsewhere_is_put_into_its_slot(spec_of: SpecOf) -> None:
    specs = [spec_of(0), spec_of(1)]
    frames = allocate(specs)
    frames[...] = 9
    there = Clip(spec=specs[0], frames_THWC=frames[0], frames_decoded=1)
    batch = assemble(0, 0, 2, specs, [there, clip(specs[1], 4)], frames_BTHWC=frames)
    assert (batch.frames_BTHWC[0].max(), batch.frames_BTHWC[1].min(), batch.frames_BTHWC[1].max()) == (9, 4, 4)


def test_clips_without_a_common_array_are_gathered(spec_of: SpecOf) -> None:
    specs = [spec_of(0), spec_of(1)]
    batch = assemble(0, 0, 2, specs, [clip(specs[0], 3), clip(specs[1], 4)])
    assert batch.frames_BTHWC[:, 0, 0, 0, 0].tolist() == [3, 4]
    assert batch.frames_decoded == 7


def test_times_are_exact_seconds_since_the_clips_first_frame(spec_of: SpecOf) -> None:
    spec = spec_of(2, padded=1)
    batch = assemble(0, 0, 1, [spec], [clip(spec, 0)])
    assert batch.seconds_BT.tolist() == [[0.0, 1001 / 30000, 1001 / 30000]]
    assert batch.start_seconds_B.tolist() == [20 * 1001 / 30000]
    assert batch.frame_is_real_BT.tolist() == [[True, True, False]]


def test_missing_text_has_a_mask(batch_of: Callable[..., Batch], spec_of: SpecOf) -> None:
    specs = [spec_of(0), spec_of(1, caption=None), spec_of(2, caption="")]
    batch = assemble(0, 0, 3, specs, [clip(s, 0) for s in specs])
    texts, there = text_of(batch)
    assert (texts, there.tolist()) == (["a caption", "", ""], [True, False, True])


def test_substitutions_travel_with_the_batch(spec_of: SpecOf) -> None:
    spec = spec_of(5)
    stood_in = Substitution(
        step=0, slot=0, wanted_clip_id="clip0", used_clip_id="clip5", reason="truncated", detail="cut short"
    )
    assert assemble(0, 0, 1, [spec], [clip(spec, 0)], [stood_in]).substitutions == (stood_in,)


def test_what_does_not_fit_together_is_refused(spec_of: SpecOf) -> None:
    specs = [spec_of(0), spec_of(1)]
    clips = [clip(spec, 0) for spec in specs]
    with pytest.raises(UsageError, match="2 specs and 1 clips"):
        assemble(3, 0, 2, specs, clips[:1])
    with pytest.raises(UsageError, match=r"step 3, slot 4: the clip is of clip1 .* the spec of clip0"):
        assemble(3, 4, 6, specs, clips[::-1])
    with pytest.raises(UsageError, match="a batch has one shape"):
        allocate([spec_of(0), spec_of(1, frames=4)])
    with pytest.raises(UsageError, match="wanted contiguous uint8"):
        assemble(3, 0, 2, specs, clips, frames_BTHWC=np.zeros((2, 3, 4, 6, 4), np.uint8))
