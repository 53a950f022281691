"""Tiny videos, each of its own colour, and an ingest that needs one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cineray.ingest import EngineConfig, IngestConfig, IngestReport, ingest


@pytest.fixture
def video(ffmpeg: Callable[..., None]) -> Callable[..., Path]:
    """`video(path, colour)`: ten frames of one colour at 10 per second, 2 kB of H.264."""

    def make(path: Path, colour: str = "red", *options: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        source = f"color={colour}:size=64x48:rate=10"
        ffmpeg("-f", "lavfi", "-i", source, "-frames:v", 10, "-c:v", "libx264", "-threads", 1, *options, path)
        return path

    return make


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., IngestReport]:
    """`run(source)`: ingest it into this test's lake, in this process."""

    def do(
        source: Path | str, *, engine: str = "local", on_progress: Any = lambda _: None, **options: Any
    ) -> IngestReport:
        given = {"max_reject_fraction": 1.0, "source": str(source), "lake": str(tmp_path / "lake")} | options
        config = IngestConfig.model_validate(given)
        return ingest(config, EngineConfig(engine=engine, workers=2), on_progress=on_progress)  # type: ignore[arg-type]

    return do
