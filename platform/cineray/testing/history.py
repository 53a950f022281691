"""What readers of a lake may ever see of an ingest: looks at the lake go in, everything that must not be comes out.

The promise: each source video is at every moment in exactly one of committed, rejected with a reason, or pending; once
in a version it is in each that follows; a version never changes; and work that was finished is not lost. A `History`
holds it to that: `look` takes what can be read of the lake now, `watching` looks again and again while others write
and are killed, and `problems` says what was broken, and between which two looks. `read_again` reads each version that
was ever seen once more, when all is over.

    with history.watching():
        ...                                    # ingests that are killed
    assert not history.problems
"""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pyarrow.parquet as pq

from cineray import storage
from cineray.errors import LakeError, PlaceMissing
from cineray.lake import Lake, Version
from cineray.lake.schema import unpack_text

COMMITTED, REJECTED = "committed", "rejected"
_PART_LIMIT_BYTES = 1 << 30
_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What could be read of a lake at one moment."""

    number: int = 0
    """Of the newest version; 0 where there is none yet."""
    fingerprint: str = ""
    states: Mapping[str, str] = field(default_factory=dict)
    """Place -> committed or rejected; whatever of the source is not here is pending."""
    keys: frozenset[str] = frozenset()
    """What the version holds, by the journal's keys."""
    finished: frozenset[str] = frozenset()
    """What the journal held just before the version was read."""


def states_of(media: Iterable[_Row], places: Iterable[_Row], clips: Iterable[_Row]) -> tuple[dict[str, str], list[str]]:
    """The state of each place in the rows of one version, and what is wrong with the rows."""
    by_video: dict[str, _Row] = {}
    wrong: list[str] = []
    for row in media:
        if row["video_id"] in by_video:
            wrong.append(f"the video {row['video_id']} is there twice")
        by_video[row["video_id"]] = row
    states: dict[str, str] = {}
    for place in places:
        uri, video = unpack_text(place["uri"]), by_video.get(place["video_id"])
        if uri in states:
            wrong.append(f"{uri} is there twice")
        if video is None:
            wrong.append(f"{uri} is of the video {place['video_id']}, which is not there")
        elif video["state"] == REJECTED:
            states[uri] = REJECTED
            wrong += [f"{uri} is rejected without a reason"] * (not video["reason"])
        else:
            states[uri] = COMMITTED
    return states, wrong + _unlike(by_video, {place["video_id"] for place in places}, clips)


def _unlike(by_video: Mapping[str, _Row], placed: set[str], clips: Iterable[_Row]) -> list[str]:
    """A ready video has a place and clips; a rejected one has no clips."""
    ready = {video for video, row in by_video.items() if row["state"] != REJECTED}
    clipped = Counter(row["video_id"] for row in clips)
    return [
        *(f"the video {video} lies nowhere" for video in sorted(ready - placed)),
        *(f"the video {video} has no clip" for video in sorted(ready - clipped.keys())),
        *(f"a clip is of {video}, which is no ready video" for video in sorted(clipped.keys() - ready)),
    ]


def between(before: Look, after: Look, *, may_change: Collection[str] = ()) -> list[str]:
    """What must not have happened from one look to the next; files of `may_change` have got other bytes."""
    if after.number < before.number:
        return [f"version {before.number} was the newest, and then {after.number}"]
    if after.number == before.number and after.fingerprint != before.fingerprint:
        return [f"version {after.number} had the fingerprint {before.fingerprint}, and then {after.fingerprint}"]
    gone = sorted(before.states.keys() - after.states.keys())
    changed = sorted(
        uri
        for uri, state in before.states.items()
        if uri in after.states and after.states[uri] != state and uri not in may_change
    )
    lost = sorted(before.finished - after.finished - after.keys)
    of = f"in version {before.number} and not as that in version {after.number}"
    return [
        *(f"{uri} was {before.states[uri]} {of}: it is pending again" for uri in gone),
        *(f"{uri} was {before.states[uri]} {of}: it is {after.states[uri]}" for uri in changed),
        *(f"the finished work {key} is neither in the journal any more nor in a version" for key in lost),
    ]


