"""A lake of small stamped videos, and standardising it in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cineray.curate.standardise import StandardiseConfig, StandardiseReport, standardise
from cineray.curate.standardise.run import OnProgress
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.testing.stamped import stamp_video

H264 = ["-c:v", "libx264", "-preset", "veryfast", "-qp", "0", "-pix_fmt", "yuv420p", "-g", "250", "-bf", "2"]
VARIABLE = [0, 25, 50, 75, 150, 175, 300, 325, 375, 400, 500, 525]
"""Ticks of 1/600 s: frames that stay on screen for unequal times."""


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """Four videos: an even rate, a variable one, one in Matroska, one with a caption; each picture shows its number."""
    folder = tmp_path / "videos"
    stamp_video(folder / "even.mp4", frames=40, rate=24, codec=H264, size_px=(128, 96))
    stamp_video(folder / "variable.mp4", pts=VARIABLE, codec=H264, size_px=(128, 96))
    stamp_video(folder / "matroska.mkv", frames=20, rate=10, codec=H264, size_px=(96, 128))
    stamp_video(folder / "told.mp4", frames=30, rate=30, codec=H264, size_px=(128, 96))
    (folder / "even.json").write_text(json.dumps({"label": "3"}))
    (folder / "told.json").write_text(json.dumps({"caption": "bars that count", "label": "bars", "camera": 7}))
    return folder


@pytest.fixture
def lake(footage: Path, tmp_path: Path) -> Lake:
    """The footage, ingested: version 1."""
    where = str(tmp_path / "lake")
    ingest(IngestConfig(source=str(footage), lake=where), EngineConfig(engine="local", workers=1))
    return Lake.open(where)


@pytest.fixture
def run(lake: Lake) -> Callable[..., StandardiseReport]:
    """`run(encoding={"gop": 8})`: standardise the lake's newest version, one video at a time."""

    def do(
        *, on_progress: OnProgress = lambda _done, _total: None, engine: Any = "local", **told: Any
    ) -> StandardiseReport:
        encoding = {"short_side": 48} | told.pop("encoding", {})
        config = StandardiseConfig.model_validate({"lake": lake.uri, "encoding": encoding} | told)
        return standardise(config, engine=engine, workers=1, on_progress=on_progress)

    return do
