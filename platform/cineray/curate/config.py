"""What a curation was told: `CurateJob`, a whole config that a job's file returns and a version keeps.

Stages say what is measured, cuts what becomes a clip, rules what is left out. Only stages cost decoding: their results
are kept by content, so a job with other rules or cuts over the same lake takes seconds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cineray.config import Config
from cineray.curate.network_config import NetworkConfig, network_keys, score_columns
from cineray.curate.stage import Stage, build_stages, stage_key
from cineray.curate.stages import STAGES
from cineray.errors import UsageError

_NAME = re.compile(r"[a-z][a-z0-9_]*")
OWN_REASONS = ("unreadable", "too_short", "duplicate")
"""Reasons that are no rules of a job: what cannot be decoded, what a cut leaves too short, what is there already."""


class RuleConfig(Config):
    """One reason for leaving clips out."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """What the clip's row will say."""
    leave_out: str = Field(min_length=1)
    """SQL over columns of the video (those of `media`), of the stages and of the clip: a clip for which it is true is
    left out; one for which it cannot be told (a column is null) stays."""


class CutsConfig(Config):
    """What becomes of a video: one clip, or one for each scene."""

    at: Literal["scenes", "nowhere"] = "scenes"
    """`scenes`: a clip never crosses a cut; needs the stage `scenes`."""
    shortest_seconds: float = Field(default=0.5, ge=0)
    """A clip shorter than this is left out as `too_short`."""
    longest_seconds: float | None = Field(default=None, gt=0)
    """A longer scene is divided into equal parts of whole frames, none longer than this."""

    @model_validator(mode="after")
    def _room(self) -> CutsConfig:
        if self.longest_seconds is not None and self.longest_seconds < 2 * self.shortest_seconds:
            raise ValueError(
                f"cuts.longest_seconds is {self.longest_seconds} and shortest_seconds {self.shortest_seconds}; "
                "dividing would make clips that are too short: wanted at least twice as long"
            )
        return self


class DuplicatesConfig(Config):
    """What becomes of videos that show the same. Their groups are made one in any case, so that they share a split.

    They are looked for among the videos that the job's filter lets through."""

    keep: Literal["best", "all"] = "best"
    """`best`: of each set of duplicates the best copy stays, the others are left out as `duplicate`."""


class CurateJob(Config):
    """One curation of a lake."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the job."""
    lake: str
    """The lake; its newest version is curated, and the next one is made."""
    filter: str | None = None
    """SQL over the media columns: only these videos are looked at; all others keep the clips that they have."""
    stages: Mapping[str, Mapping[str, Any]] = Field(default_factory=lambda: {name: {} for name in sorted(STAGES)})
    """What is measured: a stage's name and the fields in which it differs from its defaults. By default all."""
    models: Mapping[str, NetworkConfig] = Field(default_factory=dict)
    """Networks of your own by a name that their columns begin with: `aesthetic` gives `aesthetic_score`."""
    cuts: CutsConfig = CutsConfig()
    duplicates: DuplicatesConfig | None = DuplicatesConfig()
    """Null: duplicates are not looked for. Needs the stage `signatures`."""
    rules: tuple[RuleConfig, ...] = ()
    """In this order: the first that holds is the reason that the clip's row gives."""
    seconds_per_video: float = Field(default=600.0, gt=0)
    """A video that takes longer to look at is left out as `unreadable`, and looked at again the next time."""
    memory_per_video: int = Field(default=4 << 30, ge=512 << 20)
    """Bytes of memory that looking at one video may take; small pictures of all its frames are held at once."""
    max_unreadable_fraction: float = Field(default=0.1, ge=0, le=1)
    """More unreadable videos than this end the command with exit code 3; the version is made all the same."""

    @field_validator("stages")
    @classmethod
    def _stages_are_known(cls, told: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        try:
            build_stages(told, STAGES)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return told

    @field_validator("models")
    @classmethod
    def _names_of_networks(cls, told: Mapping[str, NetworkConfig]) -> Mapping[str, NetworkConfig]:
        for name in told:
            if name in STAGES or not _NAME.fullmatch(name):
                raise ValueError(
                    f"a network is named {name!r}; wanted small letters, digits and _, and no stage's name"
                )
        return told

    @model_validator(mode="after")
    def _parts_fit(self) -> CurateJob:
        for needs, stage, way_out in (
            (self.cuts.at == "scenes", "scenes", "cuts.at=nowhere"),
            (self.duplicates is not None, "signatures", "duplicates=null"),
        ):
            if needs and stage not in self.stages:
                raise ValueError(f"the stage `{stage}` is needed but not among the stages; add it, or set {way_out}")
        twice = [name for name, times in Counter(rule.name for rule in self.rules).items() if times > 1]
        if twice:
            raise ValueError(f"two rules are named {twice[0]!r}; each needs its own name")
        own = [rule.name for rule in self.rules if rule.name in OWN_REASONS]
        if own:
            raise ValueError(f"a rule is named {own[0]!r}, which is a reason of its own; choose another name")
        return self

    def built_stages(self) -> tuple[Stage, ...]:
        """The stages, ready to be called."""
        return build_stages(self.stages, STAGES)

    def keys(self) -> dict[str, str]:
        """By what the results of each stage and network are kept; networks' files are read for it."""
        return {stage.name: stage_key(stage) for stage in self.built_stages()} | network_keys(self.models)

    def column_kinds(self) -> dict[str, type]:
        """The columns that stages and networks give, and of what kind each is; lists tell when."""
        kinds = {name: kind for stage in self.built_stages() for name, kind in stage.gives.items()}
        for model in self.models.keys() - self.vectors():
            kinds |= dict.fromkeys(score_columns(model), float)
        return kinds

    def vectors(self) -> frozenset[str]:
        """The networks that give vectors and no columns."""
        return frozenset(name for name, config in self.models.items() if config.gives == "vector")


class CurateEngine(Config):
    """Where a curation runs. It shapes nothing in the result, so no version records it."""

    engine: Literal["auto", "local", "ray"] = "auto"
    """`auto`: up to `local_limit` videos from this process, more on Ray."""
    local_limit: int = 200
    workers: int = Field(default=0, ge=0)
    """Videos looked at at once; 0 means one per core (or what the cluster has)."""
    address: str = ""
    """A Ray cluster's address; empty starts an embedded Ray when one is needed."""
    gpus: float = Field(default=0.0, ge=0)
    """Of each actor that runs the job's networks (a part of one is a share of it); in this process, above 0 is the
    GPU that torch finds first. 0 runs them on CPUs."""
    actors: int = Field(default=1, ge=1)
    """On Ray: how many run networks side by side."""

    @field_validator("gpus")
    @classmethod
    def _parts_of_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"gpus is {gpus:g}; wanted a part of one GPU, or a whole number of them")
        return gpus


CURATE_KINDS: dict[str, type[Config]] = {"curate": CurateJob}
