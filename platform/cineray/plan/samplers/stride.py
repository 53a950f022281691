"""`stride`: every n-th frame as the file has them, beginning where `sampling.start` says.

    stride 3, start first     0 . . 3 . . 6 . . 9

The times of the frames are their own, so on a video of variable rate their distances differ, and the model is told.
"""

from __future__ import annotations

from cineray.plan.samplers.base import Sampler


class Stride(Sampler):
    """A run of every n-th frame; jitter moves each frame within its stride."""
