"""What feeding was told: `DataJob`, the part of every job that says which batches are made and how they come.

`recipe` and `seed` shape the batches; `feed` shapes only how fast and where they are made, so it is no part of a plan's
fingerprint. A training job is a `DataJob` with a model.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from cineray.config import Config
from cineray.plan import Recipe

SUBCLUSTER = "ray-subcluster"
"""The label that divides a cluster for Ray: machines that decode carry it, those that train do not."""
SAYS_DECODE = "cineray-decode"
"""The head's label: the value of that one on the machines that decode, there or to come."""


class FeedConfig(Config):
    """How batches come to the trainer."""

    driver: Literal["local", "torch", "ray"] = "ray"
    """`local`: a plain loop in the trainer's process, which decodes when it is asked and heeds no field below; `torch`:
    DataLoader workers on its machine; `ray`: Ray Data."""
    workers: int = Field(default=0, ge=0)
    """How many processes decode at once; 0 means one per core, for Ray of all nodes that decode."""
    prefetch_steps: int = Field(default=4, ge=1)
    """How many steps lie ready in the trainer's machine before it asks for them. How much more Ray decodes ahead
    follows from what it measures, within `ahead_bytes`."""
    no_batch_seconds: float = Field(default=600.0, gt=0)
    """The run fails, with what is known, when no batch came for so long."""
    task_seconds: float = Field(default=1.0, ge=0)
    """For Ray: about how long one decode task should take. Small steps share a task; less means a sooner first batch,
    more means less of Ray's own work per clip."""
    cpus_per_task: float = Field(default=1.0, ge=0.001)
    """For Ray: what a decode task reserves; a part of a core where tasks mostly wait for remote bytes."""
    ahead_bytes: int | None = Field(default=None, ge=1)
    """For Ray: how much may be decoded, or be at work, ahead of use; by default 0.4 of the decoding nodes' object
    stores."""
    decode_subcluster: str = ""
    """For Ray: decode only on nodes that carry the label `ray-subcluster` with this value; empty: on any."""

    @field_validator("decode_subcluster", mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        """`--set feed.decode_subcluster=`, as one types it, is YAML for null."""
        return "" if value is None else value


class DataJob(Config):
    """Which batches, and how they come."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the job and the folder of its runs."""
    recipe: Recipe
    """What shapes the batches."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """With the recipe and the version it makes every batch."""
    feed: FeedConfig = FeedConfig()
    """How they come."""
