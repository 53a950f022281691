"""Embeddings of videos: rows of `layers/embeddings` go in, a matrix for search or clustering comes out.

    video_id | {"dims": 512, "vector": "..."} | author: the network's name, version, and digest of its file and config

A vector is of length 1, as 16-bit numbers (little endian) in base64.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from cineray.errors import UsageError
from cineray.lake import Lake, Version, sql_text

EMBEDDINGS_LAYER = "layers/embeddings"
Reals = npt.NDArray[np.float32]


def vector_to_text(vector: npt.NDArray[np.floating[Any]]) -> str:
    """One vector, as its row keeps it."""
    return base64.b64encode(vector.astype("<f2").tobytes()).decode("ascii")


def vector_from_text(text: str) -> Reals:
    """The inverse."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)


def vectors_of(lake: Lake, version: Version, name: str) -> tuple[list[str], Reals]:
    """Ids of the videos of which a network gave a vector, in order, and these as the rows of a matrix."""
    held: dict[str, Reals] = {}
    if EMBEDDINGS_LAYER in version.tables:
        where = f"starts_with(author, {sql_text(name + '@')})"
        for batch in lake.scan(version, EMBEDDINGS_LAYER, ["video_id", "value"], where):
            for row in batch.to_pylist():
                told = json.loads(row["value"])
                if told["vector"] is not None:
                    held[row["video_id"]] = vector_from_text(told["vector"])
    if not held:
        raise UsageError(
            f"version {version.number} of {lake.uri} has no vectors of a network `{name}`; give a curation's job the "
            f"network (models.{name}.path=FILE, models.{name}.gives=vector), and run it"
        )
    ids = sorted(held)
    return ids, np.stack([held[video_id] for video_id in ids])
