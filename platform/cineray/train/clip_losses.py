"""The losses of single clips at a run's last judgement: kept with the run, so that two runs that were judged on the
same clips can be compared clip by clip, in which what all clips have in common does not count as noise.

    <run>/validation/clip-losses.json    step, bins, right and wrong: a loss per fixed clip, in their order

Clip `c` has the noise level `c % bins`, as every judgement has it. A later judgement replaces what was there.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from cineray.errors import CinerayError, PlaceMissing
from cineray.storage import join_uri, put_object, read_object

HEADLINE_BINS = 2
"""A validation's headline is the mean of so many noise levels, the noisiest."""

_PLACE = "validation/clip-losses.json"
_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipLosses:
    """One judgement, clip by clip."""

    step: int
    """Of the weights that were judged."""
    bins: int
    """Noise levels, which the clips take in turn."""
    right: Sequence[float]
    """A loss per clip; NaN where it is none."""
    wrong: Sequence[float] = ()
    """The same told another class or caption; empty where there is no other."""


def keep_clip_losses(run_uri: str, losses: ClipLosses) -> None:
    """Put them into the run's folder, in place of those of the judgement before. A training does not end by a place
    that cannot be written to: the next judgement tries again."""
    told = {"step": losses.step, "bins": losses.bins, "right": _plain(losses.right), "wrong": _plain(losses.wrong)}
    try:
        put_object(join_uri(run_uri, _PLACE), json.dumps(told, allow_nan=False).encode())
    except CinerayError as error:
        warnings.warn(f"losses of single clips cannot be written: {error}; the run goes on without them", stacklevel=2)


def read_clip_losses(run_uri: str) -> ClipLosses | None:
    """Those of a run's last judgement; None where none are kept, as of a run of an older cineray."""
    place = join_uri(run_uri, _PLACE)
    try:
        told = json.loads(read_object(place, limit_bytes=_LIMIT_BYTES))
        right, wrong = ([math.nan if one is None else float(one) for one in told[name]] for name in ("right", "wrong"))
        return ClipLosses(step=int(told["step"]), bins=int(told["bins"]), right=right, wrong=wrong)
    except PlaceMissing:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CinerayError(f"{place} is damaged: {error!r}; remove it, and the runs are compared without it") from None


def _plain(losses: Sequence[float]) -> list[float | None]:
    """JSON has no word for what is no number."""
    return [float(one) if math.isfinite(one) else None for one in losses]
