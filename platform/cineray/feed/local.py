"""The plain loop: steps go in, batches come out, one after the other, in this process. The readable reference.

    for batch in local_batches(spec, range(0, 1000)):
        train(batch)

All other drivers give the same batches, bit for bit; this one says what they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from cineray.feed.limit import SubstitutionLimit
from cineray.feed.supply import FeedSpec, Supply
from cineray.feed.visits import make_batches, tasks_of
from cineray.records import Batch


def local_batches(source: FeedSpec | Supply, steps: range, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """The batches of these steps, of one rank's slots or of all."""
    supply = source.open() if isinstance(source, FeedSpec) else source
    if supply.journal is not None:
        supply.journal.reload()
    limit = SubstitutionLimit(supply.plan.recipe.max_substituted_fraction)
    for task in tasks_of(supply, steps, rank, world):
        for batch in make_batches(supply, task):
            limit.check(batch)
            yield batch


def local_batch(source: FeedSpec | Supply, step: int, *, rank: int = 0, world: int = 1) -> Batch:
    """One batch, whatever came before it."""
    return next(local_batches(source, range(step, step + 1), rank=rank, world=world))
