"""What a search may change: fields of a training job by their dotted names, and the values that each may take.

    "stride":  Choice(field="recipe.sampling.stride", values=(1, 2, 4))
    "lr":      FloatRange(field="optimiser.lr", low=1e-4, high=1e-2, log=True, also={"optimiser.muon_lr": 2.0})
    "size":    Variants(variants={"small": {"model.width": 96, "model.depth": 4}, "large": {...}})

What only goes together is set together, as variants: a field that one way of sampling uses is refused beside another.
Of a base job that samples by a stride:

    "time":    Variants(variants={
                   "every frame":  {"recipe.sampling.stride": 1},
                   "every fourth": {"recipe.sampling.stride": 4},
                   "8 a second":   {"recipe.sampling.mode": "fps", "recipe.sampling.stride": None,
                                    "recipe.sampling.fps": "8"},
                   "anywhere":     {"recipe.sampling.mode": "random", "recipe.sampling.stride": None},
               })

None takes a field of the base job back. So it is with shapes (`recipe.buckets` beside `recipe.batch_size`,
`recipe.sampling.frames`, `recipe.frame.height` and `recipe.frame.width`) and with autoencoders. Where latents come from
may be a plain choice, of a base job that names a store: each setting has its own part of it.

    "latents": Choice(field="latents.mode", values=("online", "precomputed"))

Plain values only; that they make a valid job is checked before anything starts (`space.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from cineray.config import Config

FIELD = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*$"
"""A dotted name, as `--set` takes it."""

FieldName = Annotated[str, Field(pattern=FIELD)]


class Choice(Config):
    """One of some values of a field; of any kind, also a whole part of a job (buckets, say)."""

    kind: Literal["choice"] = "choice"
    field: FieldName
    """Which field of the job."""
    values: tuple[JsonValue, ...] = Field(min_length=1)
    """What it may be."""

    @field_validator("values", mode="before")
    @classmethod
    def _as_plain(cls, values: Any) -> Any:
        return tuple(map(plain, values)) if isinstance(values, list | tuple) else values

    @field_validator("values")
    @classmethod
    def _different(cls, values: tuple[JsonValue, ...]) -> tuple[JsonValue, ...]:
        # `1 == True`, and yet they are different values of a field.
        told = [(type(value), value) for value in values]
        if any(one in told[:at] for at, one in enumerate(told)):
            raise ValueError("wanted different values")
        return values


class FloatRange(Config):
    """A real number between two."""

    kind: Literal["float"] = "float"
    field: FieldName
    """Which field of the job."""
    low: float
    """The least."""
    high: float
    """The most."""
    log: bool = False
    """Between 1 and 100, is the middle 10 and not 50? So it is for rates."""
    also: dict[FieldName, float] = Field(default_factory=dict)
    """Other fields that go with it: each is set to so many times the value."""
    grid: int = Field(default=3, ge=2)
    """`search.kind=grid` tries so many values, evenly from the least to the most."""

    @model_validator(mode="after")
    def _a_range(self) -> FloatRange:
        check_range(self.low, self.high, log=self.log)
        return self

    def even(self) -> list[float]:
        """The values of a grid."""
        shares = [at / (self.grid - 1) for at in range(self.grid)]
        if self.log:
            inner = [self.low * (self.high / self.low) ** share for share in shares[1:-1]]
        else:
            inner = [self.low + (self.high - self.low) * share for share in shares[1:-1]]
        return [self.low, *inner, self.high]


class IntRange(Config):
    """A whole number between two, both included."""

    kind: Literal["int"] = "int"
    field: FieldName
    """Which field of the job."""
    low: int
    """The least."""
    high: int
    """The most."""
    step: int = Field(default=1, ge=1)
    """From one value to the next."""
    log: bool = False
    """As many tries between 1 and 10 as between 10 and 100."""

    @model_validator(mode="after")
    def _a_range(self) -> IntRange:
        check_range(self.low, self.high, log=self.log)
        if self.log and self.step > 1:
            raise ValueError("log and step are both given; a log range has no even steps")
        if (self.high - self.low) % self.step:
            raise ValueError(f"from low to high are {self.high - self.low}, which is no multiple of step {self.step}")
        return self

    def even(self) -> list[int]:
        """The values of a grid: all of them."""
        return list(range(self.low, self.high + 1, self.step))


class Variants(Config):
    """Named alternatives that set several fields each: what only makes sense together."""

    kind: Literal["variants"] = "variants"
    variants: dict[str, dict[FieldName, JsonValue]] = Field(min_length=1)
    """Name of the variant -> field -> value. A variant may leave out what is to stay as the base job has it."""

    @field_validator("variants", mode="before")
    @classmethod
    def _as_plain(cls, variants: Any) -> Any:
        if not isinstance(variants, Mapping) or not all(isinstance(one, Mapping) for one in variants.values()):
            return variants
        return {name: {field: plain(value) for field, value in one.items()} for name, one in variants.items()}


Parameter = Annotated[Choice | FloatRange | IntRange | Variants, Field(discriminator="kind")]


def plain(value: Any) -> Any:
    """Parts of configs may be given as they are; a record holds plain values."""
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def fields_of(parameter: Choice | FloatRange | IntRange | Variants) -> set[str]:
    """Every field that it may set."""
    if isinstance(parameter, Variants):
        return {field for variant in parameter.variants.values() for field in variant}
    also = parameter.also if isinstance(parameter, FloatRange) else {}
    return {parameter.field, *also}


def check_range(low: float, high: float, *, log: bool) -> None:
    """Refuse a range that holds less than two values."""
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low is {low:g} and high is {high:g}; wanted two numbers, the first below the second")
    if log and low <= 0:
        raise ValueError(f"low is {low:g} but log is true; the logarithm needs numbers above 0")
