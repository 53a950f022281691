"""Batches on their way between processes: arrays as they are, all else as JSON. There and back is the identity.

The batches of one task travel together: their pictures are one array already (`frames_KBTHWC`), and stay one. What
comes back are views, read-only where the memory is shared: copy before changing anything in place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from cineray.records import Batch, ClipSpec, Crop, Substitution

ARRAYS = ("frames_BTHWC", "frame_is_real_BT", "seconds_BT", "start_seconds_B")
Arrays = dict[str, npt.NDArray[Any]]


def pack(batches: Sequence[Batch]) -> tuple[Arrays, str]:
    """The fields of batches of one shape, each with a leading K, and the JSON of the rest."""
    arrays = {name: _stacked([getattr(batch, name) for batch in batches]) for name in ARRAYS}
    return arrays, json.dumps([_meta(batch) for batch in batches], separators=(",", ":"))


def unpack(arrays: Arrays, meta: str) -> list[Batch]:
    """The inverse."""
    told = json.loads(meta)
    return [_batch({name: arrays[name][k] for name in ARRAYS}, one) for k, one in enumerate(told)]


def _stacked(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """One array of them; those that lie in one already are not moved."""
    if len(parts) == 1:
        return parts[0][None]
    base = parts[0].base
    begins = [part.__array_interface__["data"][0] for part in parts]
    if base is not None and base.shape == (len(parts), *parts[0].shape) and base.flags.c_contiguous:
        first = base.__array_interface__["data"][0]
        if begins == [first + k * parts[0].nbytes for k in range(len(parts))]:
            return base
    return np.stack(parts)


def _meta(batch: Batch) -> dict[str, Any]:
    return {
        "step": batch.step,
        "first_slot": batch.first_slot,
        "global_size": batch.global_size,
        "frames_decoded": batch.frames_decoded,
        "specs": [_spec_to_list(spec) for spec in batch.specs],
        "substitutions": [[getattr(one, name) for name in Substitution.__slots__] for one in batch.substitutions],
    }


def _batch(arrays: Arrays, told: dict[str, Any]) -> Batch:
    told["specs"] = tuple(_spec_from_list(spec) for spec in told["specs"])
    told["substitutions"] = tuple(
        Substitution(**dict(zip(Substitution.__slots__, one, strict=True))) for one in told["substitutions"]
    )
    fields: dict[str, Any] = {**arrays, **told}
    return Batch(**fields)


_PLAIN = ("clip_id", "video_id", "dataset", "clip_number", "epoch", "draw", "caption", "label")
_TUPLES = ("frame_numbers", "frame_pts", "frame_is_real")


def _spec_to_list(spec: ClipSpec) -> list[Any]:
    base, crop = spec.time_base, spec.crop
    values = [getattr(spec, name) for name in (*_PLAIN, *_TUPLES)]
    return [*values, base.numerator, base.denominator, [getattr(crop, name) for name in Crop.__slots__]]


def _spec_from_list(told: list[Any]) -> ClipSpec:
    *values, num, den, crop = told
    fields: dict[str, Any] = dict(zip((*_PLAIN, *_TUPLES), values, strict=True))
    fields |= {name: tuple(fields[name]) for name in _TUPLES}
    return ClipSpec(**fields, time_base=Fraction(num, den), crop=Crop(**dict(zip(Crop.__slots__, crop, strict=True))))
