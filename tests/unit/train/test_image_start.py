"""From single frames to clips: what `cineray export` wrote of an image run is where a video run begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cineray.cli.export import export_command
from cineray.errors import UsageError
from cineray.feed import FeedConfig
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models import Image2VideoConfig, StDiTConfig
from cineray.models.configs import TextConfig
from cineray.models.image2video import Image2Video
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train import CheckpointConfig, OptimiserConfig, RunFolder, TrainJob, ValidationConfig, run_local
from cineray.train.checkpoint import Checkpoints
from cineray.train.checkpoint_read import read_tensors
from cineray.train.diffusion_task import DiffusionTask
from cineray.train.resolve import resolved

IMAGE = StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8), modulation_std=0.02)
TEXT = TextConfig(kind="builtin", width=16, depth=1, heads=2, tokens=12)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("image-start")
    make_shapes(folder / "videos", videos=12, frames=24, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


def job_of(lake: str, *, frames: int, **told: Any) -> TrainJob:
    values: dict[str, Any] = {
        "name": "shapes",
        "recipe": Recipe(
            datasets=(DatasetSpec(lake=lake, split=None),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=frames),
            frame=FrameSpec(height=16, width=16),
            batch_size=4,
        ),
        "feed": FeedConfig(driver="local"),
        "steps": 3,
        "classes": "data",
        "text": TEXT,
        "model": IMAGE,
        "optimiser": OptimiserConfig(warmup_steps=1),
        "precision": "fp32",
        "validation": ValidationConfig(every_steps=0),
        "checkpoint": CheckpointConfig(every_steps=None),
    }
    return TrainJob(**(values | told))


@pytest.fixture(scope="module")
def image_file(lake: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three steps on single frames, exported by the command."""
    folder = tmp_path_factory.mktemp("image-run")
    run_local(job_of(lake, frames=1), uri=str(folder / "run"))
    out = str(folder / "image.safetensors")
    export_command(str(folder / "run"), out, step=None, best=False, part="ema", dtype="fp32", as_json=True)
    return out


def video_job(lake: str, image_file: str, **told: Any) -> TrainJob:
    base = told.pop("base", IMAGE)
    return job_of(lake, frames=4, **({"model": Image2VideoConfig(base=base, image_weights=image_file)} | told))


def test_an_export_of_single_frames_begins_a_video_run_that_learns_time_alone(
    lake: str, image_file: str, tmp_path: Path
) -> None:
    """Network, captions, mean and spread are the image run's, before the first step and after the last."""
    exported = load_file(image_file)
    assert {name.partition(".")[0] for name in exported} == {"net", "text", "data_mean_C", "data_sd_C"}
    wanted = {name.replace("net.", "net.image."): value for name, value in exported.items()}
    job = video_job(lake, image_file)

    begun = DiffusionTask(resolved(job)).build()
    assert isinstance(begun.net, Image2Video)
    torch.testing.assert_close({name: begun.state_dict()[name] for name in wanted}, wanted, rtol=0, atol=0)
    frozen = {name for name, weight in begun.named_parameters() if not weight.requires_grad}
    assert frozen == {name for name in wanted if not name.startswith("data_")}

    run = RunFolder.open(run_local(job, uri=str(tmp_path / "run"))["run"])
    info = Checkpoints(run, job.checkpoint).latest()
    assert info is not None
    after = read_tensors(info, "model")
    torch.testing.assert_close({name: after[name] for name in wanted}, wanted, rtol=0, atol=0)
    moved = [name for name, value in begun.state_dict().items() if not torch.equal(value, after[name])]
    assert moved
    assert all(name.startswith(("net.times.", "net.embed.", "net.modulation.")) for name in moved)


def test_what_the_image_run_was_told_otherwise_is_refused_by_name(lake: str, image_file: str) -> None:
    """Shapes would fit; what the numbers mean would not."""
    others: dict[str, dict[str, Any]] = {
        r"model.base.rope_pixels: .* -> \(16.0, 512.0\)": {
            "base": IMAGE.model_copy(update={"rope_pixels": (16.0, 512.0)})
        },
        r"diffusion.predict: 'x' -> 'v'": {"diffusion": {"predict": "v"}},
        r"classes: .* -> \('a', .*'h'\)": {"classes": tuple("abcdefgh")},
        r"diffusion.data_mean is \[0.5, 0.5, 0.5\], and the image model": {
            "diffusion": {"data_mean": (0.5, 0.5, 0.5), "data_sd": (0.5, 0.5, 0.5)}
        },
    }
    for refusal, told in others.items():
        with pytest.raises(UsageError, match=refusal):
            DiffusionTask(resolved(video_job(lake, image_file, **told))).build()


def test_captions_need_the_encoder_that_the_image_model_learnt_with(lake: str, image_file: str, tmp_path: Path) -> None:
    """A file of the network alone is enough without captions, and not with them."""
    net = {name.removeprefix("net."): value for name, value in load_file(image_file).items() if name.startswith("net.")}
    save_file(net, tmp_path / "net.safetensors")
    with pytest.raises(UsageError, match=r"has no caption encoder.*`cineray export` wrote"):
        DiffusionTask(resolved(video_job(lake, str(tmp_path / "net.safetensors")))).build()
    with pytest.raises(
        UsageError, match=r"the caption encoder of .* is not this job's: places_LD has shape \(12, 16\)"
    ):
        DiffusionTask(resolved(video_job(lake, image_file, text=TEXT.model_copy(update={"tokens": 8})))).build()
