"""A job on a cluster's files: the command of its RayJob, and what of job, command and cluster does not go together.

A RayJob sends nothing along: its job's file lies in the image, under the name that it has in the project. Everything
else that the command names must mean the same in every pod and at every try, so the command is the one that `cineray
submit` would send (`compose.py`): places made whole, decoding where the cluster decodes, a run that further tries go on
with.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cineray.config import Config, override
from cineray.errors import UsageError
from cineray.feed import DataJob
from cineray.feed.job import SUBCLUSTER
from cineray.launch.cluster.files import ClusterFiles
from cineray.launch.cluster.fit import training_pool
from cineray.launch.package import make_package
from cineray.launch.places import FIELDS, is_relative, relative_places
from cineray.launch.working_tree import project_files, project_root
from cineray.train.config import LearningJob

if TYPE_CHECKING:
    from cineray.launch.compose import ReadJob

GPUS, DECODES = "parallel.gpus_per_worker", "feed.decode_subcluster"
_PLACES = frozenset({"--continue", "--run", "--sweep", "--lake", "-l", "--out", "--against"})
"""Options whose value is a place."""
_OF_THE_IMAGE = frozenset({".py", ".yaml", ".yml"})
"""Endings of jobs' files, which the image has."""


def with_command(files: ClusterFiles, job: str, sets: Sequence[str], places: str, read: ReadJob) -> ClusterFiles:
    """A RayJob that trains the job at `job`, as `cineray submit` would send it; a cluster without a RayJob stays as it
    is. `places`: below which place relative places lie; `read` reads a job from a file."""
    if files.ray_job() is None:
        return files
    from cineray.launch.cluster_parts import described_parts
    from cineray.launch.compose import Wish, compose

    told = read(job, list(sets))
    if not isinstance(told, LearningJob):
        raise UsageError(f"{job} is a {type(told).__name__}, which trains nothing, and a RayJob is made for a training")
    wish = Wish(command="train", job=job, sets=tuple(sets), places=places, code="cluster", only=_in_the_image(job))
    composed = compose(wish, read).on(described_parts(str(files.path)))
    files = files.copied()
    spec = files.ray_job()
    assert spec is not None
    spec["entrypoint"] = composed.submission.entrypoint(attempt=1)
    return files


def _in_the_image(job: str) -> tuple[str, ...]:
    """What of the project an image for this job has: the folder of the job's file. Nothing for a run."""
    file = Path(job).resolve()
    if not file.is_file():
        return ()
    root = project_root(file)
    name = file.relative_to(root)
    if name.as_posix() not in project_files(root):
        raise UsageError(f"the job {job} is ignored by git, so no image has it; move it to jobs/")
    return (name.parts[0],)


def carried_files(job: str) -> frozenset[str]:
    """The files that an image for this job has, by their names below its folder."""
    only = _in_the_image(job)
    return make_package(project_root(Path(job)), code="cluster", only=only).names if only else frozenset()


def command_of(files: ClusterFiles) -> list[str]:
    """The words of the RayJob's command; none where there is no RayJob."""
    try:
        return shlex.split(str((files.ray_job() or {}).get("entrypoint", "")))
    except ValueError as error:
        raise UsageError(f"{files.path}: the RayJob's entrypoint is no command: {error}") from None


def as_it_runs(files: ClusterFiles, job: Config) -> Config:
    """The job with what the RayJob's command sets."""
    return override(job, [value for option, value in _options(command_of(files)) if option == "--set"])


def mismatches(files: ClusterFiles, job: Config, carried: Collection[str] = ()) -> list[tuple[str, str]]:
    """What the job says, or a RayJob's command makes of it, that does not go with this cluster, as (where, what).
    Where it decodes `cineray submit` finds out; a RayJob has nobody who does. `carried`: files of its image."""
    is_ray_job = files.ray_job() is not None
    try:
        job = as_it_runs(files, job)
    except UsageError as error:
        return [("job", f"the RayJob's command is for another job: {error}")]
    found: list[tuple[str, str]] = []
    if isinstance(job, DataJob) and job.feed.driver == "ray":
        found += _where_it_decodes(files, job.feed.decode_subcluster, is_open=not is_ray_job)
    if isinstance(job, LearningJob):
        found += _what_it_trains_on(files, job.parallel.gpus_per_worker)
    found += _where_it_lies(files, job, carried) if is_ray_job else ()
    return found


def _where_it_lies(files: ClusterFiles, job: Config, carried: Collection[str]) -> Iterator[tuple[str, str]]:
    names_its_run = any(option == "--run" for option, _ in _options(command_of(files)))
    for name, place in relative_places(job).items():
        if place not in carried and not (name == "runs" and names_its_run):
            yield "job", f"{name} is {place}, in a pod a folder that goes with it; `cineray cluster render --places`"


def _where_it_decodes(files: ClusterFiles, told: str, *, is_open: bool) -> Iterator[tuple[str, str]]:
    labels = {pool.labels[SUBCLUSTER] for pool in files.pools() if pool.role == "decode"}
    if told in labels or (is_open and not told):
        return
    wanted = " or ".join(sorted(labels)) or "a pool with that label"
    advice = f"--set {DECODES}={min(labels, default='decode')}"
    yield "job", f"{DECODES} is {told!r}; the cluster decodes on {wanted}: {advice}"


def _what_it_trains_on(files: ClusterFiles, told: int | None) -> Iterator[tuple[str, str]]:
    pool = training_pool(files)
    right = min(1, pool.gpus)
    if told not in (right, None):
        yield "job", f"{GPUS} is {told}, and nodes of the pool {pool.name} have {pool.gpus} GPUs: --set {GPUS}={right}"


def relative_words(words: Sequence[str]) -> list[str]:
    """What of a command is a place that means another one wherever it runs."""
    found = []
    for option, value in _options(words):
        field, _, place = value.partition("=") if option == "--set" else (option, "", value)
        is_place = option in _PLACES or (option == "--set" and field.strip().rpartition(".")[2] in FIELDS)
        if is_place and is_relative(place.strip("'\"")):
            found.append(f"{option} {value}")
    given = _given(words)
    if is_relative(given) and Path(given).suffix not in _OF_THE_IMAGE:
        found.append(given)
    return found


def makes_no_run(words: Sequence[str]) -> bool:
    """A training that names no run: another try would begin anew."""
    trains = "train" in words and Path(_given(words)).suffix in _OF_THE_IMAGE
    return trains and not any(option == "--run" for option, _ in _options(words))


def _given(words: Sequence[str]) -> str:
    """What the command is given: `train JOB`, after `python -m cineray` or after the `--` of `cineray.launch.start`."""
    begin = "--" if "--" in words else "cineray"
    at = words.index(begin) + 2 if begin in words else len(words)
    return next((word for word in words[at : at + 1] if not word.startswith("-")), "")


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options of a command and their values: `--run R` and `--run=R`."""
    for at, word in enumerate(words):
        name, sign, value = word.partition("=")
        if sign and name.startswith("-"):
            yield name, value
        elif word.startswith("-") and at + 1 < len(words):
            yield word, words[at + 1]
