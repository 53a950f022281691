"""What a store of latents can do for a plan, before anything is decoded: how often a clip comes again, and where.

A clip's latent can be kept only if the very same frames and crop are drawn again. Whether they are follows from the
recipe (a random start, crop or flip draws others each epoch), and the plan is asked instead of guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cineray.plan import Plan
from cineray.records import ClipSpec

Key = Callable[[ClipSpec], str]
"""The name of a clip's latent."""


def second_epoch_hit_rate(plan: Plan, key: Key, *, visits: int = 128) -> float:
    """The share of the second epoch's clips that the first one has shown already, by a sample of so many visits."""
    again = drawn = 0
    windows = plan.steps_per_epoch // plan.recipe.clips_per_visit
    chosen = max(1, min(windows, visits))
    for number in range(chosen):
        window = plan.window(number * windows // chosen * plan.recipe.clips_per_visit)
        slots = [number % window.size] if windows >= visits else range(min(window.size, -(-visits // chosen)))
        for visit in plan.visits(window, slots):
            first = {key(clip) for clip in plan.column(window, visit)}
            second = [key(clip) for clip in plan.column(window, visit._replace(epoch=visit.epoch + 1))]
            again += sum(one in first for one in second)
            drawn += len(second)
    return again / max(1, drawn)


@dataclass(frozen=True, slots=True)
class Draws:
    """The clips of one window's steps, by the keys of their latents."""

    steps: range
    keys: list[str]


def draws_of(plan: Plan, key: Key, steps: range) -> Iterator[Draws]:
    """Window by window; the first and the last may be cut."""
    start = steps.start
    while start < steps.stop:
        window = plan.window(start)
        stop = min(steps.stop, window.steps.stop)
        first, last = start - window.steps.start, stop - window.steps.start
        keys = [key(clip) for column in plan.columns(window, window.slots()) for clip in column[first:last]]
        yield Draws(range(start, stop), keys)
        start = stop
