"""Batches on their way between processes: arrays as they are, all else as JSON. There and back is the identity.

The batches of one task travel together, one behind the other, also where their shapes differ:

    frames_BTHWC   step 8 ........|step 9 ........|step 10 ....|       one flat array; so are masks and times
    latents        bytes of stored latents, where some are             likewise
    meta           [{step 8, shape, specs}, {step 9, ...}, ...]

What comes back are views, read-only where the memory is shared: copy before changing anything in place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from cineray.records import Batch, ClipSpec, Crop, StoredLatents, Substitution

ARRAYS = ("frames_BTHWC", "frame_is_real_BT", "seconds_BT", "start_seconds_B")
LATENTS = "latents"
"""Only there where a store of latents had some."""
Arrays = dict[str, npt.NDArray[Any]]


def pack(batches: Sequence[Batch], frames: npt.NDArray[np.uint8] | None = None) -> tuple[Arrays, str]:
    """The batches' arrays, flat, and the JSON of the rest. `frames`: where their pictures lie one behind the other."""
    arrays = {name: np.concatenate([getattr(batch, name).ravel() for batch in batches]) for name in ARRAYS[1:]}
    if frames is None:
        frames = np.concatenate([batch.frames_BTHWC.ravel() for batch in batches])
    meta = [_meta(batch) for batch in batches]
    stored = [batch.latents.values_BCTHW for batch in batches if batch.latents is not None]
    if stored:
        arrays[LATENTS] = np.concatenate([np.ascontiguousarray(values).view(np.uint8).ravel() for values in stored])
    return {ARRAYS[0]: frames} | arrays, json.dumps(meta, separators=(",", ":"))


def unpack(arrays: Arrays, meta: str) -> list[Batch]:
    """The inverse."""
    at = dict.fromkeys((*ARRAYS, LATENTS), 0)

    def take(name: str, shape: Sequence[int], item_bytes: int = 1) -> npt.NDArray[Any]:
        start, at[name] = at[name], at[name] + math.prod(shape) * item_bytes
        return arrays[name][start : at[name]]

    batches = []
    for told in json.loads(meta):
        shown, t, h, w = told.pop("shape")
        b = len(told["specs"])  # of those whose latents are here there are no pixels
        shapes = dict(zip(ARRAYS, ((shown, t, h, w, 3), (b, t), (b, t), (b,)), strict=True))
        parts: Arrays = {name: take(name, shape).reshape(shape) for name, shape in shapes.items()}
        stored = told.pop("latents")
        if stored is not None:
            dtype, shape, here = np.dtype(stored["dtype"]), stored["shape"], np.array(stored["here"], np.bool_)
            values = take(LATENTS, shape, dtype.itemsize).view(dtype).reshape(shape)
            told["latents"] = StoredLatents(values_BCTHW=values, is_here_B=here)
        batches.append(_batch(parts, told))
    return batches


def _meta(batch: Batch) -> dict[str, Any]:
    return {
        "step": batch.step,
        "shape": batch.frames_BTHWC.shape[:4],
        "latents": _latents_meta(batch),
        "first_slot": batch.first_slot,
        "global_size": batch.global_size,
        "frames_decoded": batch.frames_decoded,
        "specs": [_spec_to_list(spec) for spec in batch.specs],
        "substitutions": [[getattr(one, name) for name in Substitution.__slots__] for one in batch.substitutions],
    }


def _latents_meta(batch: Batch) -> dict[str, Any] | None:
    if batch.latents is None:
        return None
    values, here = batch.latents.values_BCTHW, batch.latents.is_here_B
    return {"dtype": values.dtype.str, "shape": values.shape, "here": here.tolist()}


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
