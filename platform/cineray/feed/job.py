"""What feeding was told: `DataJob`, the part of every job that says which batches are made and how they come.

`recipe` and `seed` shape the batches; `feed` shapes only how fast and where they are made, so it is no part of a plan's
fingerprint. A training job is a `DataJob` with a model.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cineray.config import Config
from cineray.plan import Recipe


class FeedConfig(Config):
    """How batches come to the trainer."""

    driver: Literal["local", "torch", "ray"] = "ray"
    """`local`: a plain loop in the trainer's process; `torch`: DataLoader workers on its machine; `ray`: Ray Data."""
    workers: int = Field(default=0, ge=0)
    """Decoding processes; 0 means one per core (local decodes in the calling process)."""
    prefetch_steps: int = Field(default=4, ge=1)
    """How many steps may lie ready before the trainer asks for them."""
    segment_steps: int = Field(default=2000, ge=1)
    """Steps per Ray Data execution; shorter segments start sooner, longer ones have fewer seams."""
    decode_subcluster: str = ""
    """Decode only on nodes that carry the label `ray-subcluster` with this value; empty: on any."""
    no_batch_seconds: float = Field(default=600.0, gt=0)
    """The run fails, with what is known, when no batch came for so long."""


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
