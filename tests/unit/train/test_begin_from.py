"""A run that begins with another run's checkpoint: over real videos, with the same job, other data, other rates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from cineray.diffusion import DiffusionConfig
from cineray.errors import UsageError
from cineray.feed import FeedConfig
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train import (
    BeginFromConfig,
    BudgetConfig,
    CheckpointConfig,
    OptimiserConfig,
    RunFolder,
    TrainJob,
    ValidationConfig,
    run_local,
)
from cineray.train.attempt import open_or_create
from cineray.train.checkpoint_manifest import read_manifest, step_uri
from cineray.train.checkpoint_read import read_tensors
from cineray.train.ending import Planned, keep_planned, read_planned
from cineray.train.ledger import read_ledger


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("begin-from")
    make_shapes(folder / "videos", videos=12, frames=24, size_px=48)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


def job_of(lake: str, *, fps: str = "8", **told: Any) -> TrainJob:
    values: dict[str, Any] = {
        "name": "shapes",
        "recipe": Recipe(
            datasets=(DatasetSpec(lake=lake, split=None),),
            sampling=SamplingSpec(mode="fps", fps=fps, frames=4),
            frame=FrameSpec(height=16, width=16),
            batch_size=4,
        ),
        "feed": FeedConfig(driver="local"),
        "steps": 6,
        "model": StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8)),
        "diffusion": DiffusionConfig(least_noise=0.2),
        "optimiser": OptimiserConfig(kind="adamw", warmup_steps=2, schedule="constant"),
        "precision": "fp32",
        "validation": ValidationConfig(every_steps=0),
        "checkpoint": CheckpointConfig(every_steps=2, keep_last=9),
    }
    return TrainJob(**(values | told))


def rows(uri: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_ledger(RunFolder.open(uri).folder("ledger")).to_pylist()
    return found


def weights(uri: str, step: int, part: str) -> dict[str, torch.Tensor]:
    return read_tensors(read_manifest(step_uri(f"{uri}/checkpoints", step)), part)


@pytest.fixture(scope="module")
def other(lake: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of six steps, saved at 2, 4 and 6."""
    uri = str(tmp_path_factory.mktemp("runs") / "other")
    run_local(job_of(lake), uri=uri)
    return uri


def test_it_does_what_the_other_would_have_done_and_its_record_says_where_it_began(
    lake: str, other: str, tmp_path: Path
) -> None:
    uri = str(tmp_path / "run")
    facts = run_local(job_of(lake, begin_from=BeginFromConfig(run=other, step=4)), uri=uri)
    wanted, found = rows(other), rows(uri)
    assert [(row["step"], row["loss"], row["lr"]) for row in found] == [
        (row["step"], row["loss"], row["lr"]) for row in wanted[4:]
    ]
    for part in ("model", "ema"):
        theirs, own = weights(other, 6, part), weights(uri, 6, part)
        assert all(torch.equal(value, own[name]) for name, value in theirs.items())
    assert facts["step"] == 6
    run = RunFolder.open(uri)
    assert run.facts["begins_from"] == {"run": other, "id": RunFolder.open(other).run_id, "step": 4}
    spent = wanted[3]["training_seconds"]
    first = found[0]  # its wait is for a feed that has to start
    assert first["training_seconds"] == pytest.approx(spent + first["step_s"] - first["data_wait_s"])
    assert facts["training_seconds"] == found[-1]["training_seconds"] > spent


