"""Who won: trials' objectives go in; the Pareto set, an order and the best one come out. Pure arithmetic.

A trial is in the Pareto set when no other is at least as good in every objective and better in one. What was measured
again, under better conditions, counts between two that both were: like is compared with like. One that was not beats
one that was only if nothing beats it by the first figures: else three could beat each other in a ring, and nobody would
be left. Of the set the best is found objective by objective, the most important first: who is within its tolerance of
the best value stays.

    skill 0.70  clips/s 10        skill, tolerance 0.05: 0.70 and 0.68 stay
    skill 0.68  clips/s 25   <-   clips/s decides between them
    skill 0.50  clips/s 60
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from cineray.sweep.objectives import Objective

Values = Mapping[str, float]
"""Objective -> value, NaN where it is not known."""


def pareto_set(
    trials: Mapping[int, Values], objectives: Sequence[Objective], *, again: Mapping[int, Values] | None = None
) -> list[int]:
    """Numbers of the trials that no other beats, in order. Who does not know an objective does not take part. `again`:
    what was measured again of some of them, and holds between these."""
    again = again or {}
    known = {number: values for number, values in trials.items() if is_known(values, objectives)}

    def unbeaten(beats: Callable[[int, int], bool]) -> list[int]:
        return sorted(number for number in known if not any(beats(other, number) for other in known))

    first = unbeaten(lambda one, other: dominates(known[one], known[other], objectives))

    def beats(one: int, other: int) -> bool:
        if one in again and other in again:
            return dominates({**known[one], **again[one]}, {**known[other], **again[other]}, objectives)
        if other in again and one not in first:
            return False
        return dominates(known[one], known[other], objectives)

    return unbeaten(beats) if again else first


def dominates(one: Values, other: Values, objectives: Sequence[Objective]) -> bool:
    """As good in every objective, better in one."""
    if any(objective.is_better(other[objective.name], one[objective.name]) for objective in objectives):
        return False
    return any(objective.is_better(one[objective.name], other[objective.name]) for objective in objectives)


def is_known(values: Values, objectives: Sequence[Objective]) -> bool:
    """Has it a value of every objective?"""
    return all(math.isfinite(values.get(objective.name, math.nan)) for objective in objectives)


def best_of(trials: Mapping[int, Values], objectives: Sequence[Objective]) -> int | None:
    """The number of the one to take; of equals the one that was tried first. None where nobody has all objectives."""
    left = {number: values for number, values in trials.items() if is_known(values, objectives)}
    for objective in objectives:
        if len(left) < 2:
            break
        values = [one[objective.name] for one in left.values()]
        top = max(values) if objective.goal == "max" else min(values)
        slack = objective.tolerance * abs(top)
        left = {number: one for number, one in left.items() if abs(one[objective.name] - top) <= slack}
    return min(left, default=None)


def ranked(trials: Mapping[int, Values], objectives: Sequence[Objective]) -> list[int]:
    """The best one, the best one of the others, and so on."""
    left, order = dict(trials), []
    while (best := best_of(left, objectives)) is not None:
        order.append(best)
        del left[best]
    return order
