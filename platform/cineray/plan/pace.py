"""How a clip steps through time: every n-th frame, or so many frames per second of true time.

A pace knows three things of a stretch: how many samples it holds when one begins at its start, from how many places a
clip can begin, and which frames and instants the samples are.

    stride 2    frames  0 1 2 3 4 5 6        samples 0 2 4 6
    fps 10      shown   |  0   |  1 | 2 |    instants 0, 1/10, 2/10, ... of a second: 0 0 1 1 2 (variable rate)

Instants are whole ticks of the video's time base, rounded down: frames begin on ticks, so the frame shown is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cineray.errors import UsageError
from cineray.plan.draws import Draws
from cineray.plan.stretch import Stretch

Ints = npt.NDArray[np.int64]


class Picked(NamedTuple):
    """The frames of one clip: display-order numbers, the instants that they stand for, and which are not padding."""

    frame_numbers: list[int]
    frame_pts: list[int]
    is_real: list[bool]


@dataclass(frozen=True, slots=True)
class ByStride:
    """Every `stride`-th frame, as the video has them."""

    stride: int

    def samples(self, num_frames: int, ticks: int, time_base: Fraction) -> int:  # noqa: ARG002
        """How many samples a stretch of so many frames holds."""
        return -(-num_frames // self.stride)

    def samples_many(self, num_frames: Ints, ticks: Ints, time_base: Fraction) -> Ints:  # noqa: ARG002
        """The same for many stretches at once."""
        return -(-num_frames // self.stride)

    def places(self, stretch: Stretch, frames: int) -> int:
        """From how many places a clip of so many frames can begin; at most 0 when it does not fit."""
        return stretch.num_frames - (frames - 1) * self.stride

    def take(self, stretch: Stretch, place: int, samples: range) -> tuple[list[int], list[int]]:
        """Frame numbers and instants of these samples of a run that begins at a place."""
        first = stretch.first + place
        numbers = [first + sample * self.stride for sample in samples]
        return numbers, stretch.times_of(numbers)

    def shift(self, stretch: Stretch, picked: Picked, jitter: float, draws: Draws) -> Picked:
        """Each frame moved by less than a stride."""
        most = int(jitter * (self.stride - 1))
        if not most:
            return picked
        moves = draws.below_many(most + 1, len(picked.frame_numbers), "jitter").tolist()
        pairs = zip(picked.frame_numbers, moves, strict=True)
        numbers = [min(number + move, stretch.stop - 1) for number, move in pairs]
        return Picked(numbers, stretch.times_of(numbers), picked.is_real)


@dataclass(frozen=True, slots=True)
class ByRate:
    """`per / seconds` instants per second of true time; each shows the frame that is on screen then."""

    per: int
    seconds: int

    def _step(self, time_base: Fraction) -> tuple[int, int]:
        """Ticks from one sample to the next, as numerator and denominator."""
        return self.seconds * time_base.denominator, self.per * time_base.numerator

    def samples(self, num_frames: int, ticks: int, time_base: Fraction) -> int:  # noqa: ARG002
        """How many samples a stretch of so many ticks holds: those whose instant is before its end."""
        step, per = self._step(time_base)
        return -(-(ticks * per) // step)

    def samples_many(self, num_frames: Ints, ticks: Ints, time_base: Fraction) -> Ints:
        """The same for many stretches at once, in exact integers also where 64 bits would overflow."""
        step, per = self._step(time_base)
        if ticks.size and int(ticks.max()) * per < 1 << 62 and step < 1 << 62:
            return -(-(ticks * per) // step)
        pairs = zip(num_frames.tolist(), ticks.tolist(), strict=True)
        return np.array([self.samples(count, length, time_base) for count, length in pairs], dtype=np.int64)

    def places(self, stretch: Stretch, frames: int) -> int:
        """From how many ticks a clip of so many frames can begin; at most 0 when it does not fit."""
        step, per = self._step(stretch.time_base)
        return stretch.ticks - (frames - 1) * step // per

    def take(self, stretch: Stretch, place: int, samples: range) -> tuple[list[int], list[int]]:
        """Frame numbers and instants of these samples of a run that begins at a place."""
        step, per = self._step(stretch.time_base)
        begin = stretch.start_pts + place
        instants = [begin + sample * step // per for sample in samples]
        return stretch.frames_at(instants), instants

    def shift(self, stretch: Stretch, picked: Picked, jitter: float, draws: Draws) -> Picked:
        """Each instant moved by at most `jitter` of the way to the next."""
        step, per = self._step(stretch.time_base)
        most = int(jitter * (step // per))
        if not most:
            return picked
        moves = draws.below_many(most, len(picked.frame_pts), "jitter").tolist()
        pairs = zip(picked.frame_pts, moves, strict=True)
        instants = [min(instant + move, stretch.end_pts - 1) for instant, move in pairs]
        return Picked(stretch.frames_at(instants), instants, picked.is_real)


Pace = ByStride | ByRate


def run_from(stretch: Stretch, pace: Pace, place: int, frames: int) -> Picked:
    """A clip that fits, begun at a place."""
    numbers, instants = pace.take(stretch, place, range(frames))
    return Picked(numbers, instants, [True] * frames)


def samples_from(stretch: Stretch, pace: Pace, first: int, frames: int, short: str) -> Picked:
    """A clip from sample number `first` of a stretch on, which may end before the clip does.

    `pad`: the last frame again, marked as not real. `loop`: from sample `first` again, and these are real.
    """
    held = pace.samples(stretch.num_frames, stretch.ticks, stretch.time_base) - first
    numbers, instants = pace.take(stretch, 0, range(first, first + min(frames, held)))
    return fill_up(numbers, instants, frames, short)


def fill_up(numbers: list[int], instants: list[int], frames: int, short: str) -> Picked:
    """Bring a clip that ran out of frames to its length, by padding or by looping."""
    held = len(numbers)
    if held < frames and short == "skip":
        raise UsageError(
            f"a clip of {frames} frames was drawn from a span that holds {held}, though sampling.short_videos is skip: "
            "the catalog called it eligible by other facts than its frame table's. Make the catalog's facts anew"
        )
    if short == "loop":
        order = [at % held for at in range(frames)]
        return Picked([numbers[at] for at in order], [instants[at] for at in order], [True] * frames)
    missing = frames - held
    return Picked(
        numbers + numbers[-1:] * missing, instants + instants[-1:] * missing, [True] * held + [False] * missing
    )
