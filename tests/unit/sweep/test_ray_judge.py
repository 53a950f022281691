"""A finished trial's evaluation as a task of the cluster: its scores come back, and its errors as they were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from cineray.errors import UsageError
from cineray.evaluate import EvaluateConfig
from cineray.feed import FeedConfig
from cineray.sweep import JudgeConfig, SweepJob
from cineray.train import run_local

pytest.importorskip("ray")
from cineray.sweep.ray_judge import evaluate_aside
from cineray.telemetry.ray_session import connected

pytestmark = [pytest.mark.ray, pytest.mark.slow]
SMALL = EvaluateConfig(
    clips=2,
    metrics=("flicker", "fvd"),
    feature_net="",
    training_clips=0,
    controls=False,
    loss=False,
    sensitivity_clips=0,
    shown=1,
    bootstrap=100,
)


@pytest.fixture(scope="module", autouse=True)
def a_ray() -> Iterator[None]:
    with connected(num_cpus=1, object_store_memory=100_000_000):
        yield


@pytest.fixture
def job(made: ModuleType, lake: str) -> SweepJob:
    return made.sweep_job(lake, judge=JudgeConfig(evaluate=SMALL))


def test_scores_come_back_and_the_evaluation_lies_in_the_run(job: SweepJob, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    run_local(job.base.model_copy(update={"feed": FeedConfig(driver="local"), "steps": 2}), uri=run)
    facts = evaluate_aside(run, job)
    assert facts["uri"].startswith(f"{run}/evaluations/")
    assert (facts["run"], facts["checkpoint"]) == (run, 2)
    assert set(facts["metrics"]) == {"flicker", "fvd"}
    assert facts["metrics"]["flicker"]["low"] <= facts["metrics"]["flicker"]["value"]
    assert facts["metrics"]["fvd"]["value"] is None, "its weights are not there, and nothing stands in for them"


def test_what_cannot_be_evaluated_is_said_in_its_own_words(job: SweepJob, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run at"):
        evaluate_aside(str(tmp_path / "nowhere"), job)
