"""Where commands get their job from: a Python file, a YAML record, a run's folder, and `--set` laid over each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cineray.config import Config, job_from_yaml, load_job, override
from cineray.errors import UsageError

if TYPE_CHECKING:
    from cineray.feed import DataJob, FeedSpec

JOB: Any = typer.Argument(help="A Python file with a function job(), a job's YAML record, or the folder of a run.")
SWEEP_JOB: Any = typer.Argument(help="A Python file with a function job(), a sweep's YAML record, or a sweep's folder.")
SETS: Any = typer.Option([], "--set", help="Replace a field: --set recipe.batch_size=8; repeat.")


def job_kinds() -> dict[str, type[Config]]:
    """The jobs that there are, by the name that their YAML carries."""
    from cineray.curate import CURATE_KINDS
    from cineray.sweep.config import SWEEP_KINDS
    from cineray.train.job_kinds import JOB_KINDS

    return {**JOB_KINDS, **SWEEP_KINDS, **CURATE_KINDS}


def read_job(where: str, sets: list[str]) -> Config:
    """The job that is told, whatever it is for."""
    from cineray.train.run_folder import RunFolder, is_run

    if is_run(where):
        job = job_from_yaml(RunFolder.open(where).newest_job_text(), job_kinds(), where=f"{where}/run.json")
        return override(job, sets)
    record = Path(where) / "run.yaml"
    return load_job(record if record.is_file() else where, job_kinds(), sets)


def data_job(where: str, sets: list[str]) -> DataJob:
    """A job that says which batches are made, with the clips that a training keeps for validation left out."""
    from cineray.feed.job import DataJob
    from cineray.train.config import LearningJob
    from cineray.train.resolve import resolved

    job = read_job(where, sets)
    if not isinstance(job, DataJob):
        raise UsageError(f"{where} is a {type(job).__name__}, which has no batches; wanted a job with a recipe")
    return resolved(job) if isinstance(job, LearningJob) else job


@contextmanager
def data_spec(where: str, sets: list[str]) -> Iterator[tuple[DataJob, FeedSpec]]:
    """The job and its plan in words. A run's has its very versions, and the verdicts of its journal, in a copy: a
    command that looks must not decide what the run will show."""
    from cineray.feed import FeedSpec
    from cineray.train.run_folder import RunFolder, is_run

    job = data_job(where, sets)
    run = RunFolder.open(where) if is_run(where) else None
    if run is None or (job.recipe, job.seed) != ((own := run.spec()).recipe, own.seed):
        yield job, FeedSpec(recipe=job.recipe, seed=job.seed)
        return
    with tempfile.TemporaryDirectory(prefix="cineray-journal-") as folder:
        yield job, run.spec(journal=run.copy_journal(folder))
