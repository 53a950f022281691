"""The seam between a visit and a decoder: what each decoder must offer. A new one is a class in `registry.DECODERS`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cineray.decode.geometry import Pixels
from cineray.decode.options import DecodeOptions
from cineray.decode.reasons import Deadline, DecodeFault
from cineray.decode.visit_file import VisitFile
from cineray.records import Crop, IndexedVideo


class Picture(Protocol):
    """One decoded frame. Good until the next one is asked for."""

    def write(self, crop: Crop, into_HWC: Pixels) -> None:
        """Cut, resize, turn and mirror it into an array of (crop.out_height, crop.out_width, 3)."""
        ...


class FrameDecoder(Protocol):
    """One open video. For one thread and one process."""

    decoded: int
    """Frames that the decoder had to produce since it was opened."""
    faults: dict[int, DecodeFault]
    """Of the last call of `pictures`: why a frame did not come."""

    def __init__(self, video: IndexedVideo, file: VisitFile) -> None: ...

    def pictures(
        self, frames: Sequence[int], deadline: Deadline, options: DecodeOptions
    ) -> Iterator[tuple[int, Picture]]:
        """Each of these frames once, in one pass forward; those that cannot be had are in `faults` afterwards.

        `frames` are sorted and distinct. Raises `DecodeFault` for what concerns all of them.
        """
        ...

    def close(self) -> None:
        """Let go of the decoder, not of the file."""
        ...
