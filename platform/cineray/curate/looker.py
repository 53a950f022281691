"""The work on one video: what is not known of it is measured in a child; one finished row for the cache comes out.

The same code runs in this process and inside Ray tasks. A row holds columns by stage, or the reason why there are none.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cineray.curate.asks import MEASURE
from cineray.curate.config import CurateJob
from cineray.curate.videos import Listed, Video, other_places, take_videos
from cineray.index import IndexPool, Limits, indexed_to_dict
from cineray.lake import Lake, Version
from cineray.records import Reject

CHILD_COMMAND = (sys.executable, "-m", "cineray.curate.child")
_TAKEN_AT_ONCE = 32
_ELSEWHERE = frozenset({"missing", "changed", "refused"})


@dataclass(frozen=True, slots=True)
class Todo:
    """One video, and the names of the stages that are to be applied to it."""

    listed: Listed
    stages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What looking at one video gave: the text of each stage's columns by the stage's key, or a reason."""

    video_id: str
    said: str
    columns: dict[str, str]
    reason: str = ""
    detail: str = ""


class Looker:
    """Looks at videos of one version, `workers` at once; a context manager, because it holds child processes."""

    def __init__(self, lake: Lake, version: Version, job: CurateJob, *, workers: int) -> None:
        self.lake, self.version, self.stages, self.workers = lake, version, job.stages, workers
        limits = Limits(
            wall_seconds=job.seconds_per_video, cpu_seconds=job.seconds_per_video, memory_bytes=job.memory_per_video
        )
        self.pool = IndexPool(workers, limits=limits, child_command=CHILD_COMMAND)

    def __enter__(self) -> Looker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the children."""
        self.pool.close()

    def look(self, todo: Iterable[Todo]) -> Iterator[Looked]:
        """One result per video, in their order; results come as they are finished, few are taken ahead."""
        waiting: deque[Future[Looked]] = deque()
        threads = ThreadPoolExecutor(self.workers, thread_name_prefix="cineray-curate")
        try:
            for video, stages in self._whole(iter(todo)):
                waiting.append(threads.submit(self._one, video, stages))
                if len(waiting) >= 2 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(wait=True, cancel_futures=True)

    def _whole(self, todo: Iterator[Todo]) -> Iterator[tuple[Video, tuple[str, ...]]]:
        while some := list(islice(todo, _TAKEN_AT_ONCE)):
            videos = take_videos(self.lake, self.version, [one.listed for one in some])
            yield from zip(videos, (one.stages for one in some), strict=True)

    def _one(self, video: Video, stages: Sequence[str]) -> Looked:
        told, frames = self._request(video, stages)
        answer = self.pool.ask(video.file, MEASURE, told, frames)
        if isinstance(answer, Reject) and answer.reason in _ELSEWHERE:
            for file in other_places(self.lake, self.version, video):
                answer = self.pool.ask(file, MEASURE, told, frames)
                if not isinstance(answer, Reject):
                    break
        listed = video.listed
        if isinstance(answer, Reject):
            return Looked(
                video_id=listed.video_id, said=listed.said, columns={}, reason=answer.reason, detail=answer.detail
            )
        return Looked(video_id=listed.video_id, said=listed.said, columns=answer[0]["columns"])

    def _request(self, video: Video, stages: Sequence[str]) -> tuple[dict[str, Any], bytes]:
        values = indexed_to_dict(video.video)
        frames: bytes = values.pop("frames")
        told = {
            "video": values,
            "captions": video.captions,
            "label": video.label,
            "columns": video.columns,
            "stages": {name: dict(self.stages[name]) for name in stages},
        }
        return told, frames
