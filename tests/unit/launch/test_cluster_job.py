"""A job on a cluster's files: what a RayJob runs means the same in every pod and at every try, or it is said."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cineray.cli.job import read_job
from cineray.config import Config, override
from cineray.errors import UsageError
from cineray.feed import FeedConfig
from cineray.launch.cluster.files import ClusterFiles, read_cluster
from cineray.launch.cluster.job import as_it_runs, carried_files, makes_no_run, mismatches, relative_words, with_command
from cineray.launch.places import relative_places
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.train import TrainJob
from cineray.train.run_folder import is_run

REPO = Path(__file__).resolve().parents[3]
OVERLAYS = REPO / "cluster" / "kuberay" / "overlays"
GKE, KUEUE, KIND = OVERLAYS / "gke", OVERLAYS / "kueue", OVERLAYS / "kind"


def laptops_job() -> TrainJob:
    """Of a laptop: its lake lies in the folder where it is started, and nothing is said of any cluster."""
    recipe = Recipe(
        datasets=(DatasetSpec(lake="lakes/a"),),
        sampling=SamplingSpec(mode="fps", fps="8", frames=8),
        frame=FrameSpec(height=32, width=32),
        batch_size=64,
    )
    return TrainJob(name="j", recipe=recipe, steps=10, feed=FeedConfig(driver="ray"))


def read(file: str, sets: list[str]) -> Config:
    return override(laptops_job(), sets)


@pytest.fixture
def job(tmp_path: Path) -> str:
    """A job's file in a project, with a text beside it."""
    (tmp_path / "my job.py").write_text("# a job")
    return str(tmp_path / "my job.py")


def entrypoint(files: ClusterFiles) -> str:
    told = files.ray_job()
    assert told is not None
    return str(told["entrypoint"])


def rayjob(command: str) -> ClusterFiles:
    files = read_cluster(str(KUEUE))
    told = files.ray_job()
    assert told is not None
    told["entrypoint"] = command
    return files


# ---- the command that is written -------------------------------------------------------------------------------------


def test_a_ray_job_is_told_the_command_that_submit_would_send(job: str) -> None:
    words = shlex.split(entrypoint(with_command(read_cluster(str(KUEUE)), job, ["seed=1"], "s3://b/p", read)))
    run = words[words.index("--run") + 1]
    assert run.startswith("s3://b/p/runs/j-")
    assert words[:8] == ["exec", "python", "-m", "cineray.launch.start", "--continue", run, "--", "train"]
    assert words[8:11] == ["my job.py", "--run", run], "its name in the image, and none of this machine's folders"
    assert [word for word in words[11:] if word != "--set"] == [
        "seed=1",
        "recipe.datasets.0.lake=s3://b/p/lakes/a",
        "runs=s3://b/p/runs",
        "feed.decode_subcluster=decode",
        "parallel.gpus_per_worker=1",
    ]


def test_what_was_written_goes_with_the_cluster(job: str) -> None:
    files = with_command(read_cluster(str(KUEUE)), job, [], "s3://b/p", read)
    assert mismatches(files, laptops_job()) == []
    assert relative_words(shlex.split(entrypoint(files))) == []


def test_without_places_the_relative_ones_are_named(job: str) -> None:
    with pytest.raises(UsageError, match=r"recipe\.datasets\.0\.lake=lakes/a, runs=runs.*--places"):
        with_command(read_cluster(str(KUEUE)), job, [], "", read)


def test_what_the_job_says_of_gpus_stays(job: str) -> None:
    sets = ["parallel.gpus_per_worker=0"]
    told = entrypoint(with_command(read_cluster(str(KUEUE)), job, sets, "s3://b/p", read))
    assert told.count("gpus_per_worker") == 1


def test_a_cluster_without_a_ray_job_stays_as_it_is() -> None:
    files = read_cluster(str(GKE))
    assert with_command(files, "nowhere.py", [], "", read) is files


def test_a_job_that_trains_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"data_shapes\.py is a DataJob, which trains nothing"):
        with_command(read_cluster(str(KUEUE)), str(REPO / "jobs" / "data_shapes.py"), [], "s3://b", read_job)


# ---- the command that is there ---------------------------------------------------------------------------------------


