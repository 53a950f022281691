"""How a population moves: a good trial's values go in; out come those that a worse one goes on with.

Only the parameters that may change on the way do: each is drawn anew now and then, and otherwise moved a little. The
others stay the better trial's, whose weights are taken over. The same draws for the same place and time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from cineray.sweep.parameters import Choice, FloatRange, IntRange, Parameter
from cineray.sweep.space import grid_values

_FACTORS = (0.8, 1.25)
"""A number is moved by one of them."""


def moved(
    space: Mapping[str, Parameter], values: Mapping[str, Any], explore: tuple[str, ...], *, resample: float, key: str
) -> dict[str, Any]:
    """The values of a trial that takes over from one with `values`. `key` names the trial and its start."""
    drawn = random.Random(key)  # noqa: S311  # which values are tried is no secret
    return {
        name: _moved(space[name], value, drawn, resample) if name in explore else value
        for name, value in values.items()
    }


def _moved(parameter: Parameter, value: Any, drawn: random.Random, resample: float) -> Any:
    anew = drawn.random() < resample
    if isinstance(parameter, FloatRange):
        return _anywhere(parameter, drawn) if anew else _within(parameter, value * drawn.choice(_FACTORS))
    if isinstance(parameter, IntRange):
        return drawn.choice(parameter.even()) if anew else _another_step(parameter, value, drawn)
    known = grid_values(parameter)
    if anew or (not isinstance(parameter, Choice)):
        return drawn.choice(known)
    at = known.index(value) + drawn.choice((-1, 1))
    return known[min(max(at, 0), len(known) - 1)]


def _anywhere(parameter: FloatRange, drawn: random.Random) -> float:
    if parameter.log:
        return _within(parameter, math.exp(drawn.uniform(math.log(parameter.low), math.log(parameter.high))))
    return drawn.uniform(parameter.low, parameter.high)


def _another_step(parameter: IntRange, value: int, drawn: random.Random) -> int:
    """At least one step away; within the range."""
    wanted = value * drawn.choice(_FACTORS)
    steps = round((wanted - value) / parameter.step) or (1 if wanted > value else -1)
    return int(_within(parameter, value + steps * parameter.step))


def _within(parameter: FloatRange | IntRange, value: float) -> float:
    return min(max(value, parameter.low), parameter.high)
