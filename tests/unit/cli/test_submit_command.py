"""`cineray submit` before it asks a cluster: what is wrong is found here, and `--dry-run` says what would be sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cineray.cli.main import app
from cineray.config import job_to_yaml
from cineray.errors import UsageError
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.train import TrainJob, ValidationConfig
from cineray.train.job_kinds import JOB_KINDS

CANARY = "canary-91c7e2d4a05b"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def job(tmp_path: Path) -> str:
    recipe = Recipe(
        datasets=(DatasetSpec(lake="lakes/one"),),
        sampling=SamplingSpec(mode="stride", frames=4),
        frame=FrameSpec(height=16, width=16),
        batch_size=4,
    )
    told = TrainJob(name="tiny", recipe=recipe, steps=1, validation=ValidationConfig(every_steps=0))
    (tmp_path / "job.yaml").write_text(job_to_yaml(told, JOB_KINDS))
    return str(tmp_path / "job.yaml")


def submit(*words: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, ["submit", *words, "--address", NOWHERE, "--dry-run", "--json"], env=env)


def test_a_dry_run_says_what_would_be_sent_and_asks_no_cluster(job: str) -> None:
    told = json.loads(submit("train", job, "--places", "s3://b/p", "--secret", "WANDB_API_KEY").stdout)
    assert told["submission_id"].startswith("cineray-tiny-")
    assert told["command"].startswith(
        f"cineray train job.yaml --run {told['run']} --set recipe.datasets.0.lake=s3://b/p"
    )
    assert (told["status"], told["secrets"]) == ("not sent", ["WANDB_API_KEY"])
    assert told["package_files"] > 400
    assert 2_000_000 < told["package_bytes"] < 10_000_000


def test_an_option_that_the_command_does_not_have_is_found_here(job: str) -> None:
    done = submit("train", job, "--places", "/p", "--stepz", "3")
    assert done.exit_code == 2
    assert "No such option: --stepz" in done.stderr


def test_a_standardising_is_read_here_as_it_will_be_there(job: str) -> None:
    told = json.loads(submit("standardise", "s3://b/lake", "--gop", "8", "--code", "cluster").stdout)
    assert told["command"] == "cineray standardise s3://b/lake --gop 8 --engine ray"
    assert told["submission_id"].startswith("cineray-lake-")
    done = submit("standardise", "s3://b/lake", "--gob", "8", "--code", "cluster")
    assert (done.exit_code, "No such option: --gob" in done.stderr) == (2, True)


def test_a_field_that_the_job_does_not_have_is_found_here(job: str) -> None:
    done = submit("train", job, "--places", "/p", "--set", "step=3")
    assert isinstance(done.exception, UsageError)
    assert "did you mean `steps`?" in str(done.exception)


@pytest.mark.parametrize(
    "words",
    [
        ("--set", f"runs={CANARY}"),
        ("--places", f"s3://{CANARY}"),
        ("--run", CANARY),
        ("--label", CANARY),
        ("--python", CANARY),
        ("--only", CANARY),
        ("--code", CANARY),
        ("--env", f"A={CANARY}"),
        ("--secret", f"A_KEY={CANARY}"),
    ],
)
def test_the_value_of_a_secret_is_refused_wherever_it_is_typed_and_not_repeated(
    job: str, words: tuple[str, ...]
) -> None:
    done = submit("train", job, *words, env={"A_KEY": CANARY})
    assert isinstance(done.exception, UsageError)
    assert CANARY not in f"{done.exception}{done.stdout}{done.stderr}"


def test_a_file_that_holds_one_is_refused_by_its_name(job: str) -> None:
    Path(job).with_name("notes.txt").write_text(f"key: {CANARY}")
    done = submit("train", job, "--places", "/p", env={"A_KEY": CANARY})
    assert str(done.exception).startswith("the file notes.txt holds the value of $A_KEY")
