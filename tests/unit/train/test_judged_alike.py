"""Runs that train on different samplings and are judged on one: the same clips and instants, the same baselines.

Their skills compare only then: a recipe must not look better because its own clips are easier.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cineray.diffusion import DiffusionConfig
from cineray.feed import FeedConfig
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train import OptimiserConfig, TrainJob, ValidationConfig, run_local
from cineray.train.resolve import resolved


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("judged-alike")
    make_shapes(folder / "videos", videos=16, frames=24, size_px=48)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


def recipe_of(lake: str, *, batch_size: int = 4, **sampling: Any) -> Recipe:
    return Recipe(
        datasets=(DatasetSpec(lake=lake, split=None),),
        sampling=SamplingSpec(**({"mode": "stride", "frames": 4} | sampling)),
        frame=FrameSpec(height=16, width=16),
        batch_size=batch_size,
    )


def job_of(recipe: Recipe, judging: Recipe | None, **told: Any) -> TrainJob:
    validation = ValidationConfig(every_steps=9, clips=8, bins=4, held_out=0.2, baseline_clips=16, recipe=judging)
    values: dict[str, Any] = {
        "name": "shapes",
        "recipe": recipe,
        "feed": FeedConfig(driver="local"),
        "steps": 1,
        "model": StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8), positions="rope+learned"),
        "diffusion": DiffusionConfig(least_noise=0.2, data_mean=(0, 0, 0), data_sd=(1, 1, 1)),
        "optimiser": OptimiserConfig(kind="adamw", warmup_steps=1),
        "precision": "fp32",
        "validation": validation,
    }
    return TrainJob(**(values | told))


@pytest.fixture(scope="module")
def judging(lake: str) -> tuple[Recipe, Recipe]:
    """What one base job trains on without the videos that it is judged on, and what it is judged on: six frames,
    more than any of the jobs below learns from."""
    base = resolved(job_of(recipe_of(lake), None))
    assert base.validation.recipe is not None
    asked = base.validation.recipe.model_dump() | {"sampling": {"mode": "stride", "frames": 6, "stride": 2}}
    return base.recipe, Recipe.model_validate(asked)


def baselines_of(facts: dict[str, Any]) -> Any:
    return json.loads((Path(facts["run"]) / "validation" / "baselines.json").read_text())


def test_their_baselines_are_the_same_whatever_they_train_on_and_in_whichever_order(
    judging: tuple[Recipe, Recipe], tmp_path: Path
) -> None:
    trains, asked = judging
    slow = trains.model_copy(update={"sampling": SamplingSpec(mode="stride", frames=4, stride=4), "batch_size": 6})
    first = run_local(job_of(trains, asked), uri=str(tmp_path / "first"))
    second = run_local(job_of(slow, asked, seed=7), uri=str(tmp_path / "second"))
    balanced = tuple(one.model_copy(update={"balance": "label", "weight": 2.0}) for one in trains.datasets)
    weighed = run_local(job_of(trains.model_copy(update={"datasets": balanced}), asked), uri=str(tmp_path / "weighed"))
    own = run_local(job_of(asked.model_copy(update={"datasets": trains.datasets}), asked), uri=str(tmp_path / "own"))
    assert baselines_of(first) == baselines_of(second) == baselines_of(own) == baselines_of(weighed)
    assert set(baselines_of(first)) == {"mean", "linear"}
    for facts in (first, second, own):
        assert {"validation/skill_mean", "validation/skill_linear"} <= facts["metrics"].keys()


def test_who_asks_for_other_instants_has_other_baselines(judging: tuple[Recipe, Recipe], tmp_path: Path) -> None:
    trains, asked = judging
    other = asked.model_copy(update={"sampling": SamplingSpec(mode="stride", frames=6, stride=1)})
    first = run_local(job_of(trains, asked), uri=str(tmp_path / "first"))
    second = run_local(job_of(trains, other), uri=str(tmp_path / "second"))
    assert baselines_of(first) != baselines_of(second)


def test_clips_that_the_model_cannot_be_asked_for_are_refused_with_the_job(lake: str) -> None:
    odd = recipe_of(lake).model_copy(update={"frame": FrameSpec(height=20, width=16)})
    with pytest.raises(ValueError, match="clips of 4x20x16 do not divide into the model's patches of 1x8x8"):
        job_of(recipe_of(lake), odd)
    job_of(recipe_of(lake), odd, validation=ValidationConfig(every_steps=0, recipe=odd))