def test_the_ray_job_of_the_repository_leaves_no_place_of_its_job_relative() -> None:
    """What its command leaves as the job has it would be a folder of the image: there is no lake in it."""
    files = read_cluster(str(KUEUE))
    words = shlex.split(entrypoint(files))
    (name,) = [word for word in words if word.endswith(".py")]
    made = as_it_runs(files, read_job(str(REPO / name), []))
    assert {field: place for field, place in relative_places(made).items() if field != "runs"} == {}
    assert "--run" in words
    assert mismatches(files, read_job(str(REPO / name), [])) == []


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("python -m cineray train jobs/a.py --run s3://b/r --set recipe.datasets.0.lake=s3://b/l", []),
        ("python -m cineray train jobs/a.py --run runs/r", ["--run runs/r"]),
        ("python -m cineray train jobs/a.py --run=runs/r", ["--run runs/r"]),
        ("python -m cineray train jobs/a.py --set runs=runs --set seed=3", ["--set runs=runs"]),
        ("exec python -m cineray.launch.start --continue runs/r -- train /shared/a.py", ["--continue runs/r"]),
        ("python -m cineray train runs/r", ["runs/r"]),
        ("python -m cineray train /shared/runs/r", []),
    ],
)
def test_relative_places_of_a_command_are_found(command: str, found: list[str]) -> None:
    assert relative_words(shlex.split(command)) == found


@pytest.mark.parametrize(
    ("command", "begins_anew"),
    [
        ("python -m cineray train jobs/a.py", True),
        ("python -m cineray train jobs/a.py --run s3://b/r", False),
        ("python -m cineray train s3://b/r", False),
    ],
)
def test_a_training_without_a_place_for_its_run_begins_anew(command: str, begins_anew: bool) -> None:
    assert makes_no_run(shlex.split(command)) is begins_anew


def test_a_command_of_half_a_quote_is_said() -> None:
    ((_, what),) = mismatches(rayjob("python -m cineray train 'jobs/a.py"), laptops_job())
    assert what.endswith("the RayJob's entrypoint is no command: No closing quotation")


# ---- what does not go together ---------------------------------------------------------------------------------------


def test_what_a_ray_job_leaves_open_nobody_says_for_it() -> None:
    found = mismatches(rayjob("python -m cineray train jobs/a.py --run s3://b/r"), laptops_job())
    assert [what.split(" is ")[0] for _, what in found] == [
        "feed.decode_subcluster",
        "recipe.datasets.0.lake",
    ]


def test_what_a_job_leaves_open_submit_says_for_it() -> None:
    assert mismatches(read_cluster(str(GKE)), laptops_job()) == []


def test_a_job_for_cores_or_for_gpus_that_the_cluster_does_not_have_is_told() -> None:
    on_cores = override(laptops_job(), ["parallel.gpus_per_worker=0"])
    on_gpus = override(laptops_job(), ["parallel.gpus_per_worker=1", "feed.decode_subcluster=cheap"])
    assert mismatches(read_cluster(str(GKE)), on_cores) == [
        (
            "job",
            "parallel.gpus_per_worker is 0, and nodes of the pool gpu have 8 GPUs: --set parallel.gpus_per_worker=1",
        )
    ]
    assert [what for _, what in mismatches(read_cluster(str(KIND)), on_gpus)] == [
        "feed.decode_subcluster is 'cheap'; the cluster decodes on decode: --set feed.decode_subcluster=decode",
        "parallel.gpus_per_worker is 1, and nodes of the pool train have 0 GPUs: --set parallel.gpus_per_worker=0",
    ]


def test_a_command_for_another_job_is_told() -> None:
    files = rayjob("python -m cineray train jobs/a.py --run s3://b/r --set recipe.datasets.7.lake=s3://b/l")
    ((where, what),) = mismatches(files, laptops_job())
    assert where == "job"
    assert what.startswith("the RayJob's command is for another job: ")


def test_files_of_the_image_are_whole_places(job: str) -> None:
    (Path(job).parent / "words.txt").write_text("a cat")
    assert carried_files(job) == {"my job.py"}, "of this job the image has its own file; a folder goes as a whole"
    assert "jobs/train_ucf101.py" in carried_files(str(REPO / "jobs" / "smoke_cpu.py"))
    assert not is_run(job)
    assert carried_files("s3://b/runs/r") == frozenset()
