"""What a job says of a network that judges pictures: where its file lies, what it is shown, and what it gives.

Plain values, checked before anything is opened; `networks.py` says what the file must be and runs it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from blake3 import blake3
from pydantic import Field, model_validator

from cineray.config import Config
from cineray.errors import UsageError
from cineray.index.footage import Squares

VERSION = 1
"""Raised when the same file would give something else: other pictures, another rounding."""
MOST_BYTES = 64 << 20
"""Of the pictures of one video: those of several travel together."""


class NetworkConfig(Config):
    """A network of your own, by the path of its file."""

    path: str = Field(min_length=1)
    """A TorchScript file on this machine; on a cluster, at the same path of every node that runs it."""
    gives: Literal["score", "vector"]
    """`score`: one number per picture; columns `<name>_score`, their mean, and `<name>_lowest`, which rules may name.
    `vector`: an embedding per picture; the video's is a row of `layers/embeddings`."""
    pictures: int = Field(default=8, ge=1, le=256)
    """How many of each video, evenly in time; a video of fewer frames shows some twice."""
    side: int = Field(default=224, ge=8, le=1024)
    """Rows and columns of a picture."""
    fit: Literal["crop", "stretch"] = "crop"
    """`crop`: the middle of it, in its own shape; `stretch`: all of it, made square."""
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Taken from each colour, of 0 to 1; by default those of CLIP."""
    spread: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """By which each colour is then divided."""

    @model_validator(mode="after")
    def _not_too_much(self) -> NetworkConfig:
        told = self.pictures * self.side**2 * 3
        if told > MOST_BYTES:
            raise ValueError(
                f"{self.pictures} pictures of {self.side} x {self.side} are {told >> 20} MiB of each video; wanted at "
                f"most {MOST_BYTES >> 20}: show it fewer, or smaller ones"
            )
        return self

    @property
    def squares(self) -> Squares:
        """The pictures that it is shown."""
        return Squares(count=self.pictures, side=self.side, stretched=self.fit == "stretch")


def score_columns(name: str) -> tuple[str, str]:
    """The columns of a network that scores: the mean over the pictures, and the lowest."""
    return f"{name}_score", f"{name}_lowest"


def network_keys(networks: Mapping[str, NetworkConfig]) -> dict[str, str]:
    """Names what each network gives, by its config and by the bytes of its file: results are kept by it."""
    return {name: network_key(name, config, hash_of(name, config.path)) for name, config in sorted(networks.items())}


def network_key(name: str, config: NetworkConfig, content: str) -> str:
    """The same of one. Where the file lies is no part of it."""
    told = config.model_dump(mode="json", exclude={"path"}) | {"content": content}
    digest = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=4).hexdigest()
    return f"{name}@{VERSION}-{digest}"


def hash_of(name: str, path: str) -> str:
    """Of the bytes of a network's file."""
    if not Path(path).is_file():
        raise UsageError(f"there is no file {path}, which the job names for the network `{name}`; wanted TorchScript")
    return blake3(max_threads=1).update_mmap(path).hexdigest()
