"""Specs and clips by hand: their pixels say which clip and which frame they are."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

from cineray.batch import allocate, assemble
from cineray.records import Batch, Clip, ClipSpec, Crop


@pytest.fixture
def spec_of() -> Callable[..., ClipSpec]:
    def make(number: int, *, frames: int = 3, padded: int = 0, caption: str | None = "a caption") -> ClipSpec:
        shown = [10 * number + t for t in range(frames - padded)]
        shown += [shown[-1]] * padded
        return ClipSpec(
            clip_id=f"clip{number}",
            video_id=f"video{number}",
            dataset=0,
            clip_number=number,
            epoch=0,
            draw=0,
            frame_numbers=tuple(shown),
            frame_pts=tuple(1001 * n for n in shown),
            time_base=Fraction(1, 30000),
            frame_is_real=(True,) * (frames - padded) + (False,) * padded,
            crop=Crop(top=0, left=0, height=4, width=6, out_height=4, out_width=6),
            caption=caption,
            label="label",
        )

    return make


@pytest.fixture
def batch_of(spec_of: Callable[..., ClipSpec]) -> Callable[..., Batch]:
    """A batch whose clip in slot n has pixels 10 * n + t."""

    def make(first: int, stop: int, size: int, **options: object) -> Batch:
        specs = [spec_of(number, **options) for number in range(first, stop)]
        frames = allocate(specs)
        for spec, slot in zip(specs, frames, strict=True):
            for t in range(len(slot)):
                slot[t] = 10 * spec.clip_number + t
        clips = [Clip(spec=s, frames_THWC=f, frames_decoded=5) for s, f in zip(specs, frames, strict=True)]
        return assemble(7, first, size, specs, clips, frames_BTHWC=frames)

    return make
