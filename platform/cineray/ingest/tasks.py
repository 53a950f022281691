"""What is left to do: a source's listing and what is known go in, `Task`s come out; tasks travel as JSON lines.

A place that the lake or the journal already holds, with the same bytes and facts, makes no task. Listing is lazy and
looks places up a few thousand at a time, so it stays fast and small for millions of videos.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cineray.ingest.known import KnownPlaces, facts_digest, signature
from cineray.lake import place_id, reject_id
from cineray.records import Place, Reject, Sidecar, VideoFile

_LOOKED_UP_AT_ONCE = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One listed video, and the signature that is known for its place (empty for a new one)."""

    listed: VideoFile | Reject
    known_signature: str = ""


@dataclass(slots=True)
class Listing:
    """Counts what a listing holds as it passes by."""

    listed: int = 0
    unchanged: int = 0

    def tasks(self, videos: Iterable[VideoFile | Reject], known: KnownPlaces, source: str) -> Iterator[Task]:
        """A task for everything that is not known to be done."""
        rest = iter(videos)
        while chunk := list(itertools.islice(rest, _LOOKED_UP_AT_ONCE)):
            keys = [key_of(listed, source) for listed in chunk]
            for listed, held in zip(chunk, known.signatures(keys), strict=True):
                self.listed += 1
                if held and held == _signature_at_sight(listed):
                    self.unchanged += 1
                else:
                    yield Task(listed=listed, known_signature=held)


def key_of(listed: VideoFile | Reject, source: str) -> str:
    """The journal's key: the place of a video, the name of a source's reject."""
    return reject_id(source, listed.name) if isinstance(listed, Reject) else place_id(listed.place)


def _signature_at_sight(listed: VideoFile | Reject) -> str:
    """The signature as far as the listing tells: a listing without version tags has to be looked at more closely."""
    if isinstance(listed, Reject):
        return reject_signature(listed)
    return signature(listed.version_tag, facts_digest(listed))


def reject_signature(reject: Reject) -> str:
    """A source's reject is known when it is rejected for the same reason."""
    return signature(reject.reason, reject.name)


def task_to_json(task: Task) -> str:
    """One line. Names that are not valid Unicode survive, as escapes."""
    kind = "reject" if isinstance(task.listed, Reject) else "video"
    return json.dumps({"kind": kind, "known": task.known_signature, "listed": dataclasses.asdict(task.listed)})


def task_from_json(line: str) -> Task:
    """The inverse."""
    told: dict[str, Any] = json.loads(line)
    listed = told["listed"]
    if told["kind"] == "reject":
        return Task(listed=Reject(**listed), known_signature=told["known"])
    listed["place"] = Place(**listed["place"])
    listed["captions"] = tuple(listed["captions"])
    listed["sidecars"] = tuple(
        Sidecar(kind=s["kind"], place=Place(**s["place"]), version_tag=s["version_tag"]) for s in listed["sidecars"]
    )
    return Task(listed=VideoFile(**listed), known_signature=told["known"])


@contextmanager
def spooled(tasks: Iterable[Task]) -> Iterator[tuple[int, Iterator[Task]]]:
    """How many tasks there are, and the tasks: kept in a temporary file meanwhile, so that many take no memory."""
    with tempfile.TemporaryFile("w+", encoding="ascii", prefix="cineray-tasks-") as file:
        total = 0
        for task in tasks:
            file.write(task_to_json(task) + "\n")
            total += 1
        file.seek(0)
        yield total, (task_from_json(line) for line in file)
