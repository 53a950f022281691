"""A whole training in one process over real videos: from a lake to a run's folder, stopped, killed and gone on with."""

from __future__ import annotations

import io
import json
import logging
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
from cineray.errors import FeedStalled, Interrupted, UsageError
from cineray.feed import FeedConfig, FeedSpec, local_batch, torch_feed
from cineray.ingest import EngineConfig, IngestConfig, SplitConfig, ingest
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.telemetry.log_lines import JsonLines
from cineray.testing import make_shapes
from cineray.train import (
    BudgetConfig,
    CheckpointConfig,
    OptimiserConfig,
    ParallelConfig,
    RunFolder,
    TrainJob,
    ValidationConfig,
    run_local,
)
from cineray.train.ledger import read_ledger
from cineray.train.local_run import batches_of
from cineray.train.parallel import World
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


def test_a_run_that_is_named_goes_on_as_it_was_last_told_to(lake: str, tmp_path: Path) -> None:
    from cineray.cli.job import read_job

    uri = str(tmp_path / "run")
    run_local(job_of(lake, steps=2), uri=uri)
    run_local(job_of(lake, steps=3, optimiser=OptimiserConfig(warmup_steps=2, lr=0.25)), uri=uri)
    job = read_job(uri, [])
    assert isinstance(job, TrainJob)
    assert (job.steps, job.optimiser.lr) == (3, 0.25)
    assert job.recipe == RunFolder.open(uri).spec().recipe, "of the very version"


def test_a_run_of_so_many_seconds_is_the_run_of_as_many_steps_as_they_were_enough_for(
    lake: str, tmp_path: Path
) -> None:
    """However fast the machine is: it says itself how many, and goes on to no others."""
    timed, uri = OptimiserConfig(warmup_steps=0), str(tmp_path / "timed")
    job = job_of(lake, steps=10**6, budget=BudgetConfig(seconds=0.2), optimiser=timed)
    facts = run_local(job, uri=uri)
    (planned,) = [event for event in RunFolder.open(uri).events() if event["event"] == "planned"]
    assert planned["spent_seconds"] >= 0.7 * 0.2
    assert (facts["step"], len(losses(uri))) == (planned["steps"], planned["steps"])
    assert "validation/headline" in facts["metrics"]
    assert run_local(job, uri=uri)["step"] == planned["steps"], "nothing is left to do"
    with pytest.raises(UsageError, match=r"was fixed at step \d+ for budget.seconds=0.2, and 60 was given"):
        run_local(job.model_copy(update={"budget": BudgetConfig(seconds=60)}), uri=uri)
    run_local(job_of(lake, steps=planned["steps"], optimiser=timed), uri=str(tmp_path / "counted"))
    assert losses(str(tmp_path / "counted")) == losses(uri)


def test_what_is_logged_while_it_trains_says_of_which_run_and_step(lake: str, tmp_path: Path) -> None:
    class Logging:
        """A sink that says a word at each step."""

        def row(self, row: Any) -> None:
            logging.getLogger("cineray.train").warning("a word")

        def judged(self, step: int, metrics: Any) -> None: ...

        def close(self, summary: Any) -> None: ...

    stream, logger = io.StringIO(), logging.getLogger("cineray")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    try:
        run = run_local(job_of(lake, steps=2), uri=str(tmp_path / "logged"), sinks=[Logging()])
    finally:
        logger.removeHandler(handler)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    said = [one for one in told if one["message"] == "a word"]
    assert [(one["step"], one["rank"], one["attempt"]) for one in said] == [(0, 0, 1), (1, 0, 1)]
    assert {one["run"] for one in said} == {RunFolder.open(run["run"]).run_id}


def test_which_kernel_attention_ran_in_is_recorded_with_the_first_step(lake: str, tmp_path: Path) -> None:
    """`flex` runs where it can and the reference where it cannot: the record says which one it was."""
    asked = StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8), attention="flex")
    on_cores = ParallelConfig(gpus_per_worker=0)
    run = run_local(job_of(lake, model=asked, steps=2, parallel=on_cores), uri=str(tmp_path / "run"))
    events = RunFolder.open(run["run"]).events()
    names = [event["event"] for event in events]
    assert names.count("attention") == 1
    assert names.index("built") < names.index("attention")
    (told,) = [event for event in events if event["event"] == "attention"]
    assert told["kernel"].startswith("sdpa"), "heads of 12 values without padding need no mask"