def test_other_data_and_other_rates_are_no_hindrance(lake: str, other: str, tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    rates = OptimiserConfig(kind="adamw", warmup_steps=2, schedule="constant", lr=0.25)
    run_local(job_of(lake, fps="4", optimiser=rates, begin_from=BeginFromConfig(run=other, step=4)), uri=uri)
    assert [(row["step"], row["lr"]) for row in rows(uri)] == [(4, 0.25), (5, 0.25)]


def test_once_it_has_a_checkpoint_of_its_own_it_needs_the_other_no_more(lake: str, other: str, tmp_path: Path) -> None:
    gone, uri = str(tmp_path / "gone"), str(tmp_path / "run")
    shutil.copytree(other, gone)
    run_local(job_of(lake, steps=5, begin_from=BeginFromConfig(run=gone, step=4)), uri=uri)
    shutil.rmtree(gone)
    run_local(job_of(lake), uri=uri)  # a job that says nothing of it goes on with the same run
    assert [row["step"] for row in rows(uri)] == [4, 5]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["begins_from"]["step"] == 4


def test_a_start_that_was_killed_before_its_first_checkpoint_begins_there_again(
    lake: str, other: str, tmp_path: Path
) -> None:
    run, _ = open_or_create(job_of(lake, begin_from=BeginFromConfig(run=other, step=4)), str(tmp_path / "run"))
    run_local(job_of(lake), uri=run.uri)
    assert [row["step"] for row in rows(run.uri)] == [4, 5]


def test_the_newest_is_meant_where_no_step_is_given_and_the_record_names_it(
    lake: str, other: str, tmp_path: Path
) -> None:
    uri = str(tmp_path / "run")
    run_local(job_of(lake, steps=7, begin_from=BeginFromConfig(run=other)), uri=uri)
    assert [row["step"] for row in rows(uri)] == [6]
    assert RunFolder.open(uri).job_facts()["begin_from"] == {"run": other, "step": 6}


def test_a_checkpoint_that_is_not_there_or_leaves_nothing_to_do_is_refused_before_a_run_is_made(
    lake: str, other: str, tmp_path: Path
) -> None:
    uri = str(tmp_path / "run")
    with pytest.raises(UsageError, match=r"checkpoint of step 3 of .*other, which has those of steps 2, 4, 6"):
        run_local(job_of(lake, begin_from=BeginFromConfig(run=other, step=3)), uri=uri)
    with pytest.raises(UsageError, match="begin_from is step 6 and steps is 6: nothing is left to do"):
        run_local(job_of(lake, begin_from=BeginFromConfig(run=other)), uri=uri)
    with pytest.raises(UsageError, match="there is no run at"):
        run_local(job_of(lake, begin_from=BeginFromConfig(run=str(tmp_path / "nowhere"))), uri=uri)
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_of_the_other_is_never_begun_with(lake: str, other: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(other, broken)
    file = next((broken / "checkpoints" / "00000004").glob("*/*.distcp"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UsageError, match=r"begins with another run's checkpoint .* cannot be used: .* bytes"):
        run_local(job_of(lake, begin_from=BeginFromConfig(run=str(broken), step=4)), uri=str(tmp_path / "run"))


def test_seconds_are_counted_on_and_an_end_that_was_fixed_before_stays(lake: str, other: str, tmp_path: Path) -> None:
    """The other was planned to end after step 8 of ten days, when 3 steps were done: who begins with step 4 ends there
    too, who begins with step 2 fixes an end of its own."""
    days = 10 * 86400.0
    kept = tmp_path / "kept"
    shutil.copytree(other, kept)
    keep_planned(RunFolder.open(str(kept)), Planned(steps=8, at_step=3, spent_seconds=days / 2, budget_seconds=days))
    budget = BudgetConfig(seconds=days)
    late, early = str(tmp_path / "late"), str(tmp_path / "early")
    run_local(job_of(lake, steps=9, budget=budget, begin_from=BeginFromConfig(run=str(kept), step=4)), uri=late)
    run_local(job_of(lake, steps=9, budget=budget, begin_from=BeginFromConfig(run=str(kept), step=2)), uri=early)
    assert [row["step"] for row in rows(late)] == [4, 5, 6, 7]
    assert [row["step"] for row in rows(early)] == [2, 3, 4, 5, 6, 7, 8]
    fixed = read_planned(RunFolder.open(early))
    assert fixed is not None
    assert (fixed.steps, fixed.at_step) == (9, 9)
