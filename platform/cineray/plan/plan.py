"""The plan: data, a recipe and a seed in; for every step its clips out, on any worker, in any order, again and again.

    plan = Plan([catalog], recipe, seed=7)
    plan.batch(12_345)                     the whole step, as ClipSpecs
    plan.share(12_345, rank=1, world=3)    its slots that rank 1 of 3 decodes

There is nothing to save: a checkpoint holds the step, and `identity` to be checked against. The global batch never
depends on the world; the shares of any world, one behind the other, are the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cineray.errors import UsageError
from cineray.plan.catalog import Catalog
from cineray.plan.clips import ClipMaker
from cineray.plan.eligible import Eligible, Rule
from cineray.plan.identity import PlanIdentity
from cineray.plan.order import Order, Visit
from cineray.plan.permutation import Permutation, key_bytes
from cineray.plan.recipe import BucketSpec, Recipe
from cineray.plan.rowset import Part, Units
from cineray.records import ClipSpec

if TYPE_CHECKING:
    from cineray.plan.cost import PlanCost

_MOST_CANDIDATES = 10_000
"""Looked at for one substitute; whoever sees only one video in so many random clips has, for this purpose, only one."""


@dataclass(frozen=True, slots=True)
class Window:
    """The steps that share their visits, one draw each, and their shape."""

    number: int
    steps: range
    bucket: int
    """The number of the shape in `recipe.shapes`."""
    ordinal: int
    """The how-manieth window of its bucket it is."""
    size: int
    """Clips per step, over all ranks."""

    def slots(self, rank: int = 0, world: int = 1) -> range:
        """The slots of rank `rank` of `world`, the same in each step: contiguous, all together each slot once."""
        if not 0 <= rank < world:
            raise UsageError(f"rank {rank} of {world} was asked for; ranks count from 0 to world - 1")
        return range(self.size * rank // world, self.size * (rank + 1) // world)


class Plan:
    """The batches of one recipe over these catalogs, one per dataset of the recipe. `decoding` is not read, but part of
    the plan's identity."""

    def __init__(self, catalogs: Sequence[Catalog], recipe: Recipe, seed: int, *, decoding: str = "") -> None:
        if len(catalogs) != len(recipe.datasets):
            raise UsageError(
                f"the recipe has {len(recipe.datasets)} datasets but {len(catalogs)} catalogs are given; each needs one"
            )
        self.catalogs = tuple(catalogs)
        self.recipe = recipe
        self.seed = seed
        self.decoding = decoding
        self.eligible: tuple[Eligible, ...] = tuple(
            catalog.eligible(Rule(recipe, number)) for number, catalog in enumerate(self.catalogs)
        )
        self.order = Order(recipe, self.eligible, seed)
        self._units: dict[tuple[int, int], Units] = {}
        self._clips = ClipMaker(self.catalogs, recipe, seed)

    # ---- batches ----------------------------------------------------------------------------------------------------

    def batch(self, step: int) -> list[ClipSpec]:
        """All clips of a step, in the order of their slots."""
        return self.share(step, 0, 1)

    def share(self, step: int, rank: int, world: int) -> list[ClipSpec]:
        """The clips of a step in the slots of one rank."""
        window = self.window(step)
        return self.clips(window, step, window.slots(rank, world))

    def clips(self, window: Window, step: int, slots: Sequence[int]) -> list[ClipSpec]:
        """The clips of these slots of one step of a window."""
        visits = self.visits(window, slots)
        self.prefetch(visits)
        bucket = self.recipe.shapes[window.bucket]
        return [self._clips.make(visit, step - window.steps.start, bucket) for visit in visits]

    def columns(self, window: Window, slots: Sequence[int]) -> Iterator[list[ClipSpec]]:
        """For each of these slots what it shows in the steps of the window: one visit, all of its draws."""
        visits = self.visits(window, slots)
        self.prefetch(visits)
        for visit in visits:
            yield self.column(window, visit)

    def column(self, window: Window, visit: Visit) -> list[ClipSpec]:
        """All draws of one visit."""
        bucket = self.recipe.shapes[window.bucket]
        return [self._clips.make(visit, draw, bucket) for draw in range(len(window.steps))]

    def visits(self, window: Window, slots: Sequence[int]) -> list[Visit]:
        """Which clip rows these slots show throughout a window; no catalog is asked."""
        return self.order.visits(window.bucket, window.ordinal, slots)

    def prefetch(self, visits: Sequence[Visit]) -> None:
        """Tell the catalogs that the clips of these visits are made next, so that they can read them at once."""
        self._clips.prefetch(visits)

    def window(self, step: int) -> Window:
        """The window that a step belongs to."""
        if step < 0:
            raise UsageError(f"step {step} was asked for; steps count from 0")
        draws = self.recipe.clips_per_visit
        number = step // draws
        bucket, ordinal = self.order.window(number)
        return Window(number, range(number * draws, (number + 1) * draws), bucket, ordinal, self.order.sizes[bucket])

    def bucket(self, step: int) -> BucketSpec:
        """The shape of a step."""
        return self.recipe.shapes[self.window(step).bucket]

    # ---- epochs -----------------------------------------------------------------------------------------------------

    @property
    def clips_per_epoch(self) -> int:
        """How many rows (or windows of rows) may be drawn; an epoch shows each `clips_per_visit` times."""
        return self.order.units

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the first epoch; where batches do not divide the data, later ones can be a window shorter."""
        return self.first_step(1)

    def epoch_of(self, step: int) -> int:
        """The epoch in which a step's window begins; the clips say which of them are of the next."""
        return self.order.windows.epoch_of(self.window(step).number)

    def first_step(self, epoch: int) -> int:
        """The first step of an epoch."""
        return self.order.windows.first_window(epoch) * self.recipe.clips_per_visit

    # ---- substitutes ------------------------------------------------------------------------------------------------

    def substitute(self, spec: ClipSpec, attempt: int) -> ClipSpec:
        """What stands in for a clip that could not be decoded, at the first (0), second (1), ... attempt.

        Another clip of the same dataset and shape, the same at every asking, of a video that is neither the clip's own
        nor that of an earlier attempt. Only when the dataset has no such video left does another span of one come.
        """
        shape = (len(spec.frame_numbers), spec.crop.out_height, spec.crop.out_width)
        bucket = next(number for number, one in enumerate(self.recipe.shapes) if one.shape == shape)
        seen = {spec.video_id}
        spare: list[Visit] = []
        for visit in self._candidates(spec, bucket):
            row = self.catalogs[visit.dataset].clip(visit.clip_number)
            if row.video_id not in seen:
                if len(seen) == attempt + 1:
                    return self._clips.make(visit, spec.draw, self.recipe.shapes[bucket])
                seen.add(row.video_id)
            elif len(spare) <= attempt and visit.clip_number != spec.clip_number:
                spare.append(visit)
        after = attempt + 1 - len(seen)
        if after < len(spare):
            return self._clips.make(spare[after], spec.draw, self.recipe.shapes[bucket])
        raise UsageError(
            f"clip {spec.clip_id} could not be decoded, and nothing is left to stand in after {attempt} attempts: "
            f"the dataset has {len(seen)} videos of this shape. Ingest with level `decode` to leave broken videos out"
        )

    def _candidates(self, spec: ClipSpec, bucket: int) -> Iterator[Visit]:
        """Clips of the same dataset and bucket, in an order of the visit's own: all its draws go to one video again."""
        if (spec.dataset, bucket) not in self._units:
            groups = self.eligible[spec.dataset].buckets[bucket]
            parts = [Part(spec.dataset, group.rows, group.window_ends) for group in groups]
            self._units[spec.dataset, bucket] = Units(parts)
        units = self._units[spec.dataset, bucket]
        key = key_bytes("substitute", self.seed, spec.dataset, spec.clip_number, spec.epoch)
        order = Permutation(len(units), key)
        for position in range(min(len(units), _MOST_CANDIDATES)):
            columns = units.at(np.array([order[position]]))
            dataset, row, window = (int(column[0]) for column in columns)
            yield Visit(dataset, row, window, spec.epoch)

    # ---- what it is, what it costs ----------------------------------------------------------------------------------

    @cached_property
    def identity(self) -> PlanIdentity:
        """Everything that the batches follow from."""
        catalogs = tuple(catalog.fingerprint for catalog in self.catalogs)
        return PlanIdentity(catalogs=catalogs, recipe=self.recipe.shaping(), seed=self.seed, decoding=self.decoding)

    @property
    def fingerprint(self) -> str:
        """Names the plan: the same fingerprint, the same batches."""
        return self.identity.fingerprint

    def cost(self, *, visits: int = 256) -> PlanCost:
        """What an epoch decodes, reads and computes, estimated from a sample of so many visits."""
        from cineray.plan.cost import cost_of

        return cost_of(self, visits=visits)

    @cached_property
    def padding_fraction(self) -> float:
        """The share of a batch's pixels that are padding, in time and at borders, in a sample of the first epoch."""
        return self.cost().padding_fraction

    def tree(self) -> str:
        """How the plan came about, from the data down to the batches."""
        from cineray.plan.tree import tree_of

        return tree_of(self)