class History:
    """All looks at one lake, by one reader or several in turn."""

    def __init__(self, lake: str, *, may_change: Iterable[str] = ()) -> None:
        self.lake, self.may_change = lake, set(may_change)
        self.looks: list[Look] = []
        self.versions: dict[int, Look] = {}
        self.problems: list[str] = []
        self._parts: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()

    def look(self) -> Look:
        """Look once, and hold what is seen against what was seen before."""
        with self._lock:
            now = self._now()
            if self.looks:
                self.problems += between(self.looks[-1], now, may_change=self.may_change)
            self.looks.append(now)
            return now

    @contextmanager
    def watching(self, *, every_seconds: float = 0.02) -> Iterator[None]:
        """Look again and again, in a thread, and a last time at the end."""
        over, died = threading.Event(), list[BaseException]()

        def look_on() -> None:
            try:
                while not over.wait(every_seconds):
                    self.look()
            except BaseException as error:  # a reader that fails is what this is to find out
                died.append(error)

        watcher = threading.Thread(target=look_on, name="history", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        if died:
            raise died[0]
        self.look()

    def read_again(self) -> int:
        """Read each version once more, also those that came and went between two looks; how many there are."""
        lake = Lake.open(self.lake)
        for before, after in pairwise(self.versions[number] for number in sorted(self.versions)):
            self.problems += between(before, after, may_change=self.may_change)
        for number, seen in sorted(self.versions.items()):
            version = lake.resolve(number)
            report = lake.verify(version, media="none")
            self.problems += [f"version {number}: {one.what}: {one.reason}" for one in report.problems]
            if self._read(lake, version) != seen:
                self.problems.append(f"version {number} has other rows than it had when it was first seen")
        return len(self.versions)

    def _now(self) -> Look:
        # The journal first: what leaves it in between is in a version by then.
        finished = self._finished()
        try:
            lake = Lake.open(self.lake)
            head = lake.head()
        except LakeError:
            head = None  # nobody has made it yet
        if head is None:
            return Look(finished=finished)
        for version in lake.versions():
            if version.number in self.versions:
                break
            self.versions[version.number] = self._read(lake, version)
        seen = self.versions[head.number]
        return Look(
            number=seen.number, fingerprint=head.fingerprint, states=seen.states, keys=seen.keys, finished=finished
        )

    def _read(self, lake: Lake, version: Version) -> Look:
        media, places, clips = (
            lake.read(version, table, columns=columns).to_pylist() if table in version.tables else []
            for table, columns in (
                ("media", ["video_id", "state", "reason"]),
                ("places", ["place_id", "uri", "video_id"]),
                ("clips", ["video_id"]),
            )
        )
        states, wrong = states_of(media, places, clips)
        self.problems += [f"version {version.number}: {one}" for one in wrong]
        keys = frozenset(row["place_id"] for row in places) | frozenset(row["video_id"] for row in media)
        return Look(number=version.number, fingerprint=version.fingerprint, states=states, keys=keys)

    def _finished(self) -> frozenset[str]:
        found: set[str] = set()
        for entry in storage.list_objects(storage.join_uri(self.lake, "staging")):
            if entry.uri.endswith(".parquet"):
                found |= self._part(entry.uri)
        return frozenset(found)

    def _part(self, uri: str) -> frozenset[str]:
        """A part never changes, so it is read once."""
        if uri not in self._parts:
            try:
                data = storage.read_object(uri, limit_bytes=_PART_LIMIT_BYTES)
            except PlaceMissing:
                return frozenset()  # cleared since it was listed: its rows are in a version
            self._parts[uri] = frozenset(pq.ParquetFile(io.BytesIO(data)).read(columns=["key"])["key"].to_pylist())
        return self._parts[uri]


def check_whole(lake: str) -> int:
    """Raises where anything is missing or wrong that a version names. The number of the newest; 0 where there is none
    yet."""
    if not storage.object_exists(storage.join_uri(lake, "lake.json")):
        return 0
    opened = Lake.open(lake)
    for version in opened.versions():
        report = opened.verify(version, media="stat")
        assert report.ok, report.problems
    head = opened.head()
    return 0 if head is None else head.number
