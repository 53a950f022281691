"""A search space over a job's fields: values of parameters go in, a changed job comes out, or an error that names them.

    apply(job.base, job.space, {"stride": 4, "size": "small"})  ->  TrainJob

`check_space` is run before anything starts: every field must exist, every value must make a valid trial, and nothing
may be known that would end one at once (`foreseen.py`). Up to `MOST_COMBINATIONS` all combinations are tried; of a
larger space each value alone, both ends of each range, and combinations drawn by lot.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from cineray.config import with_fields
from cineray.errors import FieldsClash, UnknownField, UsageError
from cineray.sweep.config import SweepJob
from cineray.sweep.parameters import Choice, FloatRange, IntRange, Parameter, Variants, fields_of
from cineray.train.config import TrainJob

if TYPE_CHECKING:
    from cineray.sweep.foreseen import Look

MOST_COMBINATIONS = 2000
DRAWN = 256
MOST_LOOKED_AT = 256
"""Trials that are looked at closely (`foreseen.py`), of each kind: opening a plan reads the lake's facts about its
clips."""

Values = Mapping[str, Any]
"""Parameter -> value, or the name of a variant."""


def fields_set(space: Mapping[str, Parameter], values: Values) -> dict[str, Any]:
    """Field -> value, of some parameters' values."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        parameter = space[name]
        if isinstance(parameter, Variants):
            found |= parameter.variants[value]
        else:
            found[parameter.field] = value
        if isinstance(parameter, FloatRange):
            found |= {field: factor * value for field, factor in parameter.also.items()}
    return found


def apply(base: TrainJob, space: Mapping[str, Parameter], values: Values) -> TrainJob:
    """The base job with the values in their fields."""
    told = fields_set(space, values)
    # A mode that keeps no latents has no store, and one that makes none before makes none of so many steps: whatever
    # the base job names for the other modes.
    mode = told.get("latents.mode")
    gone: dict[str, Any] = {} if mode in (None, "precomputed") else {"latents.steps": None}
    gone |= {"latents.store": ""} if mode == "online" else {}
    return with_fields(base, (gone | told).items())


def combination(space: Mapping[str, Parameter], number: int) -> dict[str, Any]:
    """One of all combinations of a grid, by its number; the last parameter changes fastest."""
    found: dict[str, Any] = {}
    for name in reversed(list(space)):
        values = grid_values(space[name])
        number, at = divmod(number, len(values))
        found[name] = values[at]
    return {name: found[name] for name in space}


def grid_values(parameter: Parameter) -> list[Any]:
    """What a grid tries of one parameter."""
    if isinstance(parameter, Choice):
        return list(parameter.values)
    return list(parameter.variants) if isinstance(parameter, Variants) else parameter.even()


def grid_size(space: Mapping[str, Parameter]) -> int:
    """How many combinations there are."""
    return math.prod(len(grid_values(parameter)) for parameter in space.values())


def is_finite(space: Mapping[str, Parameter]) -> bool:
    """Is a grid all that there is to try?"""
    return not any(isinstance(parameter, FloatRange) for parameter in space.values())


# ---- is it possible? -------------------------------------------------------------------------------------------------


def check_space(job: SweepJob, make: Callable[[Values], TrainJob]) -> None:
    """Raise one UsageError that names the parameter, its field and its value. `make` makes a trial's job."""
    from cineray.sweep.foreseen import LOOKS  # it is of trials, which are made of spaces

    _check_fields(job)
    kinds: list[dict[str, Values]] = [{} for _ in LOOKS]
    values: Values
    for values in probes(job.space):
        try:
            trial = make(values)
        except UsageError as error:
            raise _impossible(job, values, error, make) from None
        for look, kind in zip(LOOKS, kinds, strict=True):
            if (key := look.key(trial)) and len(kind) < MOST_LOOKED_AT:
                kind.setdefault(key, values)
    for look, kind in zip(LOOKS, kinds, strict=True):

        def looked(values: Values, look: Look = look) -> None:
            trial = make(values)
            if look.key(trial):
                look.at(trial)

        for values in kind.values():
            try:
                looked(values)
            except UsageError as error:
                if not look.by:
                    raise _impossible(job, values, error, looked) from None
                named = {name: values[name] for name in values if _sets(job.space[name], look.by)}
                raise UsageError(f"{_told(job, named) or 'base'}: {error}") from None


