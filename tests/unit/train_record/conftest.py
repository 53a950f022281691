"""A run over a lake of six made videos, and a small model with two optimisers whose state is worth saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cineray.feed import DataJob, FeedConfig, FeedSpec
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train.run_folder import RunFolder


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train-record")
    make_shapes(folder / "videos", videos=6)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return folder / "lake"


@pytest.fixture(scope="session")
def job(lake: Path) -> DataJob:
    recipe = Recipe(
        datasets=(DatasetSpec(lake=str(lake), split=None),),
        sampling=SamplingSpec(mode="random", frames=4, stride=2),
        frame=FrameSpec(height=32, width=32),
        batch_size=4,
    )
    return DataJob(name="tiny", recipe=recipe, seed=3, feed=FeedConfig(driver="local"))


@pytest.fixture(scope="session")
def spec(job: DataJob) -> FeedSpec:
    return FeedSpec(recipe=job.recipe, seed=job.seed).pinned()


@pytest.fixture
def run(job: DataJob, spec: FeedSpec, tmp_path: Path) -> RunFolder:
    return RunFolder.create(job, spec, str(tmp_path / "run"))


class Rule:
    """Two newest, the best by loss, and every tenth."""

    keep_last, keep_best, keep_every, best_metric = 2, 1, 10, "loss"


@pytest.fixture
def rule() -> Any:
    return Rule()


def made_model(seed: int = 0, width: int = 16) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, width), nn.Linear(width, 8))
