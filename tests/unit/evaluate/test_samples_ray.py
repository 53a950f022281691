"""Samples under Ray Train: made by its own validation tasks, and waited for at the end; failures end nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cineray.evaluate.side import make_samples
from cineray.feed import FeedConfig
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train import CheckpointConfig, LimitsConfig, RunFolder, TrainJob, ValidationConfig
from cineray.train.samples_config import SamplesConfig

pytest.importorskip("ray")
from cineray.telemetry.ray_session import connected
from cineray.train.ray_train import run_on_ray

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("samples-ray")
    make_shapes(folder / "videos", videos=6, frames=24, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


def job_of(lake: str, **told: Any) -> TrainJob:
    values: dict[str, Any] = {
        "name": "shapes",
        "recipe": Recipe(
            datasets=(DatasetSpec(lake=lake, split=None),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=4),
            frame=FrameSpec(height=16, width=16),
            batch_size=4,
        ),
        "feed": FeedConfig(driver="ray"),
        "steps": 4,
        "classes": "data",
        "model": StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8)),
        "precision": "fp32",
        "validation": ValidationConfig(every_steps=0),
        "checkpoint": CheckpointConfig(every_steps=2, keep_last=9),
        "limits": LimitsConfig(failures_without_progress=0),
        "samples": SamplesConfig(every_steps=2, clips=2, steps=2),
    }
    return TrainJob(**(values | told))


def test_samples_are_made_beside_the_training_and_waited_for_and_failures_end_nothing(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ray_makers.py").write_text("def breaks(uri, step, config):\n    raise RuntimeError('a defect')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    from importlib import import_module

    with connected(num_cpus=4, object_store_memory=160_000_000):
        whole = run_on_ray(job_of(lake), uri=str(tmp_path / "whole"), sample=make_samples)
        broken = run_on_ray(job_of(lake), uri=str(tmp_path / "broken"), sample=import_module("ray_makers").breaks)

    assert whole["samples"] == {"steps": [2, 4], "failed": {}}
    folders = sorted(path.name for path in (tmp_path / "whole" / "samples").iterdir())
    assert folders == ["step-00000002", "step-00000004"]
    told = [event["event"] for event in RunFolder.open(whole["run"]).events()]
    assert told.index("end") < told.index("sampled"), "what happened beside an attempt is told behind it"

    assert (broken["step"], broken["samples"]["steps"]) == (4, [])
    assert list(broken["samples"]["failed"]) == [2, 4]
    assert all("a defect" in sentence for sentence in broken["samples"]["failed"].values())
