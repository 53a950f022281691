"""A batch of nothing, of any shape: for trying out what a step takes before there is data."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from cineray.plan import BucketSpec
from cineray.records import Batch, ClipSpec, Crop


def blank_batch(bucket: BucketSpec, clips: int) -> Batch:
    """Black clips at one frame per second, without label and caption."""
    frames, height, width = bucket.shape
    spec = ClipSpec(
        clip_id="blank",
        video_id="blank",
        dataset=0,
        clip_number=0,
        epoch=0,
        draw=0,
        frame_numbers=tuple(range(frames)),
        frame_pts=tuple(range(frames)),
        time_base=Fraction(1),
        frame_is_real=(True,) * frames,
        crop=Crop(top=0, left=0, height=height, width=width, out_height=height, out_width=width),
    )
    return Batch(
        step=0,
        first_slot=0,
        global_size=clips,
        frames_BTHWC=np.zeros((clips, frames, height, width, 3), np.uint8),
        frame_is_real_BT=np.ones((clips, frames), np.bool_),
        seconds_BT=np.tile(np.arange(frames, dtype=np.float64), (clips, 1)),
        start_seconds_B=np.zeros(clips),
        specs=(spec,) * clips,
    )