def probes(space: Mapping[str, Parameter]) -> Iterator[dict[str, Any]]:
    """Values to try a space with: see above."""
    ends = {name: _ends(parameter) for name, parameter in space.items()}
    if math.prod(map(len, ends.values())) <= MOST_COMBINATIONS:
        yield from (dict(zip(ends, one, strict=True)) for one in product(*ends.values()))
        return
    first = {name: values[0] for name, values in ends.items()}
    yield first
    for name, values in ends.items():
        yield from (first | {name: value} for value in values[1:])
    yield {name: values[-1] for name, values in ends.items()}
    drawn = random.Random(0)  # noqa: S311  # which combinations are looked at is no secret
    for _ in range(DRAWN):
        yield {name: drawn.choice(values) for name, values in ends.items()}


def apart(space: Mapping[str, Parameter], fields: tuple[str, ...]) -> list[Values]:
    """Of the same values those that differ in what is below some fields: where they do not, the first."""
    names = [name for name, one in space.items() if _sets(one, fields)]
    found: dict[str, Values] = {}
    for values in probes(space):
        found.setdefault(json.dumps([values[name] for name in names]), values)
    return list(found.values())


def _sets(parameter: Parameter, fields: tuple[str, ...]) -> bool:
    return any(field.startswith(fields) for field in fields_of(parameter))


def _ends(parameter: Parameter) -> list[Any]:
    """All values, or those at the ends and in the middle of a range."""
    if isinstance(parameter, IntRange) and len(parameter.even()) > 8:
        steps = (parameter.high - parameter.low) // parameter.step
        return [parameter.low, parameter.low + steps // 2 * parameter.step, parameter.high]
    return grid_values(parameter)


def _check_fields(job: SweepJob) -> None:
    """Does every field exist? A variant's fields are set in turn: one may exist only by another."""
    for name, parameter in job.space.items():
        for value in grid_values(parameter)[: 1 if not isinstance(parameter, Variants) else None]:
            try:
                apply(job.base, {name: parameter}, {name: value})
            except UnknownField as error:
                where = f"space.{name}" + (f".{value}" if isinstance(parameter, Variants) else "")
                raise UsageError(f"{where}: {error}") from None
            except UsageError:
                pass  # a value that is only wrong alone is no fault of the space


def _impossible(job: SweepJob, values: Values, error: UsageError, make: Callable[[Values], object]) -> UsageError:
    """The error of some values, told of as few of them as are wrong together."""
    guilty: Values = values
    for name in values:
        fewer = {other: value for other, value in guilty.items() if other != name}
        try:
            make(fewer)
        except UsageError as told:
            guilty, error = fewer, told  # still wrong without it
    if not guilty:
        return UsageError(f"base: {error}")
    hint = ""
    if len(guilty) > 1 or isinstance(error, FieldsClash):
        hint = "\nValues that only make sense together belong into one parameter, as variants" + _shown(job, guilty)
    return UsageError(f"{_told(job, guilty)}: {error}{hint}")


def _shown(job: SweepJob, guilty: Values) -> str:
    """How that is written, where one value is wrong: what it clashes with is set, or taken back, beside it."""
    if len(guilty) > 1:
        return ""
    fields = json.dumps(fields_set(job.space, guilty))[1:-1]
    return (
        f': Variants(variants={{"NAME": {{{fields}, "OTHER.FIELD": ...}}, ...}}); None (null) takes back what the base '
        "job says of a field"
    )


def _told(job: SweepJob, values: Values) -> str:
    """`space.stride = 4 (recipe.sampling.stride)`."""
    parts = []
    for name, value in values.items():
        fields = ", ".join(fields_set({name: job.space[name]}, {name: value}))
        parts.append(f"space.{name} = {value} ({fields})")
    return " with ".join(parts)