def test_a_job_without_gpus_is_trained_on_cores_and_one_with_a_gpu_only_where_there_is_one(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    without = ParallelConfig(gpus_per_worker=0)
    run = run_local(job_of(lake, steps=1, parallel=without), uri=str(tmp_path / "without"))
    assert [event["device"] for event in RunFolder.open(run["run"]).events() if event["event"] == "built"] == ["cpu"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UsageError, match=r"gpus_per_worker is 1 and torch sees no GPU"):
        run_local(job_of(lake, parallel=ParallelConfig(gpus_per_worker=1)), uri=str(tmp_path / "with"))
    assert not (tmp_path / "with").exists()


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


def test_workers_that_give_nothing_for_too_long_end_the_run(lake: str, tmp_path: Path) -> None:
    feed = FeedConfig(driver="torch", workers=1, no_batch_seconds=0.01)  # less than a worker needs to start
    with pytest.raises(FeedStalled, match=r"no batch for 0\.01 s from 1 workers"):
        run_local(job_of(lake, feed=feed), uri=str(tmp_path / "run"))


def test_as_many_steps_lie_ready_as_the_job_says(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker makes windows: of four steps each here, so that one of each of the two is four steps and more."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch_feed, "DataLoader", lambda _feed, **told: asked.append(told) or [])
    job = job_of(lake, feed=FeedConfig(driver="torch", workers=2, prefetch_steps=4))
    job = job.model_copy(update={"recipe": job.recipe.model_copy(update={"clips_per_visit": 4})})
    spec = FeedSpec(recipe=job.recipe)
    assert list(batches_of(job, spec, World.here())(range(8))) == []
    assert [(told["num_workers"], told["prefetch_factor"], told["timeout"]) for told in asked] == [(2, 1, 600)]


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


def test_what_was_cut_from_one_recording_is_held_out_together(tmp_path: Path) -> None:
    """24 videos of 6 recordings of 4: a fifth is one recording, and no other one is parted either."""
    make_shapes(tmp_path / "made", videos=24, frames=12, size_px=32)
    for number, path in enumerate(sorted((tmp_path / "made").rglob("*.mp4"))):
        path.rename(path.with_name(f"recording-{number % 6}-part-{number // 6}.mp4"))
    source = IngestConfig(
        source=str(tmp_path / "made"),
        lake=str(tmp_path / "lake"),
        splits=SplitConfig(group_by="path:(recording-[0-9]+)"),
    )
    ingest(source, EngineConfig(engine="local"))
    job = resolved(job_of(str(tmp_path / "lake")))
    training, judging = training_spec(job), validation_spec(job)
    assert judging is not None

    def recordings(spec: FeedSpec) -> dict[str, int]:
        catalog = spec.open().catalogs[0]
        names = [Path(catalog.located(number)[1].uri).name.split("-part")[0] for number in range(len(catalog))]
        return {name: names.count(name) for name in names}

    assert list(recordings(judging).values()) == [4]
    assert list(recordings(training).values()) == [4] * 5
    assert not recordings(judging).keys() & recordings(training).keys()
    assert resolved(job) == job


def test_one_recording_cannot_be_held_out_of_itself(tmp_path: Path) -> None:
    make_shapes(tmp_path / "made", videos=3, frames=12, size_px=32)
    source = IngestConfig(
        source=str(tmp_path / "made"), lake=str(tmp_path / "lake"), splits=SplitConfig(group_by="path:(mp4)$")
    )
    ingest(source, EngineConfig(engine="local"))
    with pytest.raises(UsageError, match=r"3 videos of 1 groups .*validation\.every_steps=0"):
        resolved(job_of(str(tmp_path / "lake")))


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
    assert [path.name for path in sorted((place / "checkpoints").iterdir())] == ["00000003", "00000004"]
    (last,) = [event for event in RunFolder.open(str(place)).events() if event["event"] == "end"]
    assert last["attempt"] == 1
    assert last["reason"].startswith("failed: RunSuperseded")

    assert run_local(job_of(lake), uri=str(place))["step"] == 8
