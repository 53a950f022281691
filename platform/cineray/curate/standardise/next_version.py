"""From encoded videos to the next version: what each became and the head go in; rows to remove and to add come out.

    media      the new video, where it lies in its shard, with the captions, label and columns of its source
    places     the same
    clips      the same spans on the new clock, with their split, group, label and weight
    layers/*   moved (`moved_layers.py`); and `source_times`: the way back, exactly; `encoding`: what it cost
    a reject   its media row says why, its clips leave, `layers/curation` says what they were

It is a function of the finished work and the head alone, so losing a race for the next version costs one more call.
Frame tables are read from the staging as media rows pass, so that those of all videos are never held.
Videos that came into the lake meanwhile stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from cineray.curate.standardise.moved_layers import CURATION, moved_rows
from cineray.curate.standardise.shards import Lies
from cineray.curate.standardise.times import Moved
from cineray.lake import (
    Changes,
    Lake,
    Version,
    batches_of,
    clip_row,
    layer_row,
    media_row,
    place_row,
    reject_row,
    unpack_text,
)
from cineray.records import IndexedVideo, Reject, VideoFile

AUTHOR = "standardise"
SOURCE_TIMES, ENCODING = "layers/source_times", "layers/encoding"
"""Each has one row per standardised video; one that is standardised again has that of the last time."""
Row = dict[str, Any]
Videos = Callable[[Sequence[str]], Mapping[str, IndexedVideo]]
"""What each source was encoded to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """One standardised video: what it is now, where it lies, and how it came from its source."""

    lies: Lies
    moved: Moved
    bytes_before: int
    bytes_after: int
    psnr_db: float
    """Of brightness, what the encoder lost: the mean of some frames."""
    worst_psnr_db: float

    def encoding(self, source_id: str) -> str:
        """The row of `layers/encoding`: plain figures as JSON."""
        told = {"source_video_id": source_id, "bytes_before": self.bytes_before, "bytes_after": self.bytes_after}
        told_db = {"psnr_db": round(self.psnr_db, 3), "worst_psnr_db": round(self.worst_psnr_db, 3)}
        return json.dumps(told | told_db, sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the videos of a version, by the sources' ids."""

    ready: Mapping[str, Ready]
    rejects: Mapping[str, Reject]

    def touches(self, video_id: str | None) -> bool:
        """Whether anything is to be done about this video."""
        return video_id in self.ready or video_id in self.rejects

    def of(self, video_ids: Set[str]) -> Outcome:
        """What of it is about these videos."""
        return Outcome(
            ready={video_id: one for video_id, one in self.ready.items() if video_id in video_ids},
            rejects={video_id: one for video_id, one in self.rejects.items() if video_id in video_ids},
        )


class NextVersion:
    """What standardising would change in one head."""

    def __init__(self, lake: Lake, head: Version, outcome: Outcome, videos: Videos) -> None:
        self.lake, self.head, self.videos = lake, head, videos
        ready = {row["video_id"] for row in self._rows("media", ["video_id", "state"]) if row["state"] == "ready"}
        self.outcome = outcome.of(ready)  # the rest another run has taken into the head meanwhile, or somebody removed
        self.moved = {old: one.moved for old, one in self.outcome.ready.items()}
        self.old_clips: list[Row] = []
        self.clip_ids: dict[str, tuple[str, str]] = {}

    def changes(self) -> Changes:
        """Rows to add and to remove: a table of which any row changes is written anew."""
        if not self.outcome.ready and not self.outcome.rejects:
            return Changes()
        for row in self._rows("clips"):
            if self.outcome.touches(row["video_id"]):
                self.old_clips.append(row)
                if row["video_id"] in self.moved:
                    self.clip_ids[row["clip_id"]] = (row["video_id"], self._moved_clip(row)["clip_id"])
        layers = {f"layers/{name}" for name in self.head.layers()} | {SOURCE_TIMES, ENCODING}
        layers |= {CURATION} if self.outcome.rejects else set()
        add = {"media": self._media(), "places": self._places(), "clips": self._clips()}
        add |= {table: self._layer(table) for table in sorted(layers)}
        keys = {"media": "video_id", "places": "place_id", "clips": "clip_id"}
        remove = {table: f"{keys.get(table, 'row_id')} IS NOT NULL" for table in add if table in self.head.tables}
        batches = {name: batches_of(name, rows, rows_per_batch=_rows_at_once(name)) for name, rows in add.items()}
        return Changes(add=batches, remove=remove)

    def _rows(self, table: str, columns: list[str] | None = None) -> Iterator[Row]:
        for rows in self._batches(table, columns):
            yield from rows

    def _batches(self, table: str, columns: list[str] | None = None) -> Iterator[list[Row]]:
        if table in self.head.tables:
            for batch in self.lake.scan(self.head, table, columns, batch_size=_rows_at_once(table)):
                yield batch.to_pylist()

    def _media(self) -> Iterator[Row]:
        for rows in self._batches("media"):
            made = self.videos([row["video_id"] for row in rows if row["video_id"] in self.outcome.ready])
            for row in rows:
                if row["video_id"] in self.outcome.rejects:
                    yield self._rejected(row)
                elif row["video_id"] in made:
                    yield self._standardised(row, made[row["video_id"]])
                else:
                    yield row

    def _standardised(self, row: Row, made: IndexedVideo) -> Row:
        ready = self.outcome.ready[row["video_id"]]
        columns = json.loads(row["columns"]) if row["columns"] else {}
        return media_row(
            replace(made, version_tag=ready.lies.version_tag),  # it was indexed as a file of its own
            place=ready.lies.place,
            label=_text(row["label"]),
            captions=[unpack_text(text) for text in row["captions"] or ()],
            columns=columns | {"standardised_from": row["video_id"]},
        )

    def _rejected(self, row: Row) -> Row:
        reject = self.outcome.rejects[row["video_id"]]
        made = reject_row(reject, source="", video_id=row["video_id"])
        same = ("label", "captions", "columns", "uri", "offset", "length", "content_hash", "size_bytes")
        return made | {name: row[name] for name in same}

    def _places(self) -> Iterator[Row]:
        named: set[str] = set()
        for row in self._rows("places"):
            ready = self.outcome.ready.get(row["video_id"])
            if ready is None:
                yield row
            elif row["video_id"] not in named:  # of several places of a source, one name is enough
                named.add(row["video_id"])
                yield self._place(ready, unpack_text(row["name"]), unpack_text(row["source"]))

    def _place(self, ready: Ready, name: str, source: str) -> Row:
        lies = ready.lies
        file = VideoFile(name=name, place=lies.place, size_bytes=ready.bytes_after, version_tag=lies.version_tag)
        return place_row(file, video_id=ready.moved.video_id, source=source)

    def _clips(self) -> Iterator[Row]:
        for row in self._rows("clips"):
            if row["video_id"] in self.moved:
                yield self._moved_clip(row)
            elif row["video_id"] not in self.outcome.rejects:
                yield row

    def _moved_clip(self, row: Row) -> Row:
        moved = self.moved[row["video_id"]]
        start, end = moved.span(row["start_pts"], row["end_pts"])
        return clip_row(
            video_id=moved.video_id,
            start_pts=start,
            end_pts=end,
            split=row["split"],
            group_id=unpack_text(row["group_id"]),
            label=_text(row["label"]),
            weight=row["weight"],
        )

    def _layer(self, table: str) -> Iterator[Row]:
        rows = self._rows(table)
        if table in (SOURCE_TIMES, ENCODING):
            yield from (row for row in rows if row["video_id"] not in self.moved)
            for source_id, ready in self.outcome.ready.items():
                value = ready.moved.source_times if table == SOURCE_TIMES else ready.encoding(source_id)
                yield layer_row(value=value, author=AUTHOR, video_id=ready.moved.video_id)
            return
        yield from moved_rows(table, rows, self.moved, self.clip_ids)
        if table == CURATION:
            yield from self._left_out()

    def _left_out(self) -> Iterator[Row]:
        for clip in self.old_clips:
            reject = self.outcome.rejects.get(clip["video_id"])
            if reject is not None:
                told = {"rule": AUTHOR, "reason": reject.reason, "figures": {"detail": reject.detail}}
                told |= {"group_id": clip["group_id"], "split": clip["split"]}
                yield layer_row(
                    value=json.dumps(told, sort_keys=True),
                    author=AUTHOR,
                    video_id=clip["video_id"],
                    start_pts=clip["start_pts"],
                    end_pts=clip["end_pts"],
                )


def _rows_at_once(table: str) -> int:
    """Media rows have frame tables: of hours of video some megabytes each."""
    return 32 if table == "media" else 1024


def _text(text: str | None) -> str | None:
    return None if text is None else unpack_text(text)
