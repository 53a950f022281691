"""`cineray cluster`: from a job and its measured run to a cluster's files of the right size, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from cineray.cli.main import app
from cineray.config import job_to_yaml
from cineray.feed import FeedConfig
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train import ParallelConfig, TrainJob, ValidationConfig
from cineray.train.job_kinds import JOB_KINDS
from cineray.train.ledger import Ledger
from cineray.train.resolve import resolved, training_spec
from cineray.train.run_folder import RunFolder

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
AWS, KUEUE = CLUSTER / "vm" / "aws.yaml", CLUSTER / "kuberay" / "overlays" / "kueue"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job's record whose trainers are two."""
    folder = tmp_path_factory.mktemp("cluster-command")
    make_shapes(folder / "videos", videos=6, frames=12, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    made = TrainJob(
        name="sized",
        recipe=Recipe(
            datasets=(DatasetSpec(lake=str(folder / "lake"), version="1", split=None),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=4),
            frame=FrameSpec(height=32, width=32),
            batch_size=4,
        ),
        steps=10,
        model=StDiTConfig(size="custom", width=32, depth=1, heads=2, patch=(1, 8, 8)),
        validation=ValidationConfig(every_steps=0),
        feed=FeedConfig(decode_subcluster="decode"),
        parallel=ParallelConfig(workers=2),
        runs=str(folder / "runs"),
    )
    file = folder / "sized.yaml"
    file.write_text(job_to_yaml(made, JOB_KINDS))
    return file


def run(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["cluster", *map(str, arguments)])
    assert done.exit_code == code, f"{done.output}\n{done.exception!r}"
    return done


def decode_of(*arguments: object) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(run("check", *arguments, "--json").stdout)["decode"]
    return told


def test_a_job_without_a_run_says_how_long_its_steps_take(job: Path) -> None:
    told = decode_of(AWS, "--job", job, "--step-seconds", 0.5)
    plan = json.loads(CliRunner().invoke(app, ["plan", str(job), "--json"]).stdout)
    per_step = plan["decode_cpu_seconds_per_epoch"] / plan["steps_per_epoch"]
    assert told["decode_cpu_seconds_per_step"] == pytest.approx(per_step)
    assert (told["gpus"], told["gpu_seconds_per_step"]) == (2, 1.0)
    assert told["cores_per_gpu"] == pytest.approx(per_step / 1.0)


def test_a_run_says_it_by_its_ledger_for_any_number_of_gpus(job: Path) -> None:
    made = TrainJob.model_validate({k: v for k, v in yaml.safe_load(job.read_text()).items() if k != "kind"})
    made = resolved(made)
    folder = RunFolder.create(made, training_spec(made), str(job.parent / "runs" / "measured"))
    ledger = Ledger(folder.folder("ledger"), 1)
    for step in range(8):  # on two GPUs, 0.3 s of which 0.1 s waits
        told = {"step": step, "attempt": 1, "bucket": "b", "step_s": 0.3, "data_wait_s": 0.1, "longest_wait_s": 0.1}
        ledger.add(told | {"world_size": 2, "checkpoint_s": 0.0, "validation_s": 0.0})
    ledger.close()
    small = decode_of(AWS, "--job", folder.uri)
    large = decode_of(AWS, "--job", job, "--measured", folder.uri, "--gpus", 16)
    assert small["gpu_seconds_per_step"] == pytest.approx(0.4)
    assert (small["gpus"], large["gpus"]) == (2, 16)
    assert small["cores_per_gpu"] == pytest.approx(large["cores_per_gpu"])


def test_render_prints_files_that_are_large_enough(job: Path, tmp_path: Path) -> None:
    slow = ("--job", job, "--step-seconds", 1e-5, "--gpus", 8)  # so fast that decoding takes hundreds of cores
    problems = json.loads(run("check", AWS, *slow, "--json", code=1).stdout)["problems"]
    assert [one["where"] for one in problems] == ["decode"]
    file = tmp_path / "mine.yaml"
    run("render", AWS, *slow, "--out", file)
    assert json.loads(run("check", file, *slow, "--json").stdout)["problems"] == []
    assert yaml.safe_load(file.read_text())["provider"] == yaml.safe_load(AWS.read_text())["provider"]


def test_render_makes_a_ray_job_of_the_job(job: Path, tmp_path: Path) -> None:
    places = ("--places", "s3://b/p", "--set", "runs=runs")  # a lake of all, and runs of a laptop's folder
    done = run("render", KUEUE, "--job", job, "--step-seconds", 1, "--set", "seed=3", *places)
    (told,) = (one for one in yaml.safe_load_all(done.stdout) if one["kind"] == "RayJob")
    command = told["spec"]["entrypoint"]
    assert "-- train sized.yaml --run s3://b/p/runs/sized-" in command
    assert command.endswith("--set seed=3 --set runs=runs --set runs=s3://b/p/runs --set parallel.gpus_per_worker=1")
    assert [one["replicas"] for one in told["spec"]["rayClusterSpec"]["workerGroupSpecs"]] == [1, 1]
    assert "decoding cores per GPU" in done.stderr
    assert f"the RayJob runs: {command}" in done.stderr


def test_check_finds_nothing_wrong_with_the_ray_job_that_render_wrote(job: Path, tmp_path: Path) -> None:
    told = yaml.safe_load(job.read_text())
    told["feed"].pop("decode_subcluster")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(told | {"runs": "runs"}))
    mine = ("--job", tmp_path / "mine.yaml", "--step-seconds", 1)
    run("render", KUEUE, *mine, "--places", "s3://b/p", "--out", tmp_path / "rendered.yaml")
    assert json.loads(run("check", tmp_path / "rendered.yaml", *mine, "--json").stdout)["problems"] == []


def test_check_says_what_is_wrong_in_a_table_and_ends_with_1(tmp_path: Path) -> None:
    told = yaml.safe_load(AWS.read_text())
    told["available_node_types"]["gpu"]["node_config"].pop("SecurityGroupIds")
    file = tmp_path / "open.yaml"
    file.write_text(yaml.safe_dump(told))
    assert "SecurityGroupIds is missing" in run("check", file, "--table", code=1).stdout


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["check", "nowhere"], "there is nothing at nowhere; wanted an overlay"),
        (["check", AWS, "--job", "JOB"], "name a run of such a job by --measured RUN, or say --step-seconds"),
        (["check", AWS, "--job", "JOB", "--measured", "r", "--step-seconds", "1"], "give one"),
        (
            ["render", KUEUE, "--job", "JOB", "--step-seconds", "1", "--set", "runs=runs"],
            "the job has relative places (runs=runs)",
        ),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[object], wanted: str, job: Path) -> None:
    words = [job if word == "JOB" else word for word in arguments]
    done = CliRunner().invoke(app, ["cluster", *map(str, words)])
    assert wanted in str(done.exception)
