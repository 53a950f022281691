"""What an ingest was told: `IngestConfig`, checked before a single video is opened, and kept in the version it made."""

from __future__ import annotations

import math
import os
import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from cineray import storage
from cineray.config import Config
from cineray.errors import CinerayError


class SplitConfig(Config):
    """How videos are divided. The unit is a group (one source recording), so that its parts never face each other."""

    fractions: dict[str, float] | None = None
    """Share of each split. A group's split is a hash of its key, so it never changes when more videos arrive. Null: as
    the lake does it already, or 0.9 train, 0.05 validation, 0.05 test in a new one; so for the two below."""
    salt: str | None = None
    """Another salt gives another, equally stable, division."""
    given: Literal["keep", "ignore"] = "keep"
    """`keep`: a split that the source states (a `train/` folder, a `split` column) holds; `ignore`: hash all."""
    group_by: str | None = None
    """`video`: each distinct video is its own group; `column:NAME`: a metadata column; `path:REGEX`: the first group
    that the regular expression captures in the name. A `group` that the source itself states comes first."""
    change: bool = False
    """Let another rule than the lake's hold from now on; groups that have a split keep it."""

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, fractions: dict[str, float] | None) -> dict[str, float] | None:
        if fractions is None:
            return None
        if not fractions or any(f < 0 for f in fractions.values()) or not math.isclose(sum(fractions.values()), 1.0):
            raise ValueError(f"split fractions must be positive and sum to 1, got {fractions}; e.g. train=0.9,test=0.1")
        return fractions

    @field_validator("group_by")
    @classmethod
    def _known_rule(cls, rule: str | None) -> str | None:
        if rule is None:
            return None
        kind, _, rest = rule.partition(":")
        if rule != "video" and (kind not in {"column", "path"} or not rest):
            raise ValueError(f"group_by must be `video`, `column:NAME` or `path:REGEX`, got {rule!r}")
        if kind == "path":
            try:
                captures = re.compile(rest).groups
            except re.error as error:
                raise ValueError(f"group_by has a broken regular expression {rest!r}: {error}") from None
            if captures < 1:
                raise ValueError(
                    f"group_by {rule!r} captures nothing; put the group key in parentheses: path:(cam\\d+)_"
                )
        return rule


class IngestConfig(Config):
    """One source into one lake."""

    source: str
    """A folder, tar shards, a Lance table or a manifest; local, s3://, gs://, abfs://, https:// or hf://."""
    lake: str
    """A folder or an object-store prefix; made when it does not exist."""
    kind: Literal["auto", "folder", "webdataset", "lance", "manifest"] = "auto"
    """What the source is; `auto` looks."""
    level: Literal["header", "packets", "decode"] = "packets"
    """How far each video is checked: its header, every packet, or every decoded frame."""
    hash: Literal["auto", "full", "header"] = "auto"
    """Identity: `full` hashes all bytes, `header` size and header; `auto` is `header` only for remote MP4 and MOV."""
    remux: Literal["auto", "never"] = "auto"
    """`auto`: containers whose seeks are not exact (MPEG-TS, AVI, ...) are remuxed without loss into the lake."""
    splits: SplitConfig = SplitConfig()
    max_reject_fraction: float = Field(default=0.1, ge=0, le=1)
    """More rejects than this among the new videos ends with exit code 3; what was good is committed all the same."""
    seconds_per_video: float = Field(default=120.0, gt=0)
    """A video that takes longer than this to check is rejected as `timed_out`."""
    memory_per_video: int = Field(default=2 << 30, ge=512 << 20)
    """Bytes of memory that checking one video may take, else it is rejected as `out_of_memory`."""
    allow_hosts: tuple[str, ...] = ()
    """Hosts of https:// places that may be loopback, link-local or metadata addresses; none by default."""

    @model_validator(mode="after")
    def _different_places(self) -> IngestConfig:
        source, lake = _true_place(self.source), _true_place(self.lake)
        if source == lake:
            raise ValueError(f"source and lake are both {self.lake!r}; the lake needs a place of its own")
        if is_below(source, lake):
            raise ValueError(f"the source {self.source!r} lies inside the lake {self.lake!r}; name another source")
        return self

    def work_key(self) -> str:
        """Names the work itself, without what only concerns the run: finished work of a killed run is found by it."""
        return self.model_copy(update={"max_reject_fraction": 0.0, "splits": SplitConfig(), "allow_hosts": ()}).digest()


def is_below(uri: str, folder: str) -> bool:
    """Whether a place lies inside a folder or prefix."""
    return uri.startswith(folder.rstrip("/") + "/")


def _true_place(uri: str) -> str:
    """One spelling for one place: absolute, and without symbolic links."""
    try:
        place = storage.normalise_uri(uri)
    except CinerayError:
        return uri  # a pattern of shards, or something that whoever opens it will refuse in better words
    return place if storage.is_remote(place) else os.path.realpath(place)


class EngineConfig(Config):
    """Where an ingest runs. It shapes nothing in the result, so no version records it."""

    engine: Literal["auto", "local", "ray"] = "auto"
    """`auto`: up to `local_limit` videos in this process, more on Ray."""
    local_limit: int = 400
    workers: int = Field(default=0, ge=0)
    """Checking processes at once; 0 means one per core (or what the cluster has)."""
    address: str = ""
    """A Ray cluster's address; empty starts an embedded Ray when one is needed."""
