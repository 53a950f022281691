"""`keyframes`: clips that begin at a key frame, so that nothing before the clip must be decoded.

A span in which no key frame begins (a short cut out of a long group of pictures) has its clip from its own start.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cineray.plan.draws import Draws
from cineray.plan.pace import ByRate, Picked
from cineray.plan.samplers.base import Sampler
from cineray.plan.stretch import Stretch


class Keyframes(Sampler):
    """A run of samples that begins at any of the key frames from which it fits."""

    looks_inside = True

    def rooms(self, span: Stretch, cuts_pts: tuple[int, ...] = ()) -> list[Stretch]:  # noqa: ARG002
        """From the first key frame to the end of the span: whatever fits anywhere fits there."""
        keys = _key_frames(span)
        return [span.from_frame(int(keys[0]))] if keys.size else [span]

    def pick_in(self, rooms: list[Stretch], places: list[int], frames: int, draws: Draws) -> Picked:
        """From one of the key frames of the room."""
        room = rooms[0]
        keys = _key_frames(room)
        if not keys.size:
            return self.run(room, 0, frames, draws)
        in_ticks = isinstance(self.pace, ByRate)
        starts = room.table.pts[keys] - room.start_pts if in_ticks else keys - room.first
        fitting = starts[starts < places[0]]
        start = int(fitting[draws.below(len(fitting), "start")])
        return self.run(room, start, frames, draws)


def _key_frames(stretch: Stretch) -> npt.NDArray[np.int64]:
    return np.flatnonzero(stretch.table.key[stretch.first : stretch.stop]) + stretch.first
