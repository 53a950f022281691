"""A lake of twelve small videos, made once; and jobs and trials to try a sweep's parts on (made.py)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.testing import make_shapes


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """`made.base_job(lake)`, `made.sweep_job(lake)`, `made.record(...)`. With --import-mode=importlib, tests are no
    package: a neighbour is loaded by its path."""
    spec = importlib.util.spec_from_file_location("cineray_sweep_made", Path(__file__).with_name("made.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Videos of 24 frames at 8 per second: three seconds each."""
    folder = tmp_path_factory.mktemp("sweep-lake")
    make_shapes(folder / "videos", videos=12, frames=24, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


@pytest.fixture(scope="session")
def vae(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An exported autoencoder: 4 frames and 8 by 8 pixels become one place of its latents. It passes any gate."""
    import torch

    from cineray.models.autoencoder import HeldOut
    from cineray.models.autoencoder_config import VaeLiteShape
    from cineray.models.vae_lite import VaeLite
    from cineray.models.vae_lite_file import write_vae_lite

    path = str(tmp_path_factory.mktemp("vae") / "autoencoder.safetensors")
    torch.manual_seed(0)
    model = VaeLite(VaeLiteShape(width=8, blocks=1, channels=4)).eval()
    model.set_statistics(torch.zeros(4), torch.ones(4))
    write_vae_lite(model, path, HeldOut(psnr_db=40.0, temporal_psnr_db=40.0, flicker_ratio=1.0, clips=8))
    return path
