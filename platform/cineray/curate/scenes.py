"""Scenes: a `Footage` goes in; spans of time that tile the video, none of which crosses a cut, leave.

`boundaries.py` has our own detector, and says what it takes for a cut, a fade, a dissolve and none of them. Another one
is a function in `DETECTORS`, named by the stage's `detector`: `scenedetect` is there for who has PySceneDetect (the
extra of that name). Spans are in the video's own integers, from the pts of one frame to the pts of another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cineray.curate.boundaries import Boundary, Windows, boundaries
from cineray.curate.footage import Footage
from cineray.curate.stage import Columns, Span
from cineray.errors import CinerayError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenes:
    """`scenes` (spans that tile the video, each with how it begins), `scenes_count`, `scenes_shortest_seconds`."""

    name: ClassVar[str] = "scenes"
    version: ClassVar[int] = 1
    gives: ClassVar[Mapping[str, type]] = {"scenes": list, "scenes_count": int, "scenes_shortest_seconds": float}
    detector: str = "own"
    """A name of `DETECTORS`."""
    least_change: float = 0.25
    """How unlike, 0 to 1, two pictures are that may be of two scenes."""
    stands_out: float = 2.5
    """A cut changes so many times what the frames around it change."""
    around_seconds: float = 0.4
    """What comes back sooner is a flash."""
    plain_seconds: float = 1.0
    """Black, white or one colour for so long is a scene of its own."""
    dissolve_seconds: float = 2.0
    """The longest dissolve."""

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        if self.detector not in DETECTORS:
            raise UsageError(f"scenes.detector is {self.detector!r}; it must be one of {', '.join(sorted(DETECTORS))}")
        found = DETECTORS[self.detector](footage, self)
        starts = [int(footage.pts_T[0]), *(int(footage.pts_T[one.frame]) for one in found)]
        kinds = ["start", *(one.kind for one in found)]
        scenes = [Span(*one) for one in zip(starts, [*starts[1:], footage.end_pts], kinds, strict=True)]
        shortest = min(span.end_pts - span.start_pts for span in scenes)
        return {
            "scenes": scenes,
            "scenes_count": len(scenes),
            "scenes_shortest_seconds": float(shortest * footage.video.time_base),
        }


def with_own(footage: Footage, how: Scenes) -> list[Boundary]:
    """Ours."""
    if len(footage.pts_T) < 2:
        return []
    usual_seconds = float(np.median(np.diff(footage.pts_T)) * footage.video.time_base)
    # In how many frames things are compared; no time that leaves here is made of it.
    around, plain, dissolve = (
        max(round(seconds / usual_seconds), 2)
        for seconds in (how.around_seconds, how.plain_seconds, how.dissolve_seconds)
    )
    windows = Windows(around=around, plain=plain, dissolve=dissolve)
    return boundaries(footage.gray_THW, windows, least_change=how.least_change, stands_out=how.stands_out)


def with_scenedetect(footage: Footage, how: Scenes) -> list[Boundary]:
    """PySceneDetect's adaptive detector on the same small pictures; of ours only `around_seconds` is used."""
    try:
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector
    except ImportError as error:
        raise CinerayError(
            'scenes.detector is "scenedetect", and PySceneDetect is not installed; '
            "pip install 'cineray[scenedetect]', or set scenes.detector to own"
        ) from error
    rate = 1 / float(np.median(np.diff(footage.pts_T)) * footage.video.time_base) if len(footage.pts_T) > 1 else 1.0
    detector = AdaptiveDetector(min_scene_len=max(round(how.around_seconds * rate), 1), luma_only=True)
    found = []
    for number, picture_HW in enumerate(footage.gray_THW):
        found += detector.process_frame(FrameTimecode(number, rate), np.repeat(picture_HW[..., None], 3, axis=2))
    found += detector.post_process(FrameTimecode(len(footage.gray_THW) - 1, rate))
    return [Boundary(one.frame_num, "cut") for one in found]


DETECTORS: dict[str, Callable[[Footage, Scenes], list[Boundary]]] = {"own": with_own, "scenedetect": with_scenedetect}
