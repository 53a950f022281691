"""`fps`: resampled in true time, beginning where `sampling.start` says.

The instants are `1 / fps` seconds apart, exactly, and each shows the frame that is on screen then: on a video of
30000/1001 frames per second, or of a variable rate, some frames are shown twice or not at all, as a player would.
"""

from __future__ import annotations

from cineray.plan.samplers.base import Sampler


class Fps(Sampler):
    """A run of instants at a fixed rate; jitter moves each instant towards the next."""
