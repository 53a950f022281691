"""A run is accepted wherever a job is: `cineray batch RUN --step N` shows what the run was shown; it is only read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cineray.batch import batch_digest
from cineray.cli.job import data_spec, read_job
from cineray.errors import UsageError
from cineray.feed import DataJob, FeedSpec, Journal, local_batch
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.records import Reject
from cineray.testing import make_shapes
from cineray.train.run_folder import RunFolder


def digest(where: str, step: int, sets: list[str] | None = None) -> str:
    with data_spec(where, sets or []) as (_, spec):
        return batch_digest([local_batch(spec, step)])


def test_the_command_shows_the_runs_batch(run: RunFolder, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cineray", "batch", run.uri, "--step", "7", "--no-files"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["sha256"] == batch_digest([local_batch(run.spec(), 7)])
    assert facts["fingerprint"] == run.facts["fingerprint"]


def test_a_run_shows_its_own_version_when_the_lake_has_a_newer_one(tmp_path: Path) -> None:
    make_shapes(tmp_path / "videos" / "a", videos=4)
    source = IngestConfig(source=str(tmp_path / "videos"), lake=str(tmp_path / "lake"))
    ingest(source, EngineConfig(engine="local"))
    recipe = {"datasets": [{"lake": str(tmp_path / "lake"), "split": None}], "sampling": {"frames": 4}}
    job = DataJob.model_validate(
        {"name": "a", "recipe": recipe | {"frame": {"height": 32, "width": 32}, "batch_size": 3}}
    )
    run = RunFolder.create(job, FeedSpec(recipe=job.recipe).pinned(), str(tmp_path / "run"))
    before = digest(run.uri, 2)

    make_shapes(tmp_path / "videos" / "b", videos=3, seed=9)
    ingest(source, EngineConfig(engine="local"))

    assert digest(run.uri, 2) == before
    assert batch_digest([local_batch(FeedSpec(recipe=job.recipe).pinned(), 2)]) != before


def test_its_journal_is_followed_and_not_written_to(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = run.spec().open().plan.batch(4)
    Journal(run.folder("journal")).judge(
        clips[1], Reject(name=clips[1].clip_id, stage="decode", reason="timed_out", detail="it took too long")
    )
    before = sorted(Path(run.uri).rglob("*"))

    with data_spec(run.uri, []) as (_, spec):
        batch = local_batch(spec, 4)
        assert [(one.slot, one.reason) for one in batch.substitutions] == [(1, "timed_out")]
        spec.open().journal.judge(  # type: ignore[union-attr]
            clips[2], Reject(name=clips[2].clip_id, stage="decode", reason="timed_out", detail="on this laptop")
        )
    assert sorted(Path(run.uri).rglob("*")) == before


def test_another_recipe_laid_over_it_is_another_plan(run: RunFolder) -> None:
    with data_spec(run.uri, ["recipe.batch_size=2"]) as (job, spec):
        assert (job.recipe.batch_size, spec.fingerprint) == (2, "")
        assert len(local_batch(spec, 4).specs) == 2
    with data_spec(run.uri, ["feed.workers=3"]) as (job, spec):
        assert (job.feed.workers, spec.fingerprint) == (3, run.facts["fingerprint"])


def test_a_copy_of_its_yaml_is_a_job_too(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    shutil.copy(Path(run.uri) / "run.yaml", tmp_path / "copy" / "run.yaml")
    assert read_job(str(tmp_path / "copy"), []) == read_job(run.uri, [])
    assert digest(str(tmp_path / "copy"), 3) == digest(f"{run.uri}/run.yaml", 3) == digest(run.uri, 3)


def test_what_is_no_job_is_told_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="wanted a Python file with a function job\\(\\), a job's YAML, or a run's"):
        read_job(str(tmp_path / "nothing"), [])


@pytest.mark.network
def test_a_run_in_an_object_store_is_a_job_too(job: DataJob, spec: FeedSpec, s3_bucket: str) -> None:
    run: Any = RunFolder.create(job, spec, f"{s3_bucket}/runs/a")
    assert digest(run.uri, 3) == batch_digest([local_batch(spec, 3)])
