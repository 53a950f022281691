"""What every sampling mode is: a stretch of video and random draws in, the frames of one clip out.

A mode says which stretches of a span a clip may come from (`rooms`), how many samples such a room holds
(`room_samples`), how many windows a span has (`windows`; only `all_windows` has more than one), and picks frames
(`pick`). It promises: as many frames as were asked for, all of them in bounds, times that never go back (but where a
short video begins again), and for the same draws the same frames.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from cineray.plan.draws import Draws
from cineray.plan.pace import ByRate, ByStride, Pace, Picked, run_from, samples_from
from cineray.plan.recipe import SamplingSpec
from cineray.plan.stretch import Stretch

Ints = npt.NDArray[np.int64]


class Sampler:
    """One sampling mode, told how by a recipe's `sampling`. This base takes a run of samples from anywhere."""

    looks_inside = False
    """Whether `rooms` looks at key frames or cuts, so that a span's length alone does not tell what fits."""

    def __init__(self, sampling: SamplingSpec) -> None:
        self.sampling = sampling
        rate = sampling.rate
        self.pace: Pace = (
            ByRate(rate.numerator, rate.denominator) if rate is not None else ByStride(sampling.stride or 1)
        )

    def rooms(self, span: Stretch, cuts_pts: tuple[int, ...] = ()) -> list[Stretch]:  # noqa: ARG002
        """The stretches of a span that a clip must not leave; at least one, for a span that has frames."""
        return [span]

    def room_samples(self, num_frames: Ints, ticks: Ints, time_base: Fraction) -> Ints:
        """How many samples rooms of so many frames and ticks hold: a clip of no more frames fits."""
        return self.pace.samples_many(num_frames, ticks, time_base)

    def windows(self, samples: Ints, frames: int) -> Ints | None:  # noqa: ARG002
        """How many windows spans of so many samples have, for a clip of `frames`; None: each span is one clip."""
        return None

    def pick(
        self,
        span: Stretch,
        frames: int,
        draws: Draws,
        *,
        cuts_pts: tuple[int, ...] = (),
        window: int = 0,  # noqa: ARG002
    ) -> Picked:
        """The frames of one clip."""
        rooms = self.rooms(span, cuts_pts)
        places = [self.pace.places(room, frames) for room in rooms]
        if max(places) > 0:
            return self.pick_in(rooms, places, frames, draws)
        longest = max(rooms, key=self.holds)
        return samples_from(longest, self.pace, 0, frames, self.sampling.short_videos)

    def pick_in(self, rooms: list[Stretch], places: list[int], frames: int, draws: Draws) -> Picked:
        """The frames of one clip that fits: a run from anywhere, each place of all rooms as likely as any other."""
        if len(rooms) == 1:
            return self.run(rooms[0], self._place(places[0], draws), frames, draws)
        place = self._place(sum(count for count in places if count > 0), draws)
        for room, count in zip(rooms, places, strict=True):
            if place < count:
                return self.run(room, place, frames, draws)
            place -= max(count, 0)
        raise AssertionError("a place below the sum of all places lies in one of the rooms")

    def _place(self, places: int, draws: Draws) -> int:
        start = self.sampling.start
        if start == "random":
            return draws.below(places, "start")
        return (places - 1) // 2 if start == "middle" else 0

    def run(self, room: Stretch, place: int, frames: int, draws: Draws) -> Picked:
        """A clip that begins at this place of a room and fits, with its jitter."""
        picked = run_from(room, self.pace, place, frames)
        jitter = self.sampling.jitter
        return self.pace.shift(room, picked, jitter, draws) if jitter else picked

    def holds(self, room: Stretch) -> int:
        """How many samples one room holds."""
        return self.pace.samples(room.num_frames, room.ticks, room.time_base)
