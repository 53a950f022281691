"""How many bytes the Ray feed must be allowed to hold: a recipe and how it is fed go in, bytes come out. No Ray here.

    window   the clips of one rank that one visit of its videos makes          known from the recipe
    row      as many windows as one decode task makes                          by the plan's cost, `task_seconds`
    least    what all ranks have in their hands (`prefetch_steps`, in whole rows), and one row at work

Less than that is refused, by a sweep before it starts and by the feed when it does (`ray_ahead.py`).
"""

from __future__ import annotations

from cineray.errors import UsageError
from cineray.feed.supply import FeedSpec
from cineray.plan import Recipe

LARGEST_ROW_BYTES = 64 << 20
"""Several windows share a row up to this size; a single window may be larger."""
MOST_WINDOWS = 16
_SAMPLED_VISITS = 32


def window_bytes(recipe: Recipe, world: int) -> int:
    """How large the largest window of a rank is: known before anything is decoded."""
    clips = [
        -(-recipe.size_of(bucket) // world) * bucket.frames * bucket.height * bucket.width * 3
        for bucket in recipe.shapes
    ]
    return max(clips) * recipe.clips_per_visit


def windows_per_row(spec: FeedSpec, world: int, task_seconds: float) -> int:
    """How many windows one task makes."""
    plan = spec.open().plan
    cost = plan.cost(visits=_SAMPLED_VISITS)
    seconds = cost.decode_cpu_seconds_per_epoch / max(1, cost.steps_per_epoch) / world
    wanted = round(task_seconds / max(1e-6, seconds * plan.recipe.clips_per_visit))
    fits = LARGEST_ROW_BYTES // window_bytes(spec.recipe, world)
    return max(1, min(wanted, fits, MOST_WINDOWS))


def rows_in_hand(recipe: Recipe, windows: int, prefetch_steps: int) -> int:
    """How many rows of so many windows each rank may have asked for and not used."""
    return -(-prefetch_steps // (recipe.clips_per_visit * windows))


def least_bytes(recipe: Recipe, *, world: int, prefetch_steps: int, windows: int = 1) -> int:
    """What ranks have in their hands, and one row more. With one window in a row it is the least of all: what a recipe
    takes whatever its videos cost to decode."""
    return (world * rows_in_hand(recipe, windows, prefetch_steps) + 1) * windows * window_bytes(recipe, world)


def check_ahead(spec: FeedSpec, *, world: int, prefetch_steps: int, task_seconds: float, ahead_bytes: int) -> None:
    """Refuse bytes that do not hold what the ranks have in their hands and one row more."""
    windows = windows_per_row(spec, world, task_seconds)
    check_least(
        ahead_bytes,
        world=world,
        in_hand=rows_in_hand(spec.recipe, windows, prefetch_steps),
        row_bytes=windows * window_bytes(spec.recipe, world),
    )


def check_least(ahead_bytes: int, *, world: int, in_hand: int, row_bytes: int) -> None:
    """The same of rows whose size is known."""
    least = (world * in_hand + 1) * row_bytes
    if ahead_bytes < least:
        raise UsageError(
            f"ahead_bytes is {ahead_bytes:,}; {world} ranks with {in_hand} rows in hand each, and one row at work, "
            f"take {least:,} (a row is {row_bytes:,}); give more, or lower prefetch_steps, task_seconds or the "
            "recipe's batch_size"
        )
