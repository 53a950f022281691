"""What standardising was told: `StandardiseConfig`, checked before a video is opened, kept in the version it made."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import Field, field_validator, model_validator

from cineray.config import Config
from cineray.decode.encoding import ENCODERS, Encoding
from cineray.plan.recipe import exact_rate


class EncodingConfig(Config):
    """How every video is encoded. `cineray standardise --advise JOB` says what suits a job."""

    codec: str = "h264"
    """`h264` is decoded fastest; `hevc` is smaller at the same quality and slower to decode."""
    gop: int = Field(default=16, ge=1, le=1000)
    """Frames from one key frame to the next: what a random clip decodes for nothing is half of it."""
    short_side: int = Field(default=0, ge=0, le=8192)
    """Pixels of the shorter side; smaller videos are not enlarged. 0 keeps each size."""
    crf: int = Field(default=20, ge=0, le=51)
    """The encoder's quality: less is better and larger."""
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"] = "medium"
    """How long the encoder tries; slower is smaller, and is decoded no slower."""
    rate: str | None = None
    """Null keeps every frame at its own time, also where the rate varies. A number or ratio of frames per second, such
    as 24 or 30000/1001, makes the timing constant."""
    audio: Literal["keep", "drop"] = "keep"
    """The first sound of a video."""

    _exact = field_validator("rate", mode="before")(exact_rate)

    @field_validator("codec")
    @classmethod
    def _known(cls, codec: str) -> str:
        if codec not in ENCODERS:
            raise ValueError(f"wanted one of {', '.join(ENCODERS)}")
        return codec

    @property
    def exact_rate(self) -> Fraction | None:
        """`rate` as a ratio; None where times are kept."""
        return Fraction(self.rate) if self.rate is not None else None

    def encoding(self) -> Encoding:
        """What the encoder takes of it."""
        return Encoding(**self.model_dump(exclude={"rate"}))


class StandardiseConfig(Config):
    """One version of a lake, encoded for training, into shards and a next version."""

    lake: str
    """The lake's folder or object-store prefix."""
    version: str = "latest"
    """What is standardised: a number, a name or a fingerprint."""
    out: str = ""
    """Where the shards go: a folder or prefix; empty is `shards` in the lake."""
    encoding: EncodingConfig = EncodingConfig()
    shard_bytes: int = Field(default=512 << 20, ge=1 << 10)
    """About how many bytes a shard has; 256 MB to 1 GB suit object stores."""
    least_psnr_db: float = Field(default=20.0, ge=0)
    """A video whose encoded pictures are further than this from what went into the encoder is left out."""
    max_reject_fraction: float = Field(default=0.1, ge=0, le=1)
    """More rejects than this ends with exit code 3; what was good is committed all the same."""
    seconds_per_video: float = Field(default=3600.0, gt=0)
    """A video that takes longer is left out as `timed_out`."""
    memory_per_video: int = Field(default=4 << 30, ge=512 << 20)
    """Bytes of memory that encoding one video may take."""

    @model_validator(mode="after")
    def _fits(self) -> StandardiseConfig:
        if self.shard_bytes > 8 << 30:
            raise ValueError(f"shard_bytes is {self.shard_bytes}; a tar of more than 8 GiB suits no reader, take 1 GB")
        return self

    def work_key(self) -> str:
        """Names the encoding of each video, whatever becomes of it: a killed run's finished work is found by it."""
        told = self.encoding.model_dump(mode="json") | {"least_psnr_db": self.least_psnr_db, "format": FORMAT}
        return "standardise-" + Config.digest(_Told(**{"told": told}))


class _Told(Config):
    told: dict[str, str | int | float | None]


FORMAT = 2
"""Of the work: raised when the same settings would give other bytes."""
