"""Which jobs there are: the name that a job's YAML carries -> its config. No torch."""

from __future__ import annotations

from cineray.config import Config
from cineray.feed.job import DataJob
from cineray.train.config import TrainJob
from cineray.train.vae_config import TrainVaeJob

JOB_KINDS: dict[str, type[Config]] = {"data": DataJob, "train": TrainJob, "train_vae": TrainVaeJob}
"""A run's run.yaml is written and read with these."""
