"""How many bytes the Ray feed must be allowed to hold: a recipe and how it is fed go in, bytes come out. No Ray here.

    window   the clips of one rank that one visit of its videos makes          known from the recipe
    row      as many windows as one decode task makes                          by the plan's cost, `task_seconds`
    least    what all ranks have in their hands (`prefetch_steps`, in whole rows), and one row at work

Less than that is refused, by a sweep before it starts and by the feed when it does (`ray_feed.py`), both by `rows_of`.
"""

from __future__ import annotations

from dataclasses import dataclass

from cineray.errors import UsageError
from cineray.feed.supply import FeedSpec
from cineray.plan import Recipe

LARGEST_ROW_BYTES = 64 << 20
"""Several windows share a row up to this size; a single window may be larger."""
MOST_WINDOWS = 16
_SAMPLED_VISITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """How a feed cuts its plan into rows."""

    windows: int
    """That one task makes."""
    row_bytes: int
    """Of the largest row."""
    in_hand: int
    """How many rows each rank may have asked for and not used."""

    def least_bytes(self, ranks: int) -> int:
        """What so many ranks have in their hands, and one row more, which is at work."""
        return (ranks * self.in_hand + 1) * self.row_bytes

    def check(self, ahead_bytes: int, *, ranks: int) -> None:
        """Refuse bytes that do not hold that."""
        least = self.least_bytes(ranks)
        if ahead_bytes < least:
            raise UsageError(
                f"ahead_bytes is {ahead_bytes:,}; {ranks} ranks with {self.in_hand} rows in hand each, and one row at "
                f"work, take {least:,} (a row is {self.row_bytes:,}); give more, or lower prefetch_steps, task_seconds "
                "or the recipe's batch_size"
            )


def rows_of(spec: FeedSpec, *, world: int, prefetch_steps: int, task_seconds: float) -> Rows:
    """The rows of a plan. It is opened: how much goes into a row follows from what its videos cost to decode."""
    plan = spec.open().plan
    cost = plan.cost(visits=_SAMPLED_VISITS)
    seconds = cost.decode_cpu_seconds_per_epoch / max(1, cost.steps_per_epoch) / world
    wanted = round(task_seconds / max(1e-6, seconds * plan.recipe.clips_per_visit))
    return _rows(spec.recipe, min(max(1, wanted), _most_windows(spec.recipe, world)), world, prefetch_steps)


def most_bytes(recipe: Recipe, *, world: int, prefetch_steps: int) -> int:
    """The most that `rows_of` can come to, whatever the videos cost: known before a plan is opened."""
    possible = (_rows(recipe, one + 1, world, prefetch_steps) for one in range(_most_windows(recipe, world)))
    return max(rows.least_bytes(world) for rows in possible)


def _rows(recipe: Recipe, windows: int, world: int, prefetch_steps: int) -> Rows:
    in_hand = -(-prefetch_steps // (recipe.clips_per_visit * windows))
    return Rows(windows=windows, row_bytes=windows * _window_bytes(recipe, world), in_hand=in_hand)


def _most_windows(recipe: Recipe, world: int) -> int:
    return max(1, min(LARGEST_ROW_BYTES // _window_bytes(recipe, world), MOST_WINDOWS))


def _window_bytes(recipe: Recipe, world: int) -> int:
    """How large the largest window of a rank is."""
    clips = [
        -(-recipe.size_of(bucket) // world) * bucket.frames * bucket.height * bucket.width * 3
        for bucket in recipe.shapes
    ]
    return max(clips) * recipe.clips_per_visit
