"""From what is typed to what is sent: places made definite, the run found again, the same job the same submission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cineray.config import Config, override
from cineray.curate import CurateJob
from cineray.errors import UsageError
from cineray.feed import FeedConfig
from cineray.launch.cluster_parts import Part, Parts
from cineray.launch.compose import Composed, Wish, compose
from cineray.launch.references import Secret
from cineray.launch.start import continued
from cineray.launch.submission import Submission
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.sweep import Choice, ObjectiveSpec, SweepJob, TrialBudget, Variants
from cineray.train import TrainJob, ValidationConfig


def read(file: str, sets: list[str]) -> Config:
    """The job of a file is what its name says."""
    return override(made_sweep() if Path(file).stem == "sweep" else made_training(), sets)


def made_training() -> TrainJob:
    recipe = Recipe(
        datasets=(DatasetSpec(lake="demo-out/lake"), DatasetSpec(lake="s3://b/lake")),
        sampling=SamplingSpec(mode="stride", frames=4),
        frame=FrameSpec(height=16, width=16),
        batch_size=4,
    )
    told = {"feed": FeedConfig(driver="local"), "validation": ValidationConfig(every_steps=0)}
    return TrainJob(name="tiny", recipe=recipe, steps=1, **told)


def made_sweep(**told: Any) -> SweepJob:
    base = override(made_training(), ["feed.driver=ray"])
    space = {"lr": Choice(field="optimiser.lr", values=(0.01, 0.02))}
    values = {"name": "rates", "base": base, "space": space, "objectives": (ObjectiveSpec(name="loss"),)}
    return SweepJob(**(values | {"budget": TrialBudget(steps=9), "quick": ("budget.steps=3",)} | told))


@pytest.fixture
def job(tmp_path: Path) -> str:
    return file_in(tmp_path, "tiny.py")


@pytest.fixture
def sweep(tmp_path: Path) -> str:
    return file_in(tmp_path, "sweep.py")


PARTS = Parts(decode=Part("decode", "its nodes say so"), train=Part("1", "its head says so"))


def file_in(folder: Path, name: str) -> str:
    (folder / "jobs").mkdir()
    (folder / "jobs" / name).write_text("# a job")
    return str(folder / "jobs" / name)


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


def test_a_sweep_means_the_same_places_and_is_made_where_its_content_says(sweep: str) -> None:
    made = composed(sweep, "sweep", rest=("--quick",), sets=("trials=1",))
    placed = ["base.recipe.datasets.0.lake=s3://b/p/demo-out/lake", "sweeps=s3://b/p/sweeps"]
    assert list(made.added) == placed, "trials lie in the sweep, so base.runs is no place of it"
    where = made.submission.run
    assert where.startswith("s3://b/p/sweeps/rates-")
    sets = [word for one in ["trials=1", *placed] for word in ("--set", one)]
    assert list(made.submission.words) == ["sweep", "sweep.py", "--quick", "--sweep", where, *sets]
    whole = composed(sweep, "sweep", sets=("trials=1",)).submission
    assert whole.run != where, "a quick sweep is another one"
    assert composed(sweep, "sweep", sets=("trials=1",), label="b").submission.run != whole.run


def test_a_sweep_that_is_there_is_gone_on_with_and_never_with_another_job(sweep: str) -> None:
    submission = composed(sweep, "sweep", sets=("trials=1",)).submission
    assert submission.entrypoint(1).startswith(f"exec python -m cineray.launch.start --continue {submission.run} -- ")
    told = [*submission.words, "--quick", "--json", *("--set", "base.feed.decode_subcluster=decode")]
    assert continued(told, submission.run) == ["sweep", submission.run, "--json"]
    own = composed(sweep, "sweep", rest=("--sweep=mine",)).submission
    assert (own.run, own.words[:3]) == ("s3://b/p/mine", ("sweep", "sweep.py", "--sweep=s3://b/p/mine"))
    assert continued(own.words, own.run) == ["sweep", own.run]
    there = composed("s3://b/sweeps/one", "sweep").submission
    assert (there.words, there.run) == (("sweep", "s3://b/sweeps/one"), "s3://b/sweeps/one")


def test_places_that_a_sweep_chooses_between_are_made_definite_too(sweep: str) -> None:
    field = "latents.store"
    chooses = made_sweep(space={"data": Choice(field=field, values=("stores/a", "s3://b/a", "stores/b"))})
    made = compose(Wish(command="sweep", job=sweep, places="s3://b/p", code="cluster"), lambda *_: chooses)
    assert [one for one in made.added if one.startswith("space.")] == [
        "space.data.values.0=s3://b/p/stores/a",
        "space.data.values.2=s3://b/p/stores/b",
    ]
    varies = made_sweep(space={"data": Variants(variants={"a": {field: "stores/a"}, "b": {field: "/stores/b"}})})
    with pytest.raises(
        UsageError, match=r"space\.data\.variants\.a\.latents\.store is stores/a, and --places cannot reach"
    ):
        compose(Wish(command="sweep", job=sweep, places="s3://b/p", code="cluster"), lambda *_: varies)


@pytest.mark.parametrize(
    ("command", "file", "of"),
    [("train", "tiny.py", ""), ("sweep", "sweep.py", "base.")],
)
def test_a_cluster_that_has_nodes_for_decoding_and_gpus_is_used_so_and_it_stays_the_same_submission(
    tmp_path: Path, command: str, file: str, of: str
) -> None:
    plain = composed(file_in(tmp_path, file), command)
    told = plain.on(PARTS)
    fields = (f"{of}feed.decode_subcluster=decode", f"{of}parallel.gpus_per_worker=1")
    assert told.added == (*plain.added, *fields)
    assert told.submission.entrypoint(1) == f"{plain.submission.entrypoint(1)} --set {fields[0]} --set {fields[1]}"
    assert (told.submission.key, told.submission.run) == (plain.submission.key, plain.submission.run), (
        "pools come and go"
    )
    assert plain.on(Parts()) == plain
    described = plain.on(Parts(train=PARTS.train))
    assert described.added == (*plain.added, fields[1])
    asked = described.on(Parts(decode=PARTS.decode, train=Part("0", "the cluster says otherwise")))
    assert asked.submission.of_cluster == (fields[1], fields[0]), "what is decided stays so"


@pytest.mark.parametrize(
    "sets",
    [("feed.decode_subcluster=",), ("feed.decode_subcluster=mine",), ("feed.driver=torch",)],
    ids=["none, as is said", "another, as is said", "not decoded by Ray"],
)
def test_what_is_said_of_decoding_is_not_said_otherwise(job: str, sets: tuple[str, ...]) -> None:
    made = composed(job, sets=sets)
    assert made.on(Parts(decode=PARTS.decode)) == made


@pytest.mark.parametrize(
    "sets",
    [("parallel.gpus_per_worker=0",), ("parallel.gpus_per_worker=1",), ("feed.driver=torch",)],
    ids=["on cores, as is said", "on GPUs, as is said", "not started by Ray"],
)
def test_what_is_said_of_gpus_is_not_said_otherwise(job: str, sets: tuple[str, ...]) -> None:
    made = composed(job, sets=sets)
    assert made.on(Parts(train=PARTS.train)) == made


def test_what_only_looks_at_clips_asks_for_no_gpus(job: str) -> None:
    assert [composed(job, one).trains for one in ("bench", "plan", "latents")] == ["", "", ""]


def test_what_looks_at_a_place_looks_again_and_what_makes_something_does_not(job: str) -> None:
    looking = ("ingest", "curate", "standardise", "evaluate", "report")
    again = [composed("s3://b/x", one, rest=("--lake", "/l")).submission for one in looking]
    once = [composed(job).submission, composed("s3://b/runs/one").submission, composed(job, "plan").submission]
    assert [one.looks for one in again] == [True] * len(looking)
    assert [one.looks for one in once] == [False, False, False]


def test_what_a_command_takes_of_a_node_is_no_part_of_what_it_is() -> None:
    def evaluation(**told: float) -> Submission:
        return composed("s3://b/runs/one", "evaluate", **told).submission

    assert (evaluation(gpus=1, cpus=2).gpus, evaluation(gpus=1, cpus=2).cpus) == (1, 2)
    assert evaluation(gpus=1).key == evaluation().key


def test_two_jobs_files_are_held_against_each_other_here_and_not_there() -> None:
    with pytest.raises(UsageError, match="`evaluate --pipeline` compares two jobs' files"):
        composed("jobs/a.py", "evaluate", rest=("jobs/b.py", "--pipeline"))


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
    with pytest.raises(UsageError, match="`demo` cannot be submitted; wanted one of ingest, curate, standardise,"):
        composed(job, "demo")
    with pytest.raises(UsageError, match=r"there is no job at jobs/tyni\.py; give a file of this machine"):
        composed("jobs/tyni.py")
    Path(job).with_name("run.json").write_text("{}")
    with pytest.raises(UsageError, match=r"the job tiny\.py would not travel: of a lake or a run"):
        composed(job)


def test_a_standardising_is_sent_with_its_places_and_encodes_by_ray(job: str) -> None:
    def words(*rest: str) -> tuple[str, ...]:
        return composed("lakes/a", "standardise", rest=rest).submission.words

    assert words("-o", "shards", "--gop", "8") == (
        *("standardise", "s3://b/p/lakes/a", "-o", "s3://b/p/shards", "--gop", "8"),
        *("--engine", "ray"),
    )
    assert words("--engine=local")[2:] == ("--engine=local",)
    assert words("--address", "auto")[2:] == ("--address", "auto")
    with pytest.raises(UsageError, match="`standardise --advise` reads a job's file"):
        words("--advise", "jobs/a.py")


def test_a_curation_is_sent_with_its_lake_made_definite(job: str) -> None:
    def read_curation(_file: str, sets: list[str]) -> Config:
        return override(CurateJob(name="clean", lake="demo-out/lake"), sets)

    made = compose(
        Wish(command="curate", job=job, places="s3://b/p", code="cluster", rest=("--dry-run",)), read_curation
    )
    assert made.submission.words == ("curate", "tiny.py", "--dry-run", "--set", "lake=s3://b/p/demo-out/lake")
