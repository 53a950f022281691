"""A lake of 24 made videos, and feeds over it that need one line."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from cineray.batch import batch_digest
from cineray.feed import FeedSpec
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.records import Batch
from cineray.testing import make_shapes

SpecOf = Callable[..., FeedSpec]
Digests = Callable[[Iterable[Batch]], list[str]]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`videos/` with 18 of constant rate (48 frames) and 6 of variable rate, and `lake/` over them."""
    folder = tmp_path_factory.mktemp("feed")
    make_shapes(folder / "videos", videos=24)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return folder


@pytest.fixture
def own_lake(made_once: Path, tmp_path: Path) -> Path:
    """A lake over copies of the videos that a test may damage."""
    shutil.copytree(made_once / "videos", tmp_path / "videos")
    ingest(IngestConfig(source=str(tmp_path / "videos"), lake=str(tmp_path / "lake")), EngineConfig(engine="local"))
    return tmp_path / "lake"


@pytest.fixture(scope="session")
def spec_of(made_once: Path) -> SpecOf:
    """`spec_of(clips_per_visit=4)`: 6 clips per step of 8 frames at 48x48; any field of the recipe may be given."""

    def make(lake: Path | None = None, *, seed: int = 7, journal: str = "", **recipe: Any) -> FeedSpec:
        if "buckets" not in recipe:
            recipe.setdefault("sampling", SamplingSpec(mode="random", frames=8, stride=2))
            recipe.setdefault("frame", FrameSpec(height=48, width=48))
        recipe.setdefault("datasets", (DatasetSpec(lake=str(lake or made_once / "lake"), split=None),))
        recipe.setdefault("batch_size", 6)
        return FeedSpec(recipe=Recipe(**recipe), seed=seed, journal=journal).pinned()

    return make


@pytest.fixture(scope="session")
def digests() -> Digests:
    """One name per whole batch."""
    return lambda batches: [batch_digest([batch]) for batch in batches]


@pytest.fixture(scope="session")
def digests_of_ranks() -> Callable[[Iterable[Iterable[Batch]]], list[str]]:
    """One name per step, from the shares of all ranks."""
    return lambda ranks: [batch_digest(shares) for shares in zip(*ranks, strict=True)]


@pytest.fixture(scope="session")
def damage() -> Callable[[Path], None]:
    """Overwrite the packets of a video: size and times stay, so that only decoding finds out."""

    def do(path: Path) -> None:
        before = path.stat()
        data = bytearray(path.read_bytes())
        start = data.index(b"mdat") + 4
        for at in range(start, len(data), 32):
            part = hashlib.sha256(str(at).encode()).digest()
            data[at : at + 32] = part[: len(data) - at]
        path.write_bytes(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return do
