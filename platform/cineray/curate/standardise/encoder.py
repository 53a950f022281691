"""Many videos encoded: videos of a version go in, finished work lies in the staging, and a few counts come out of each.

The same code runs in this process and inside Ray tasks. Whatever a video does to FFmpeg happens in a child process.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from cineray.curate.standardise.config import StandardiseConfig
from cineray.curate.standardise.staging import Staging
from cineray.curate.standardise.tar_file import MOST_BYTES
from cineray.curate.standardise.wire import request_of
from cineray.curate.videos import Listed, Video, asked_of_places, take_videos
from cineray.index import IndexPool, Limits
from cineray.index.wire import Message
from cineray.lake import Lake, Version
from cineray.records import Reject, VideoFile

CHILD_COMMAND = (sys.executable, "-m", "cineray.curate.standardise.child")
_TAKEN_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What some videos came to."""

    videos: int = 1
    rejected: int = 0
    bytes_before: int = 0
    bytes_after: int = 0

    def __add__(self, other: Progress) -> Progress:
        return Progress(
            videos=self.videos + other.videos,
            rejected=self.rejected + other.rejected,
            bytes_before=self.bytes_before + other.bytes_before,
            bytes_after=self.bytes_after + other.bytes_after,
        )


class Encoder:
    """Encodes videos of one version, `workers` at once; a context manager, because it holds child processes."""

    def __init__(self, lake: Lake, version: Version, config: StandardiseConfig, *, workers: int) -> None:
        self.lake, self.version, self.config, self.workers = lake, version, config, workers
        self.staging = Staging(lake.uri, config.work_key())
        seconds = config.seconds_per_video
        limits = Limits(wall_seconds=seconds, cpu_seconds=seconds, memory_bytes=config.memory_per_video)
        self.pool = IndexPool(workers, limits=limits, child_command=CHILD_COMMAND)

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the children."""
        self.pool.close()

    def encode(self, todo: Iterable[Listed]) -> Iterator[Progress]:
        """One result per video, in their order, when it is durable; few are taken ahead."""
        return self.pool.each(self._one, self._whole(iter(todo)), ahead=2 * self.workers, name="cineray-encode")

    def _whole(self, todo: Iterator[Listed]) -> Iterator[Video]:
        while some := list(islice(todo, _TAKEN_AT_ONCE)):
            yield from take_videos(self.lake, self.version, some)

    def _one(self, video: Video) -> Progress:
        source_id, before = video.listed.video_id, video.video.size_bytes
        if self.staging.is_finished(source_id):
            return Progress()  # by another run with these settings, since this one looked
        with tempfile.TemporaryDirectory(prefix="cineray-encode-") as folder:
            path = os.path.join(folder, "encoded.mp4")
            answer = asked_of_places(lambda file: self._ask(video, file, path), self.lake, self.version, video)
            if not isinstance(answer, Reject) and answer[0]["worst_psnr_db"] < self.config.least_psnr_db:
                answer = _too_lossy(source_id, answer[0]["worst_psnr_db"], self.config.least_psnr_db)
            if not isinstance(answer, Reject) and os.path.getsize(path) > MOST_BYTES:
                answer = _too_large(source_id, os.path.getsize(path))
            if isinstance(answer, Reject):
                self.staging.put_reject(source_id, answer)
                return Progress(rejected=1, bytes_before=before)
            self.staging.put(source_id, answer, path)
            return Progress(bytes_before=before, bytes_after=os.path.getsize(path))

    def _ask(self, video: Video, file: VideoFile, path: str) -> Message | Reject:
        told, frames = request_of(video.video, file.version_tag, self.config.encoding, path)
        return self.pool.ask(file, "standardise", told, frames)


def _too_large(source_id: str, size_bytes: int) -> Reject:
    detail = (
        f"encoded it has {size_bytes:,} bytes and a tar's member at most {MOST_BYTES:,}; raise encoding.crf, or cut it"
    )
    return Reject(name=source_id, stage="standardise", reason="too_large", detail=detail)


def _too_lossy(source_id: str, db: float, least: float) -> Reject:
    detail = f"a frame of it is {db:.1f} dB from what was encoded and at least {least:g} is wanted; lower encoding.crf"
    return Reject(name=source_id, stage="standardise", reason="too_lossy", detail=detail)
