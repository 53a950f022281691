"""`all_windows`: every window of a span, each once per epoch, for evaluation. Only their order is random.

Windows begin every `hop` frames of the clip. With `skip` only whole windows count; with `pad` or `loop` one more,
filled up, covers what would be left over.

    samples   0 1 2 3 4 5 6 7 8        frames=4, hop=4
    windows   0 0 0 0 1 1 1 1          skip: 2 windows
              0 0 0 0 1 1 1 1 2        pad: 3 windows, the last with one real frame
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cineray.plan.draws import Draws
from cineray.plan.pace import Picked, samples_from
from cineray.plan.samplers.base import Sampler
from cineray.plan.stretch import Stretch

Ints = npt.NDArray[np.int64]


class AllWindows(Sampler):
    """The window that was asked for, by its number."""

    def windows(self, samples: Ints, frames: int) -> Ints:
        """How many windows spans of so many samples have."""
        hop = self.sampling.hop or frames
        beyond = samples - frames
        if self.sampling.short_videos == "skip":
            return np.maximum(beyond // hop + 1, 0)
        return np.where(samples > 0, -(-np.maximum(beyond, 0) // hop) + 1, 0)

    def pick(
        self,
        span: Stretch,
        frames: int,
        draws: Draws,  # noqa: ARG002
        *,
        cuts_pts: tuple[int, ...] = (),  # noqa: ARG002
        window: int = 0,
    ) -> Picked:
        """The frames of one window."""
        first = window * (self.sampling.hop or frames)
        return samples_from(span, self.pace, first, frames, self.sampling.short_videos)
