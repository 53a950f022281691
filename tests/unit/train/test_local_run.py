"""A whole training in one process over real videos: from a lake to a run's folder, stopped, killed and gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cineray.diffusion import DiffusionConfig
from cineray.errors import Interrupted, UsageError
from cineray.feed import FeedConfig, FeedSpec, local_batch
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train import (
    CheckpointConfig,
    OptimiserConfig,
    ParallelConfig,
    RunFolder,
    TrainJob,
    ValidationConfig,
    run_local,
)
from cineray.train.ledger import read_ledger
from cineray.train.resolve import resolved, training_spec, validation_spec
from cineray.train.run_folder import RunSuperseded
from cineray.train.stop import StopRequest


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("local-run")
    make_shapes(folder / "videos", videos=16, frames=24, size_px=48)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


def job_of(lake: str, *, driver: str = "local", workers: int = 0, split: str | None = None, **told: Any) -> TrainJob:
    values: dict[str, Any] = {
        "name": "shapes",
        "recipe": Recipe(
            datasets=(DatasetSpec(lake=lake, split=split),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=4),
            frame=FrameSpec(height=16, width=16),
            batch_size=4,
            clips_per_visit=2,
        ),
        "feed": FeedConfig(driver=driver, workers=workers),  # type: ignore[arg-type]
        "steps": 8,
        "classes": "data",
        "model": StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8)),
        "diffusion": DiffusionConfig(least_noise=0.2),
        "optimiser": OptimiserConfig(warmup_steps=2),
        "precision": "fp32",
        "validation": ValidationConfig(every_steps=4, clips=8, bins=4, held_out=0.2, baseline_clips=16),
        "checkpoint": CheckpointConfig(every_steps=3),
    }
    return TrainJob(**(values | told))


def losses(run: str) -> list[float]:
    return [row["loss"] for row in read_ledger(RunFolder.open(run).folder("ledger")).to_pylist()]


@pytest.fixture(scope="module")
def whole(lake: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that nothing disturbed."""
    return run_local(job_of(lake), uri=str(tmp_path_factory.mktemp("runs") / "whole"))


def test_a_run_tells_what_came_of_it_and_leaves_a_whole_record(whole: dict[str, Any]) -> None:
    run = Path(whole["run"])
    assert whole["step"] == 8
    assert len(losses(whole["run"])) == 8
    assert {"validation/headline", "validation/wrong_over_right", "validation/skill_linear"} <= whole["metrics"].keys()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["00000006", "00000008"]
    assert json.loads((run / "validation" / "baselines.json").read_text()).keys() == {"linear", "mean"}
    assert "built" in [event["event"] for event in RunFolder.open(whole["run"]).events()]


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(lake: str, whole: dict[str, Any], tmp_path: Path) -> None:
    stop = StopRequest()

    class StopsAfterFive:
        def row(self, row: Any) -> None:
            if row["step"] == 4:
                stop.wish("SIGINT")

        def judged(self, step: int, metrics: Any) -> None: ...

        def close(self, summary: Any) -> None: ...

    uri = str(tmp_path / "run")
    with pytest.raises(Interrupted, match=r"checkpoint of step 6 is saved. To go on: cineray train .*/run"):
        run_local(job_of(lake), uri=uri, sinks=[StopsAfterFive()], stop=stop)
    assert len(losses(uri)) == 6
    finished = run_local(job_of(lake), uri=uri)
    assert losses(uri) == losses(whole["run"])
    assert finished["metrics"] == whole["metrics"]
    assert finished["attempts"] == 2
    events = [event["event"] for event in RunFolder.open(uri).events()]
    assert "restored" in events


def test_workers_of_a_dataloader_change_nothing(lake: str, whole: dict[str, Any], tmp_path: Path) -> None:
    run = run_local(job_of(lake, driver="torch", workers=1, steps=4), uri=str(tmp_path / "run"))
    # A shorter run has another schedule: what a step's clips cost before the weights have moved is the same.
    assert losses(run["run"])[0] == losses(whole["run"])[0]


