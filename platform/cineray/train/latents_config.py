"""How a run comes by its latents, in words: torch-free.

    online        frames are encoded in the trainer, step by step, and nothing is kept
    cache         the same, and what was encoded is kept: later epochs read it, and such clips are not decoded at all
    precomputed   all of them are in the store before the run begins: `cineray latents JOB` puts them there

All three give the same latents, bit for bit in `dtype`: each clip is encoded the same way wherever it happens.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from cineray.config import Config


class LatentsConfig(Config):
    """Where latents come from, and what they are kept as."""

    mode: Literal["online", "cache", "precomputed"] = "online"
    """See above."""
    store: str = ""
    """`cache` and `precomputed`: the folder or prefix that holds them. Runs with the same data may share it."""
    steps: int | None = Field(default=None, ge=1)
    """`precomputed`: latents are made of the first so many steps, and looked for before the run begins; None: of all
    steps. What a run shows after them, and was not among them, it encodes itself: for one that ends by the clock."""
    dtype: Literal["bf16", "fp32"] = "bf16"
    """What a latent is rounded to before anything learns from it, kept or not."""
    compute: Literal["auto", "bf16", "fp32"] = "auto"
    """What the encoder computes in; auto: bf16 on a GPU, fp32 on a CPU. To share a store between the two, name one."""
    clips_at_once: int = Field(default=8, ge=1)
    """Clips per call of the encoder, always so many: what a clip's latent is must not depend on its company."""
    least_hit_rate: float = Field(default=0.5, ge=0, le=1)
    """`cache` is refused when, by the plan, fewer of the second epoch's clips would be found in it than this."""
    shard_bytes: int = Field(default=64 << 20, ge=1)
    """How much is gathered in memory before it is written as one file of the store."""
    flush_seconds: float = Field(default=30.0, gt=0)
    """What was gathered is written at the latest after so long: what a kill may cost, and when others can read it."""

    @model_validator(mode="after")
    def _no_contradiction(self) -> LatentsConfig:
        if self.mode != "online" and not self.store:
            raise ValueError(f"latents.mode is {self.mode} but latents.store is not given; name a folder or a prefix")
        if self.mode == "online" and self.store:
            raise ValueError("latents.store is given but latents.mode is online, which keeps nothing; choose cache")
        if self.steps is not None and self.mode != "precomputed":
            raise ValueError(f"latents.steps is given but latents.mode is {self.mode}; only precomputed uses it")
        return self

    def made_steps(self, steps: int) -> int:
        """Of so many steps of a run, those whose latents are made before it begins."""
        return steps if self.steps is None else min(steps, self.steps)
