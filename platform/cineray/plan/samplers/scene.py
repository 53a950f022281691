"""`scene`: clips that never cross a cut. The cuts come from the catalog, as the times at which new scenes begin."""

from __future__ import annotations

from itertools import pairwise

from cineray.plan.samplers.base import Sampler
from cineray.plan.stretch import Stretch


class Scene(Sampler):
    """A run of samples from anywhere within one scene; longer scenes are drawn more often, as they have more places."""

    looks_inside = True

    def rooms(self, span: Stretch, cuts_pts: tuple[int, ...] = ()) -> list[Stretch]:
        """The scenes of the span.

        cuts             v       v
        span      [-----------------------)
        rooms     [------)[------)[-------)
        """
        inside = sorted({cut for cut in cuts_pts if span.start_pts < cut < span.end_pts})
        edges = [span.start_pts, *inside, span.end_pts]
        scenes = [span.part(start, stop) for start, stop in pairwise(edges)]
        return [scene for scene in scenes if scene.num_frames] or [span]
