"""An option that would be without effect is refused: nobody trains on a laptop who named a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cineray.cli.main import app
from cineray.config import job_to_yaml
from cineray.errors import UsageError
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.train import TrainJob, ValidationConfig
from cineray.train.job_kinds import JOB_KINDS


@pytest.fixture
def job(tmp_path: Path) -> str:
    recipe = Recipe(
        datasets=(DatasetSpec(lake=str(tmp_path / "lake")),),
        sampling=SamplingSpec(mode="stride", frames=4),
        frame=FrameSpec(height=16, width=16),
        batch_size=4,
    )
    path = tmp_path / "job.yaml"
    told = TrainJob(name="test", recipe=recipe, steps=1, validation=ValidationConfig(every_steps=0))
    path.write_text(job_to_yaml(told, JOB_KINDS))
    return str(path)


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert isinstance(done.exception, UsageError)
    return str(done.exception)


@pytest.mark.parametrize("driver", ["local", "torch"])
def test_training_in_this_process_refuses_the_address_of_a_cluster(job: str, driver: str) -> None:
    told = refused("train", job, "--set", f"feed.driver={driver}", "--address", "head:6379")
    assert told == (
        f"--address is head:6379 but feed.driver is {driver}, which trains in this process; add "
        "--set feed.driver=ray, or leave --address out"
    )


@pytest.mark.parametrize(
    ("option", "value"), [("--workers", "2"), ("--gpus-per-task", "0.5"), ("--address", "head:6379")]
)
def test_latents_that_are_made_in_this_process_refuse_what_only_ray_uses(job: str, option: str, value: str) -> None:
    told = refused("latents", job, "--engine", "local", option, value)
    assert told.startswith(f"{option} is {value} but --engine is local")
    assert told.endswith(f"choose --engine ray, or leave {option} out")