@pytest.mark.slow
def test_a_killed_process_costs_the_steps_since_its_checkpoint_and_nothing_else(
    lake: str, whole: dict[str, Any], tmp_path: Path
) -> None:
    uri, record = str(tmp_path / "run"), tmp_path / "job.json"
    record.write_text(job_of(lake).model_dump_json())
    code = (
        "import pathlib, sys, time, torch; torch.set_num_threads(1)\n"
        "from cineray.train import TrainJob, run_local\n"
        "class Slow:\n"
        "    def row(self, row): time.sleep(0.3)\n"
        "    def judged(self, step, metrics): pass\n"
        "    def close(self, summary): pass\n"
        "job = TrainJob.model_validate_json(pathlib.Path(sys.argv[1]).read_text())\n"
        "run_local(job, uri=sys.argv[2], sinks=[Slow()])\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(record), uri])
    checkpoint = Path(uri) / "checkpoints" / "00000003" / "manifest.json"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert checkpoint.exists()
    assert not (Path(uri) / "checkpoints" / "00000008").exists()
    run_local(job_of(lake), uri=uri)
    assert losses(uri) == losses(whole["run"])


def test_another_plan_is_refused_and_more_steps_are_not(lake: str, whole: dict[str, Any], tmp_path: Path) -> None:
    uri = str(tmp_path / "copied")
    shutil.copytree(whole["run"], uri)
    with pytest.raises(UsageError, match="seed: 0 -> 1"):
        run_local(job_of(lake, seed=1), uri=uri)
    assert run_local(job_of(lake, steps=9), uri=uri)["step"] == 9


def test_what_needs_ray_says_so(lake: str) -> None:
    with pytest.raises(UsageError, match=r"feed\.driver is ray"):
        run_local(job_of(lake, driver="ray"))
    with pytest.raises(UsageError, match=r"parallel\.workers is 2.*one process"):
        run_local(job_of(lake, parallel=ParallelConfig(workers=2)))


# ---- what the clips are ----------------------------------------------------------------------------------------------


def videos_of(spec: FeedSpec) -> set[str]:
    catalog = spec.open().catalogs[0]
    return {catalog.clip(number).video_id for number in range(len(catalog))}


def test_a_version_without_the_split_holds_out_a_share_of_its_videos(lake: str) -> None:
    job = resolved(job_of(lake))
    training, judging = training_spec(job), validation_spec(job)
    assert judging is not None
    assert len(videos_of(judging)) == 3  # a fifth of 16
    assert len(videos_of(training)) == 13
    assert not videos_of(judging) & videos_of(training)
    assert resolved(job) == job, "what is definite stays"
    assert len(job.classes) == 8


def test_a_version_with_the_split_is_judged_on_it(tmp_path: Path) -> None:
    make_shapes(tmp_path / "videos" / "train", videos=6, frames=12, size_px=32)
    make_shapes(tmp_path / "videos" / "validation", videos=3, frames=12, size_px=32, seed=1)
    ingest(IngestConfig(source=str(tmp_path / "videos"), lake=str(tmp_path / "lake")), EngineConfig(engine="local"))
    job = resolved(job_of(str(tmp_path / "lake"), split="train", classes="none"))
    assert job.validation.recipe is not None
    assert [spec.split for spec in job.validation.recipe.datasets] == ["validation"]
    assert job.recipe.datasets[0].filter is None
    training, judging = training_spec(job), validation_spec(job)
    assert judging is not None
    assert (len(videos_of(training)), len(videos_of(judging))) == (6, 3)


def test_the_fixed_clips_do_not_follow_the_runs_seed(lake: str) -> None:
    seen = []
    for seed in (0, 1):
        spec = validation_spec(resolved(job_of(lake, seed=seed)))
        assert spec is not None
        seen.append(local_batch(spec, 0).frames_BTHWC)
    assert (seen[0] == seen[1]).all()


def test_a_job_without_validation_keeps_all_its_clips(lake: str) -> None:
    job = resolved(job_of(lake, validation=ValidationConfig(every_steps=0)))
    assert validation_spec(job) is None
    assert len(videos_of(training_spec(job))) == 16


def test_nothing_to_hold_out_is_said_before_anything_is_computed(lake: str) -> None:
    recipe = job_of(lake).recipe
    video = min(videos_of(FeedSpec(recipe=recipe)))
    only = recipe.datasets[0].model_copy(update={"filter": f"video_id = '{video}'"})
    job = job_of(lake, recipe=recipe.model_copy(update={"datasets": (only,)}))
    with pytest.raises(UsageError, match=r"has 1 videos .*validation\.every_steps=0"):
        resolved(job)


class SomebodyElse:
    """Starts the run again, elsewhere, while its step 4 is under way."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def row(self, row: Mapping[str, Any]) -> None:
        if row["step"] == 4:
            RunFolder.open(str(self.run)).begin_attempt()

    def judged(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self, summary: Mapping[str, Any]) -> None: ...


def test_a_run_that_is_started_again_elsewhere_is_left_to_the_newer_start(lake: str, tmp_path: Path) -> None:
    place = tmp_path / "run"
    with pytest.raises(RunSuperseded, match=f"the run {place} was started again while attempt 1 was at work"):
        run_local(job_of(lake), uri=str(place), sinks=[SomebodyElse(place)])
    assert [path.name for path in sorted((place / "checkpoints").iterdir())] == ["00000003"]
    (last,) = [event for event in RunFolder.open(str(place)).events() if event["event"] == "end"]
    assert last["attempt"] == 1
    assert last["reason"].startswith("failed: RunSuperseded")

    assert run_local(job_of(lake), uri=str(place))["step"] == 8
