"""A batch that `cineray batch` wrote, read back: the folder goes in; a `Batch` comes out, equal to the one that was."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from cineray.errors import CinerayError
from cineray.records import Batch, ClipSpec, Crop, Substitution
from cineray.storage import read_object

_LIMIT_BYTES = 4 << 30


def read_batch(uri: str) -> Batch:
    """The batch in an `.npz` file."""
    try:
        with np.load(io.BytesIO(read_object(uri, limit_bytes=_LIMIT_BYTES)), allow_pickle=False) as file:
            return _batch({name: file[name] for name in file.files})
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise CinerayError(f"{uri} is no batch ({error}); wanted the .npz that `cineray batch` writes") from None


def _batch(arrays: Mapping[str, Any]) -> Batch:
    specs = json.loads(str(arrays["specs_json"]))
    substitutions = json.loads(str(arrays["substitutions_json"]))
    same = ("frames_BTHWC", "frame_is_real_BT", "seconds_BT", "start_seconds_B")
    told: dict[str, Any] = {name: arrays[name] for name in same}
    told |= {name: int(arrays[name]) for name in ("step", "first_slot", "global_size", "frames_decoded")}
    return Batch(
        **told,
        specs=tuple(_spec(one) for one in specs),
        substitutions=tuple(Substitution(**one) for one in substitutions),
    )


def _spec(told: Mapping[str, Any]) -> ClipSpec:
    lists = {name: tuple(told[name]) for name in ("frame_numbers", "frame_pts", "frame_is_real")}
    exact = {"time_base": Fraction(told["time_base"]), "crop": Crop(**told["crop"])}
    return ClipSpec(**{**told, **lists, **exact})
