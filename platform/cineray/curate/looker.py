"""The work on one video: what is not known of it is measured in a child; one finished row for the cache comes out.

The same code runs in this process and inside Ray tasks. A row holds columns by stage, or the reason why there are none;
beside it come the pictures that the job's networks are to be shown, from the same decode.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from cineray.curate.asks import MEASURE
from cineray.curate.config import CurateJob
from cineray.curate.videos import Listed, Video, asked_of_places, take_videos
from cineray.index import IndexPool, Limits, indexed_to_dict
from cineray.index.footage import Squares
from cineray.lake import Lake, Version
from cineray.records import Reject

Pictures = npt.NDArray[np.uint8]
CHILD_COMMAND = (sys.executable, "-m", "cineray.curate.child")
_TAKEN_AT_ONCE = 32


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
    pictures: dict[str, Pictures] = field(default_factory=dict)
    """What each network that has not judged this video yet is to be shown. Not kept."""


class Looker:
    """Looks at videos of one version, `workers` at once; a context manager, because it holds child processes."""

    def __init__(self, lake: Lake, version: Version, job: CurateJob, *, workers: int) -> None:
        self.lake, self.version, self.job, self.workers = lake, version, job, workers
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
        whole = self._whole(iter(todo))
        return self.pool.each(lambda one: self._one(*one), whole, ahead=2 * self.workers, name="cineray-curate")

    def _whole(self, todo: Iterator[Todo]) -> Iterator[tuple[Video, tuple[str, ...]]]:
        while some := list(islice(todo, _TAKEN_AT_ONCE)):
            videos = take_videos(self.lake, self.version, [one.listed for one in some])
            yield from zip(videos, (one.stages for one in some), strict=True)

    def _one(self, video: Video, stages: Sequence[str]) -> Looked:
        squares = self._squares(stages)
        told, frames = self._request(video, stages, squares)
        answer = asked_of_places(
            lambda file: self.pool.ask(file, MEASURE, told, frames), self.lake, self.version, video
        )
        listed = video.listed
        if isinstance(answer, Reject):
            return Looked(
                video_id=listed.video_id, said=listed.said, columns={}, reason=answer.reason, detail=answer.detail
            )
        pictures = dict(_apart(answer[1], squares))
        return Looked(video_id=listed.video_id, said=listed.said, columns=answer[0]["columns"], pictures=pictures)

    def _squares(self, stages: Sequence[str]) -> dict[str, Squares]:
        return {name: self.job.models[name].squares for name in stages if name in self.job.models}

    def _request(
        self, video: Video, stages: Sequence[str], squares: Mapping[str, Squares]
    ) -> tuple[dict[str, Any], bytes]:
        values = indexed_to_dict(video.video)
        frames: bytes = values.pop("frames")
        told = {
            "video": values,
            "captions": (*video.captions, *video.annotated),
            "label": video.label,
            "columns": video.columns,
            "stages": {name: dict(self.job.stages[name]) for name in stages if name not in squares},
            "squares": [asdict(one) for one in _each_once(squares)],
        }
        return told, frames


def _each_once(squares: Mapping[str, Squares]) -> list[Squares]:
    """Two networks that want the same pictures share them."""
    return list(dict.fromkeys(squares[name] for name in sorted(squares)))


def _apart(data: bytes, squares: Mapping[str, Squares]) -> Iterator[tuple[str, Pictures]]:
    """The pictures of each network, out of the bytes that hold all of them one behind the other."""
    at, found = 0, {}
    for one in _each_once(squares):
        shape = (one.count, one.side, one.side, 3)
        found[one] = np.frombuffer(data, np.uint8, math.prod(shape), at).reshape(shape)
        at += found[one].nbytes
    yield from ((name, found[one]) for name, one in squares.items())
