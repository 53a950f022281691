"""From what is typed to what is sent: places made definite, the run found again, the same job the same submission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cineray.config import Config, override
from cineray.curate import CurateJob
from cineray.errors import UsageError
from cineray.feed import FeedConfig
from cineray.launch.compose import Composed, Wish, compose
from cineray.launch.references import Secret
from cineray.launch.start import continued
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.train import TrainJob, ValidationConfig


def read(_file: str, sets: list[str]) -> Config:
    recipe = Recipe(
        datasets=(DatasetSpec(lake="demo-out/lake"), DatasetSpec(lake="s3://b/lake")),
        sampling=SamplingSpec(mode="stride", frames=4),
        frame=FrameSpec(height=16, width=16),
        batch_size=4,
    )
    told = {"feed": FeedConfig(driver="local"), "validation": ValidationConfig(every_steps=0)}
    return override(TrainJob(name="tiny", recipe=recipe, steps=1, **told), sets)


@pytest.fixture
def job(tmp_path: Path) -> str:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "tiny.py").write_text("# a job")
    return str(tmp_path / "jobs" / "tiny.py")


def composed(job: str, command: str = "train", **told: Any) -> Composed:
    return compose(Wish(command=command, job=job, **{"places": "s3://b/p", "code": "cluster", **told}), read)


def test_a_laptops_training_becomes_one_that_means_the_same_on_a_cluster(job: str) -> None:
    made = composed(job, sets=("steps=3",))
    placed = ["recipe.datasets.0.lake=s3://b/p/demo-out/lake", "runs=s3://b/p/runs", "feed.driver=ray"]
    assert list(made.added) == placed
    run = made.submission.run
    assert run.startswith("s3://b/p/runs/tiny-")
    sets = [word for one in ["steps=3", *placed] for word in ("--set", one)]
    assert list(made.submission.words) == ["train", "tiny.py", "--run", run, *sets]


def test_without_places_the_relative_ones_are_named(job: str) -> None:
    with pytest.raises(UsageError, match=r"\(recipe\.datasets\.0\.lake=demo-out/lake, runs=runs\)"):
        composed(job, places="")
    definite = ("recipe.datasets.0.lake=/lakes/a", "runs=/runs", "feed.driver=torch")
    assert composed(job, places="", sets=definite).added == ()


def test_a_place_that_travels_along_stays_relative(job: str) -> None:
    Path(job).with_name("weights.json").write_text("{}")
    made = composed(job, sets=("recipe.datasets.0.lake=weights.json",))
    assert list(made.added) == ["runs=s3://b/p/runs", "feed.driver=ray"]


def test_the_same_job_is_the_same_submission_and_any_difference_another(job: str) -> None:
    def key(**told: Any) -> str:
        return composed(job, **told).submission.key

    same = key()
    assert key() == same
    others = [
        key(sets=("steps=2",)),
        key(label="again"),
        key(environment={"A": "1"}),
        key(secrets=(Secret("WANDB_API_KEY"),)),
        key(rest=("--run", "s3://b/other")),
        key(places="s3://b/q"),
    ]
    Path(job).write_text("# mended")
    others.append(key())
    assert len({same, *others}) == len(others) + 1


def test_mended_code_goes_on_with_the_run_and_another_job_begins_one(job: str) -> None:
    before = composed(job).submission.run
    Path(job).write_text("# mended")
    assert composed(job).submission.run == before
    assert composed(job, sets=("steps=2",)).submission.run != before
    assert composed(job, label="again").submission.run != before


def test_the_first_attempt_looks_for_the_run_only_where_the_place_follows_from_the_job(job: str) -> None:
    own, given = composed(job).submission, composed(job, rest=("--run", "mine")).submission
    start = "exec python -m cineray.launch.start"
    assert own.entrypoint(1).startswith(f"{start} --continue {own.run} -- train tiny.py --run {own.run} ")
    assert given.run == "s3://b/p/mine"
    assert given.entrypoint(1).startswith(f"{start} -- train tiny.py --run s3://b/p/mine ")
    assert given.entrypoint(2).startswith(f"{start} --continue s3://b/p/mine -- train tiny.py ")


def test_what_goes_on_names_the_run_in_place_of_the_job() -> None:
    words = ["train", "jobs/a.py", "--run", "s3://b/r", "--set", "steps=3"]
    assert continued(words, "s3://b/r") == ["train", "s3://b/r", "--set", "steps=3"]


def test_ids_say_the_name_the_key_and_the_attempt_and_nothing_that_ray_refuses(job: str) -> None:
    submission = composed(job).submission
    assert submission.id_of(2) == f"cineray-tiny-{submission.key}-2"
    assert submission.attempt_of(submission.id_of(2)) == 2
    assert submission.attempt_of(f"cineray-tiny-{'0' * 12}-2") == 0
    odd = composed("/data/My videos; rm", "ingest", rest=("--lake", "/l")).submission
    assert odd.id_of(1) == f"cineray-My-videos-rm-{odd.key}-1"
    assert odd.entrypoint(1).endswith("-- ingest '/data/My videos; rm' --lake /l")


def test_a_source_and_options_that_are_places_are_made_definite(job: str) -> None:
    made = composed("videos", "ingest", rest=("--lake", "lakes/a", "--out=x", "--name", "n"))
    assert made.submission.words == (
        "ingest",
        "s3://b/p/videos",
        "--lake",
        "s3://b/p/lakes/a",
        "--out=s3://b/p/x",
        *("--name", "n"),
    )
    assert (made.submission.run, made.package.files) == ("", ())
    with pytest.raises(UsageError, match="--lake is lakes/a, which on a cluster would lie in a folder"):
        composed("s3://b/v", "ingest", rest=("--lake", "lakes/a"), places="")


def test_a_run_is_gone_on_with_where_it_is(job: str) -> None:
    submission = composed("s3://b/runs/one", sets=("steps=9",)).submission
    assert submission.words == ("train", "s3://b/runs/one", "--set", "steps=9")
    assert (submission.run, submission.name) == ("s3://b/runs/one", "one")


def test_what_is_known_of_a_job_names_secrets_and_holds_none(job: str) -> None:
    submission = composed(job, secrets=(Secret("WANDB_API_KEY"), Secret("HF_TOKEN", "/s/hf"))).submission
    assert submission.metadata(1)["cineray_secrets"] == "WANDB_API_KEY,HF_TOKEN@/s/hf"
    assert submission.runtime_env(None) == {
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "300", "CINERAY_SECRETS": "WANDB_API_KEY,HF_TOKEN@/s/hf"},
        "worker_process_setup_hook": "cineray.launch.references.read_secrets",
    }


def test_what_cannot_be_submitted_is_refused(job: str) -> None:
    with pytest.raises(UsageError, match="`demo` cannot be submitted; wanted one of ingest, curate, plan,"):
        composed(job, "demo")
    Path(job).with_name("run.json").write_text("{}")
    with pytest.raises(UsageError, match=r"the job tiny\.py would not travel: of a lake or a run"):
        composed(job)


def test_a_curation_is_sent_with_its_lake_made_definite(job: str) -> None:
    def read_curation(_file: str, sets: list[str]) -> Config:
        return override(CurateJob(name="clean", lake="demo-out/lake"), sets)

    made = compose(
        Wish(command="curate", job=job, places="s3://b/p", code="cluster", rest=("--dry-run",)), read_curation
    )
    assert made.submission.words == ("curate", "tiny.py", "--dry-run", "--set", "lake=s3://b/p/demo-out/lake")
