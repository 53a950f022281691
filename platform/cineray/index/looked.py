"""What one look at a container found, before it becomes an `IndexedVideo`; `mp4.py` and `demux.py` both give it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cineray.index.facts import PictureFacts
from cineray.index.packets import Packets
from cineray.records import AudioStream


@dataclass(slots=True, kw_only=True)
class Looked:
    """One container, seen from outside. `shown` and `pts` are set where only a decoder could tell the frames' times."""

    container: str
    stream_index: int
    picture: PictureFacts
    rotation_degrees: int
    time_base: Fraction
    average_rate: Fraction | None
    nominal_rate: Fraction | None
    packets: Packets
    audio: tuple[AudioStream, ...]
    shown: npt.NDArray[np.int64] | None = None
    pts: npt.NDArray[np.int64] | None = None
    track: int = 0
    """The stream's own number in the container: a transport stream's PID."""
    extradata: bytes = b""
    header_bytes: bytes = b""
    """The header that identifies a remote file; empty where the whole file had to be read anyway."""

    @property
    def times_from(self) -> str:
        """As in `IndexedVideo`."""
        return "packets" if self.pts is None else "decoder"


class CountedReader(Protocol):
    """The part of `storage.RangeReader` that indexing uses."""

    size_bytes: int
    version_tag: str

    @property
    def counter(self) -> Any:
        """What was read so far."""

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from `offset`, fewer only where the place ends."""


def clockwise_degrees(counter_clockwise: float) -> int:
    """FFmpeg's angle (how the picture was turned, counter-clockwise) as the clockwise turn that shows it upright.

    Only quarter turns are kept: the nearest one is what a player shows.
    """
    return round(-counter_clockwise / 90) % 4 * 90
