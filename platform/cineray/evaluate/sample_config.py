"""What sampling was told: how many of a run's prompts, which weights, how, how long and how fast. No torch here."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import Field, field_validator, model_validator

from cineray.diffusion.config import SamplerConfig
from cineray.plan.recipe import exact_rate


class SampleConfig(SamplerConfig):
    """How clips are made of a run's prompts; without a length and a rate of its own, as its training clips are."""

    guidance: float = Field(default=1.5, ge=0)
    """Above 1 moves away from what the network makes without a class or caption; 1 asks it once, not twice. A model
    that is told neither is asked once, whatever this says."""
    clips: int = Field(default=16, ge=1)
    """The first so many of the run's prompts."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Another seed gives every prompt other noise; the same seed, the same noise at every checkpoint."""
    weights: Literal["ema", "model", "initial"] = "ema"
    """The average of the weights, the weights themselves, or those that nobody has trained: what learning added shows
    beside them."""
    first_frame: bool = False
    """Give each clip the first frame of the held-out clip that its prompt is of, and let the model go on from it."""
    frames: int | None = Field(default=None, ge=1, le=4096)
    """Frames per clip; None: as many as the prompts have."""
    fps: str | None = None
    """Frames per second, as text so that it is exact: `8`, `23.976`, `30000/1001`; None: the prompts' own times."""
    seconds: float | None = Field(default=None, gt=0)
    """How long a clip is, instead of `frames`; with both, they say the rate."""
    height: int | None = Field(default=None, ge=1, le=16384)
    """Rows; None: the prompts'."""
    width: int | None = Field(default=None, ge=1, le=16384)
    """Columns; None: the prompts'."""
    batch: int = Field(default=16, ge=1)
    """Clips that are made at once: what fits into memory. Clips change by rounding at most."""
    clip_format: Literal["mp4", "gif", "webp"] = "mp4"
    """Of the files with one clip each."""
    grid_format: Literal["mp4", "gif", "webp"] = "webp"
    """Of the moving grid of all of them."""

    _exact = field_validator("fps", mode="before")(exact_rate)

    @model_validator(mode="after")
    def _no_contradiction(self) -> SampleConfig:
        if None not in (self.frames, self.fps, self.seconds):
            raise ValueError("frames, fps and seconds are all given; two of them say the third")
        if (self.height is None) != (self.width is None):
            given, missing = ("width", "height") if self.height is None else ("height", "width")
            raise ValueError(f"{given} is given but {missing} is not; give both, or neither")
        if self.first_frame and self.height is not None:
            raise ValueError("first_frame takes a picture of the prompts' size; leave height and width out")
        return self

    @property
    def rate(self) -> Fraction | None:
        """`fps` as an exact ratio."""
        return Fraction(self.fps) if self.fps is not None else None

    def sampler(self) -> SamplerConfig:
        """What the sampler itself needs of it."""
        return SamplerConfig(**{name: getattr(self, name) for name in SamplerConfig.model_fields})
