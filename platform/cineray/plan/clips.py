"""One clip, everything but its pixels: a visit and the number of its draw in, a `ClipSpec` out.

Where a clip begins, how it is cut and what its text is are drawn for (seed, dataset, clip number, window, epoch, draw)
and nothing else: not the step, the rank or the world.
"""

from __future__ import annotations

from collections.abc import Sequence

from cineray.plan.catalog import Catalog
from cineray.plan.draws import Draws
from cineray.plan.order import Visit
from cineray.plan.recipe import BucketSpec, Recipe
from cineray.plan.samplers import sampler_of
from cineray.plan.spatial import crop_of
from cineray.plan.stretch import stretch_of
from cineray.records import ClipSpec


class ClipMaker:
    """Makes the clips of one plan."""

    def __init__(self, catalogs: Sequence[Catalog], recipe: Recipe, seed: int) -> None:
        self._catalogs = tuple(catalogs)
        self._frame, self._captions = recipe.frame, recipe.captions
        self._seed = seed
        self._sampler = sampler_of(recipe.sampling)

    def prefetch(self, visits: Sequence[Visit]) -> None:
        """Tell the catalogs what is asked for next."""
        for dataset, catalog in enumerate(self._catalogs):
            numbers = [visit.clip_number for visit in visits if visit.dataset == dataset]
            if numbers:
                catalog.prefetch(numbers)

    def make(self, visit: Visit, draw: int, bucket: BucketSpec) -> ClipSpec:
        """The clip that a visit shows as its n-th draw."""
        dataset, number, window, epoch = visit
        catalog = self._catalogs[dataset]
        row, video = catalog.clip(number), catalog.video(number)
        draws = Draws(self._seed, dataset=dataset, clip_number=number, epoch=epoch, draw=draw, window=window)
        span = stretch_of(video, row.start_pts, row.end_pts)
        picked = self._sampler.pick(span, bucket.frames, draws, cuts_pts=row.cuts_pts, window=window)
        return ClipSpec(
            clip_id=row.clip_id,
            video_id=row.video_id,
            dataset=dataset,
            clip_number=number,
            epoch=epoch,
            draw=draw,
            frame_numbers=tuple(picked.frame_numbers),
            frame_pts=tuple(picked.frame_pts),
            time_base=video.time_base,
            frame_is_real=tuple(picked.is_real),
            crop=crop_of(video, self._frame, bucket.height, bucket.width, draws),
            caption=self._caption(row.captions, draws),
            label=row.label,
        )

    def _caption(self, captions: Sequence[str], draws: Draws) -> str | None:
        if not captions:
            return None
        if self._captions == "first" or len(captions) == 1:
            return captions[0]
        return captions[draws.below(len(captions), "caption")]
