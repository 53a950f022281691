"""Latents that were made of a run's first steps: they are looked for before it begins, and the rest is encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cineray.errors import UsageError
from cineray.feed import local_batches
from cineray.plan import SamplingSpec
from cineray.records import Batch
from cineray.train.attempt import open_or_create
from cineray.train.config import TrainJob
from cineray.train.latents_job import prepare
from cineray.train.latents_run import RunLatents, feed_of

JobOf = Callable[..., TrainJob]


def passed(job: TrainJob, uri: Path) -> Iterator[Batch]:
    """The batches of a run's first three steps, their latents complete."""
    run, job = open_or_create(job, str(uri))
    spec = feed_of(job, run, on_gpu=False)
    return RunLatents(job, torch.device("cpu")).batches(lambda steps: local_batches(spec, steps))(range(3))


def test_of_a_run_that_ends_by_the_clock_so_many_steps_are_looked_for_and_the_rest_is_encoded(
    job_of: JobOf, tmp_path: Path
) -> None:
    """Clips begin anywhere, so no later step shows what an earlier one did."""
    random = {"sampling": SamplingSpec(mode="random", frames=5)}
    told: dict[str, Any] = {"recipe": random, "steps": 10_000_000}
    job = job_of("precomputed", latents={"steps": 2}, **told)
    prepare(job, range(2)).make("local")
    with pytest.raises(UsageError, match=r"of the run's 10,000,000 steps that were looked up, [\d,]+ have no latent"):
        next(passed(job_of("precomputed", **told), tmp_path / "all"))
    with pytest.raises(UsageError, match=r"of 12 clips of the run's 3 steps that were looked up, 4 have no latent"):
        next(passed(job_of("precomputed", latents={"steps": 3}, **told), tmp_path / "more"))
    decoded = [batch.frames_decoded for batch in passed(job, tmp_path / "run")]
    assert decoded[:2] == [0, 0]
    assert decoded[2] > 0, "it was not made before"
    with pytest.raises(ValueError, match=r"latents\.steps is given but latents\.mode is cache"):
        job_of("cache", latents={"steps": 2})
