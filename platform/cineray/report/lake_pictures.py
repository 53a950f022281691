"""Pictures of chosen stretches of a version's videos: stretches go in, strips of frames come out.

They are decoded in a child process with limits, a few frames of a few videos: a page never decodes a dataset. What
cannot be shown is told in the strip's place, and a place that does not answer is not asked for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from cineray.curate.asks import SHOW
from cineray.curate.looker import CHILD_COMMAND
from cineray.curate.videos import Listed, Video, take_videos
from cineray.index import IndexPool, Limits, indexed_to_dict
from cineray.lake import Lake, Version
from cineray.records import Reject
from cineray.report.content import Film
from cineray.report.embed import Embedder
from cineray.report.lake_strips import strip
from cineray.report.wording import clipped

PICTURES = 4
_SECONDS_PER_VIDEO = 30.0
_MOST_FAILURES = 3
"""In a row: then the videos are taken for being out of reach now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What one strip shows."""

    listed: Listed
    start_pts: int
    end_pts: int
    name: str
    detail: str = ""
    around: bool = False
    """The last frames before `start_pts` and the first from it on, instead of frames of the stretch: a cut."""


class Pictures:
    """A context manager, because it holds a child process."""

    def __init__(self, lake: Lake, version: Version, embed: Embedder) -> None:
        self.lake, self.version, self.embed = lake, version, embed
        limits = Limits(wall_seconds=_SECONDS_PER_VIDEO, cpu_seconds=_SECONDS_PER_VIDEO)
        self.pool = IndexPool(1, limits=limits, child_command=CHILD_COMMAND)
        self.failures = 0

    def __enter__(self) -> Pictures:
        self.pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.__exit__(kind, error, trace)

    def films(self, stretches: Sequence[Stretch]) -> tuple[Film, ...]:
        """A strip for each."""
        videos = take_videos(self.lake, self.version, [one.listed for one in stretches]) if stretches else ()
        return tuple(self._film(one, video) for one, video in zip(stretches, videos, strict=True))

    def _film(self, stretch: Stretch, video: Video) -> Film:
        if self.failures >= _MOST_FAILURES:
            return Film(source="", name=stretch.name, detail="not looked for: those before it could not be read")
        values = indexed_to_dict(video.video)
        frames: bytes = values.pop("frames")
        numbers = frame_numbers(stretch, video)
        answer = self.pool.ask(video.file, SHOW, {"video": values, "numbers": numbers}, frames)
        if isinstance(answer, Reject):
            self.failures += 1
            return Film(source="", name=stretch.name, detail=clipped(f"{answer.reason}: {answer.detail}", 160))
        self.failures = 0
        pictures_THWC = np.frombuffer(answer[1], np.uint8).reshape(answer[0]["shape"])
        source = self.embed.data(strip(pictures_THWC), "webp", stretch.name)
        return Film(source=source, name=stretch.name, detail=stretch.detail)


def frame_numbers(stretch: Stretch, video: Video) -> list[int]:
    """Four frames: evenly over the stretch, the first among them; or two on each side of where it begins."""
    table = video.video.frames
    if stretch.around:
        first = int(np.searchsorted(table.pts, stretch.start_pts))
        half = PICTURES // 2
        return [int(n) for n in np.clip(np.arange(first - half, first + half), 0, len(table) - 1)]
    length = stretch.end_pts - stretch.start_pts
    instants = [stretch.start_pts + length * part // PICTURES for part in range(PICTURES)]
    return [int(number) for number in np.clip(table.shown_at(np.array(instants, np.int64)), 0, None)]
