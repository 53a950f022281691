"""`uniform`: frames spread evenly over the whole span, in true time, whatever its length.

The span is cut into as many equal parts as the clip has frames, and each part gives the frame shown in its middle; with
jitter, at a random instant of the part. The same clip of a video at every visit, unless there is jitter.

    span      |-----------------------|      4 frames of 24 ticks
    instants     3     9     15    21
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from cineray.plan.draws import Draws
from cineray.plan.pace import Picked, fill_up
from cineray.plan.samplers.base import Sampler
from cineray.plan.stretch import Stretch

Ints = npt.NDArray[np.int64]
_PARTS = 1 << 20


class Uniform(Sampler):
    """The whole span, evenly. A span with fewer frames than the clip is short: no frame is shown twice in secret."""

    def room_samples(self, num_frames: Ints, ticks: Ints, time_base: Fraction) -> Ints:  # noqa: ARG002
        """Every frame of the span may be used once."""
        return num_frames

    def holds(self, room: Stretch) -> int:
        """The same for one room."""
        return room.num_frames

    def pick(
        self,
        span: Stretch,
        frames: int,
        draws: Draws,
        *,
        cuts_pts: tuple[int, ...] = (),  # noqa: ARG002
        window: int = 0,  # noqa: ARG002
    ) -> Picked:
        """The frames of one clip."""
        if span.num_frames < frames:
            numbers = list(range(span.first, span.stop))
            return fill_up(numbers, span.times_of(numbers), frames, self.sampling.short_videos)
        jitter = self.sampling.jitter
        moves = [0] * frames
        if jitter:  # in millionths of a part, up to half a part to either side
            width = max(1, int(jitter * _PARTS))
            moves = (draws.below_many(width, frames, "jitter") * 2 + 1 - width).tolist()
        part = 2 * frames * _PARTS
        instants = [
            span.start_pts + span.ticks * ((2 * number + 1) * _PARTS + move) // part
            for number, move in enumerate(moves)
        ]
        return Picked(span.frames_at(instants), instants, [True] * frames)
