"""Sound: mono samples at 16 kHz go in; whether there is any, how loud it is, and how much of it is silent leaves.

Loudness is the plain root mean square over full scale, in decibels (dBFS), of the parts that are not silent: a full
sine is -3. It is not EBU R128 (no weighting of what ears hear best), and differs from that by some decibels. Digital
silence has no loudness: None. A stream that is declared and holds no sample counts as absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cineray.curate.footage import AUDIO_RATE, Footage
from cineray.curate.stage import Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """`sound_present`, `_dbfs`, `_peak_dbfs`, `_silent_fraction`, `_clipped`, and `_covers` (of the video's time)."""

    name: ClassVar[str] = "sound"
    version: ClassVar[int] = 1
    gives: ClassVar[Mapping[str, type]] = {
        "sound_present": bool,
        "sound_covers": float,
        "sound_dbfs": float,
        "sound_peak_dbfs": float,
        "sound_silent_fraction": float,
        "sound_clipped": float,
    }
    silent_dbfs: float = -60.0
    """A tenth of a second below this is silent."""
    clipped: float = 0.999
    """Of full scale: a sample at or beyond it was probably cut off."""

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        if footage.audio is None or not len(footage.audio):
            absent: Columns = dict.fromkeys(("sound_dbfs", "sound_peak_dbfs", "sound_silent_fraction", "sound_clipped"))
            return {"sound_present": False, "sound_covers": 0.0} | absent
        samples = footage.audio.astype(np.float64)
        power = _power(samples, AUDIO_RATE // 10)
        loud = power > 10 ** (self.silent_dbfs / 10)
        return {
            "sound_present": True,
            "sound_covers": _covers(footage, len(samples)),
            "sound_dbfs": decibels(float(power[loud].mean())) if loud.any() else None,
            "sound_peak_dbfs": decibels(float(np.abs(samples).max()) ** 2),
            "sound_silent_fraction": float(1 - loud.mean()),
            "sound_clipped": float((np.abs(samples) >= self.clipped).mean()),
        }


def decibels(power: float) -> float | None:
    """Of power over that of full scale; None for none at all, as minus infinity is no number that files may hold."""
    return 10 * math.log10(power) if power > 0 else None


def _power(samples: npt.NDArray[np.float64], length: int) -> npt.NDArray[np.float64]:
    """Mean square of each block; the rest at the end is a block of its own."""
    edges = np.arange(0, len(samples), length)
    sums = np.add.reduceat(samples**2, edges)
    return np.asarray(sums / np.diff(np.append(edges, len(samples))))


def _covers(footage: Footage, count: int) -> float:
    """Which part of the video's time has sound at all: it may begin late or end early."""
    lasts = float((footage.end_pts - int(footage.pts_T[0])) * footage.video.time_base)
    begin = float(footage.audio_start_seconds)
    heard = min(begin + count / AUDIO_RATE, lasts) - max(begin, 0.0)
    return min(max(heard / lasts, 0.0), 1.0) if lasts > 0 else 0.0
