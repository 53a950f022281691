"""A lake of made videos, feeds over it, and a tiny autoencoder that was exported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models.autoencoder import HeldOut
from cineray.models.autoencoder_config import VaeLiteConfig, VaeLiteShape
from cineray.models.vae_lite import VaeLite
from cineray.models.vae_lite_file import write_vae_lite
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train.config import TrainJob
from cineray.train.latents_config import LatentsConfig

torch.set_num_threads(1)

TINY = VaeLiteShape(width=8, blocks=1, channels=4)
JobOf = Callable[..., TrainJob]


def fresh(shape: VaeLiteShape = TINY, seed: int = 0) -> VaeLite:
    """One whose blocks do something: fresh ones are the identity."""
    torch.manual_seed(seed)
    model = VaeLite(shape).eval()
    for block in model.blocks():
        torch.nn.init.normal_(block.time.mix.weight, std=0.05)
    return model


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`videos/` and `lake/` over them: 12 videos of 48 frames, three of them with a variable rate."""
    folder = tmp_path_factory.mktemp("latents")
    make_shapes(folder / "videos", videos=12, size_px=48)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return folder


@pytest.fixture(scope="session")
def vae_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An exported autoencoder that passes any gate."""
    path = str(tmp_path_factory.mktemp("vae") / "autoencoder.safetensors")
    model = fresh()
    model.set_statistics(torch.full((4,), 0.1), torch.full((4,), 2.0))
    write_vae_lite(model, path, HeldOut(psnr_db=40.0, temporal_psnr_db=40.0, flicker_ratio=1.0, clips=8))
    return path


@pytest.fixture
def job_of(videos: Path, vae_file: str, tmp_path: Path) -> JobOf:
    """`job_of("cache")`: 4 clips a step of 5 frames at 32x32, always the same of each video; any field may be given."""

    def make(mode: str = "online", *, latents: dict[str, Any] | None = None, **told: Any) -> TrainJob:
        recipe = {
            "datasets": (DatasetSpec(lake=str(videos / "lake"), split=None),),
            "sampling": SamplingSpec(mode="fps", fps="8", frames=5, start="first"),
            "frame": FrameSpec(height=32, width=32),
            "batch_size": 4,
            **told.pop("recipe", {}),
        }
        store = {} if mode == "online" else {"store": str(tmp_path / "store")}
        settings = {"name": "test", "steps": 6, "precision": "fp32", "feed": {"driver": "local"}, **told}
        return TrainJob.model_validate(
            {
                "recipe": Recipe(**recipe),
                "autoencoder": VaeLiteConfig(path=vae_file),
                "latents": LatentsConfig.model_validate({"mode": mode, "clips_at_once": 2, **store, **(latents or {})}),
                "validation": {"every_steps": 0},
                **settings,
            }
        )

    return make


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """An embedded Ray with two cores."""
    from cineray.telemetry.ray_session import connected

    with connected("", num_cpus=2):
        yield
