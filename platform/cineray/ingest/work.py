"""The work on one video: a listed video goes in, one finished row for the journal comes out. No table is touched.

Everything that opens a video happens in the index's child processes; what happens here is reading sidecars, which are
small and limited, and putting rows together. The same code runs in this process and inside Ray tasks.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator

from cineray import storage
from cineray.errors import PlaceError
from cineray.index import IndexPool, Limits
from cineray.ingest import staged
from cineray.ingest.config import IngestConfig
from cineray.ingest.known import facts_digest, signature
from cineray.ingest.remuxing import Remuxed, remuxed_if_needed
from cineray.ingest.sidecar_facts import SidecarFacts, read_sidecars
from cineray.ingest.tasks import Task, reject_signature
from cineray.lake import media_row, place_id, place_row, reject_id, reject_row
from cineray.lake.schema import pack_text
from cineray.records import IndexedVideo, Reject, VideoFile

MACHINE_REASONS = frozenset({"timed_out", "out_of_memory", "decoder_crashed", "unreadable"})
"""Rejects that may be the machine's fault and not the video's: the next ingest looks again."""


class Checker:
    """Turns tasks into rows, `workers` videos open at once; a context manager, because it holds child processes."""

    def __init__(self, config: IngestConfig, *, workers: int) -> None:
        self.config = config
        self.source = storage.normalise_uri(config.source)
        self.lake_uri = storage.normalise_uri(config.lake)
        self.policy = access_policy(config)
        limits = Limits(wall_seconds=config.seconds_per_video, memory_bytes=config.memory_per_video)
        self.pool = IndexPool(workers, level=config.level, hash_mode=config.hash, limits=limits, policy=self.policy)

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.close()

    def check(self, tasks: Iterable[Task]) -> Iterator[staged.Row]:
        """One row per task, in their order; rows come as they are finished."""
        waiting: list[staged.Row | VideoFile] = []

        def videos() -> Iterator[VideoFile]:
            for task in tasks:
                settled = self._settled_at_sight(task)
                if settled is not None:
                    waiting.append(settled)
                else:
                    assert isinstance(task.listed, VideoFile)
                    waiting.append(task.listed)
                    yield task.listed

        for indexed in self.pool.map(videos()):
            yield from _leading_rows(waiting)
            video = waiting.pop(0)
            assert isinstance(video, VideoFile)
            yield self._row(video, indexed)
        yield from _leading_rows(waiting)

    def _settled_at_sight(self, task: Task) -> staged.Row | None:
        """What needs no opening: a reject of the source, or a place whose bytes and facts the lake has already."""
        video = task.listed
        if isinstance(video, Reject):
            return self._source_reject(video)
        if not task.known_signature or video.version_tag:
            return None  # new, or the listing has already shown that it changed
        try:
            _, tag = storage.place_stat(video.place, policy=self.policy)
        except PlaceError:
            return None  # indexing meets the same error, and makes a reject of it
        if signature(tag, facts_digest(video)) != task.known_signature:
            return None
        return {"outcome": staged.UNCHANGED, "key": place_id(video.place), "signature": task.known_signature}

    def _row(self, listed: VideoFile, indexed: IndexedVideo | Reject) -> staged.Row:
        facts = read_sidecars(listed, self.policy)
        if isinstance(indexed, IndexedVideo) and self.config.remux == "auto":
            remuxed = remuxed_if_needed(listed, indexed, self.lake_uri, self.pool)
            indexed = remuxed if isinstance(remuxed, Reject) else indexed
        else:
            remuxed = None
        if isinstance(indexed, Reject):
            return self._rejected(listed, facts.video, indexed)
        return self._ready(listed, facts, indexed, remuxed if isinstance(remuxed, Remuxed) else None)

    def _ready(
        self, listed: VideoFile, facts: SidecarFacts, indexed: IndexedVideo, remuxed: Remuxed | None
    ) -> staged.Row:
        video = facts.video
        row = self._common(listed, video, indexed.version_tag, indexed.size_bytes, indexed.video_id)
        row["outcome"], row["bytes_read"] = staged.READY, indexed.bytes_read
        row["media"] = media_row(
            indexed,
            place=video.place,
            label=video.label,
            captions=video.captions,
            columns=video.columns,
            remuxed=remuxed.video if remuxed else None,
            remuxed_uri=remuxed.uri if remuxed else None,
            remux_reason=remuxed.why if remuxed else None,
        )
        told = remuxed.video if remuxed else indexed
        row["layers"] = list(dataclasses.replace(facts).layer_entries(told, self.source))
        return row

    def _rejected(self, listed: VideoFile, video: VideoFile, reject: Reject) -> staged.Row:
        # A reject by the machine gets no signature, so that the next ingest does not take it for known.
        tag = "" if reject.reason in MACHINE_REASONS else listed.version_tag or _tag_of(listed, self.policy)
        made = reject_id(self.source, video.name)
        row = self._common(listed, video, tag, video.size_bytes, made)
        row["outcome"], row["bytes_read"] = staged.REJECTED, 0
        row["media"] = reject_row(
            reject,
            source=self.source,
            place=video.place,
            label=video.label,
            captions=video.captions,
            columns=video.columns,
        )
        return row

    def _source_reject(self, reject: Reject) -> staged.Row:
        key = reject_id(self.source, reject.name)
        return {
            "outcome": staged.REJECTED,
            "key": key,
            "signature": reject_signature(reject),
            "checked_at": time.time(),
            "name": reject.name,
            "bytes_read": 0,
            "media": reject_row(reject, source=self.source),
        }

    def _common(
        self, listed: VideoFile, video: VideoFile, version_tag: str, size_bytes: int | None, video_id: str
    ) -> staged.Row:
        told = signature(version_tag, facts_digest(listed))
        at = dataclasses.replace(video, version_tag=version_tag, size_bytes=size_bytes)
        return {
            "key": place_id(video.place),
            "signature": told,
            "checked_at": time.time(),
            "name": video.name,
            "given_split": video.split,
            "given_group": pack_text(video.group),
            "place": place_row(at, video_id=video_id, source=self.source, signature=told),
        }


def access_policy(config: IngestConfig) -> storage.AccessPolicy:
    """What the config allows, added to what the environment allows."""
    allowed = storage.AccessPolicy.from_env().allow_hosts
    return storage.AccessPolicy(allow_hosts=allowed | frozenset(config.allow_hosts))


def _leading_rows(waiting: list[staged.Row | VideoFile]) -> Iterator[staged.Row]:
    """Rows at the front that wait for no child process, so that order is kept."""
    while waiting and not isinstance(waiting[0], VideoFile):
        row = waiting.pop(0)
        assert not isinstance(row, VideoFile)
        yield row


def _tag_of(video: VideoFile, policy: storage.AccessPolicy) -> str:
    try:
        return storage.place_stat(video.place, policy=policy)[1]
    except PlaceError:
        return ""
