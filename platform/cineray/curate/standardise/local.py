"""The small engine: videos are encoded and shards are written from this process, its children doing the encoding."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Protocol

from cineray import storage
from cineray.curate.standardise.config import StandardiseConfig
from cineray.curate.standardise.encoder import Encoder, Progress
from cineray.curate.standardise.gather import shards_uri
from cineray.curate.standardise.packing import Packed, Packing, pack
from cineray.curate.standardise.sidecars import Shape
from cineray.curate.standardise.staging import Staging
from cineray.curate.videos import Listed
from cineray.index.ordered import in_order
from cineray.lake import Lake, Version

SHARDS_AT_ONCE = 4


class Engine(Protocol):
    """What does the work; a context manager."""

    def __enter__(self) -> Engine:
        """Nothing is started before it is needed."""

    def __exit__(self, *error: object) -> None:
        """All that was started ends."""

    def encode(self, todo: Sequence[Listed]) -> Iterator[Progress]:
        """Encode videos into the staging, and tell of each or of some."""

    def pack(self, parts: Sequence[Packing], shape: Shape) -> Iterator[Packed]:
        """Write shards; raises `PlaceMissing` where the staging has been cleared."""


class Local:
    """In this process and its children."""

    def __init__(self, config: StandardiseConfig, lake: Lake, version: Version, *, workers: int) -> None:
        self.config, self.lake, self.version = config, lake, version
        self.workers = workers or len(os.sched_getaffinity(0))

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *error: object) -> None:
        """Children end with their encoding."""

    def encode(self, todo: Sequence[Listed]) -> Iterator[Progress]:
        """One result per video, in their order."""
        if todo:
            # Before hours of encoding: shards for a store lie on this machine's disk before they are uploaded.
            storage.check_room(shards_uri(self.lake, self.config), SHARDS_AT_ONCE * self.config.shard_bytes)
            with Encoder(self.lake, self.version, self.config, workers=min(self.workers, len(todo))) as encoder:
                yield from encoder.encode(todo)

    def pack(self, parts: Sequence[Packing], shape: Shape) -> Iterator[Packed]:
        """A few at once: writing a shard is waiting for a disk or a store."""
        staging, out = Staging(self.lake.uri, self.config.work_key()), shards_uri(self.lake, self.config)
        return in_order(
            lambda part: pack(self.lake, self.version, staging, part, shape=shape, out_uri=out),
            parts,
            workers=SHARDS_AT_ONCE,
            ahead=2 * SHARDS_AT_ONCE,
            name="cineray-pack",
            abandoned=nullcontext,
        )
