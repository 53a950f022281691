"""Where commands get their job from: a Python file, a YAML record, and `--set` laid over either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from cineray.config import Config, load_job
from cineray.errors import UsageError

JOB: Any = typer.Argument(help="A Python file with a function job(), or a job's YAML record.")
SETS: Any = typer.Option([], "--set", help="Replace a field: --set recipe.batch_size=8; repeat.")


def job_kinds() -> dict[str, type[Config]]:
    """The jobs that there are, by the name that their YAML carries."""
    from cineray.feed.job import DataJob

    return {"data": DataJob}


def data_job(path: Path, sets: list[str]) -> Any:
    """A job that says which batches are made."""
    from cineray.feed.job import DataJob

    job = load_job(path, job_kinds(), sets)
    if not isinstance(job, DataJob):
        raise UsageError(f"{path} is a {type(job).__name__}, which has no batches; wanted a job with a recipe")
    return job
