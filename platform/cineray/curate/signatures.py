"""What a video looks like over time, in few bytes: a `Footage` goes in, a `Signature` as text leaves.

    borders off -> low spatial frequencies of every frame -> mean over each period -> whole numbers

Two copies of one video keep it whatever codec, size, frame rate, letterbox or brightness they have. It is linear in the
pictures: so periods can be joined (two of 1/8 s are one of 1/4 s), differences in time are differences of signatures,
and a mirrored picture is the same numbers with every second sign turned. Periods are powers of two in seconds, counted
from the first frame, at most `LONGEST` of them; times are exact, from pts and time base.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cineray.curate.footage import Footage
from cineray.curate.measures.borders import Box, content_box
from cineray.curate.pictures import parts
from cineray.curate.stage import Columns
from cineray.errors import CinerayError

Exact = npt.NDArray[np.float64]

ROWS, COLUMNS = 6, 8
"""How many frequencies down and across; the first of all, the mean, is left out: light changes."""
LONGEST = 32
SHORTEST_PERIOD = Fraction(1, 8)
_HEADER = struct.Struct("<4sbHf")
_MAGIC = b"CRS1"

_down, _across = (part.reshape(-1)[1:] for part in np.mgrid[:ROWS, :COLUMNS])
WEIGHT_D = np.hypot(_down, _across)
"""Pictures have less of what is finer, in proportion: with this each frequency tells about as much."""
MIRROR_D = np.where(_across % 2, -1, 1).astype(np.int16)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signature:
    """K periods of D numbers: `look_KD * scale` are weighted frequencies in grey levels."""

    octave: int
    """A period lasts 2 ** octave eighths of a second."""
    scale: float
    look_KD: npt.NDArray[np.int16]

    @property
    def period_seconds(self) -> Fraction:
        """How long each of the K is."""
        return SHORTEST_PERIOD * (1 << self.octave)

    def to_text(self) -> str:
        """As a column holds it."""
        head = _HEADER.pack(_MAGIC, self.octave, len(self.look_KD), self.scale)
        return base64.b85encode(head + self.look_KD.astype("<i2").tobytes()).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> Signature:
        """The inverse of `to_text`."""
        data = base64.b85decode(text)
        if len(data) < _HEADER.size or not data.startswith(_MAGIC):
            raise CinerayError(f"not a signature of this format (starts with {data[:4]!r}); curate the video again")
        _, octave, count, scale = _HEADER.unpack_from(data)
        look_KD = np.frombuffer(data, "<i2", offset=_HEADER.size).reshape(count, -1).astype(np.int16)
        return cls(octave=octave, scale=scale, look_KD=look_KD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatures:
    """`signatures_text`: what `duplicates.py` compares; None where all is of one colour."""

    name: ClassVar[str] = "signatures"
    version: ClassVar[int] = 1
    gives: ClassVar[Mapping[str, type]] = {"signatures_text": str}

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        signature = signature_of(footage)
        return {"signatures_text": signature.to_text() if signature is not None else None}


def signature_of(footage: Footage) -> Signature | None:
    """The signature of a whole video; None where no picture has a pattern."""
    look_TD = frequencies(footage.gray_THW, content_box(footage.detail_NHW))
    start, lasts = int(footage.pts_T[0]), footage.end_pts - int(footage.pts_T[0])
    octave = octave_of(lasts * footage.video.time_base)
    period_ticks = SHORTEST_PERIOD * 2**octave / footage.video.time_base
    # Frame t belongs to the period in which it begins; a period in which none begins shows the last that did.
    period_T = np.array([int((int(pts) - start) / period_ticks) for pts in footage.pts_T])
    count = min(int(period_T[-1]) + 1, LONGEST)
    first_K = np.searchsorted(period_T, np.arange(count), side="left")
    past_K = np.searchsorted(period_T, np.arange(count), side="right")
    look_KD = np.stack(
        [look_TD[a:b].mean(axis=0) if b > a else look_TD[a - 1] for a, b in zip(first_K, past_K, strict=True)]
    )
    largest = float(np.abs(look_KD).max())
    if largest < 1.0:
        return None
    scale = float(np.float32(largest / 32_000))  # as its text holds it
    return Signature(octave=octave, scale=scale, look_KD=np.round(look_KD / scale).astype(np.int16))


def octave_of(lasts_seconds: Fraction) -> int:
    """The shortest period with which no more than `LONGEST` are needed."""
    octave = 0
    while SHORTEST_PERIOD * 2**octave * LONGEST < lasts_seconds:
        octave += 1
    return octave


def frequencies(gray_THW: npt.NDArray[np.uint8], box: Box) -> Exact:
    """(T, D): the cosine transform of the picture inside its box, low frequencies only, weighted."""
    height, width = gray_THW.shape[1:]
    down = _cosines(height, ROWS, box.top, box.bottom)
    across = _cosines(width, COLUMNS, box.left, box.right)
    # In double precision: what another machine's arithmetic does to the last bits does not reach a rounded number.
    found = [down @ part_THW.astype(np.float64) @ across.T for part_THW in parts(gray_THW)]
    return np.asarray(np.concatenate(found).reshape(len(gray_THW), -1)[:, 1:] * WEIGHT_D)


def _cosines(length: int, count: int, low: float, high: float) -> Exact:
    """(count, length): each cosine over the part from `low` to `high`, a pixel counted for as much as lies inside."""
    # A pixel half on the border is darker than the picture: half a pixel less is taken on such a side.
    low, high = low * length + 0.5 * (low > 0), high * length - 0.5 * (high < 1)
    edge = np.clip(np.arange(length + 1), low, high)
    place = (edge - low) / (high - low)
    order = np.arange(1, count)[:, None]
    whole = np.diff(place)[None]
    waves = np.diff(np.sin(np.pi * order * place) / (np.pi * order), axis=1)
    return np.asarray(np.concatenate([whole, waves * np.sqrt(2)]))
