"""Batches for JAX, TensorFlow and whoever takes NumPy arrays: any driver's batches go in, dicts of arrays come out.

    for arrays in numpy_batches(local_batches(spec, range(1000))):
        x = to_jax(arrays)["frames_BTHWC"]

The arrays are the batch's own, not copies; from the Ray feed they are read-only. Conversions share memory where the
other library can (same device, memory aligned as it wants), and copy otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from cineray.batch.assemble import text_of
from cineray.feed.wire import ARRAYS
from cineray.records import Batch

Arrays = dict[str, npt.NDArray[Any]]


def numpy_batches(batches: Iterable[Batch]) -> Iterator[Arrays]:
    """Each batch as a dict of arrays."""
    return (to_numpy(batch) for batch in batches)


def to_numpy(batch: Batch) -> Arrays:
    """The batch's arrays by name; with them `step`, `slot_B`, `caption_B` (UTF-8 text) and `has_caption_B`."""
    captions, has_caption = text_of(batch)
    slots = np.arange(batch.first_slot, batch.first_slot + len(batch.specs))
    return {name: getattr(batch, name) for name in ARRAYS} | {
        "step": np.array(batch.step),
        "slot_B": slots,
        "caption_B": np.array(captions, dtype=object),
        "has_caption_B": has_caption,
    }


def to_jax(arrays: Arrays) -> dict[str, Any]:
    """The same dict for JAX; text stays as it is, and times become float32 unless JAX is told to use 64 bits."""
    as_jax = import_module("jax.numpy").asarray
    return {name: array if array.dtype == object else as_jax(array) for name, array in arrays.items()}


def to_tf(arrays: Arrays) -> dict[str, Any]:
    """The same dict for TensorFlow; text becomes string tensors."""
    as_tensor = import_module("tensorflow").convert_to_tensor
    return {name: as_tensor(_text(array)) for name, array in arrays.items()}


def _text(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.array([str(text).encode() for text in array]) if array.dtype == object else array
