"""`ingest`: a source and a lake in, a new version out. The three stations joined: listed, indexed, committed.

    list -> leave out what is known -> check (in this process, or on Ray) -> journal -> commit -> clear the journal

Killed at any moment it leaves the last version whole; run again it takes up the journal and goes on. Where nothing is
new, the head stays the head.
"""

from __future__ import annotations

import getpass
import itertools
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cineray.errors import TooManyRejects
from cineray.ingest.changes import Proposal
from cineray.ingest.config import EngineConfig, IngestConfig
from cineray.ingest.journal import Journal
from cineray.ingest.known import KnownPlaces
from cineray.ingest.local import run_local
from cineray.ingest.ray_ingest import run_on_ray
from cineray.ingest.summary import SUMMARISED, Summary
from cineray.ingest.tasks import Listing, Task
from cineray.ingest.work import access_policy
from cineray.lake import Lake, Version
from cineray.source import open_source

_LEASE_SECONDS = 14 * 86400.0


@dataclass(slots=True)
class Progress:
    """What an ingest has done so far; whoever watches gets the same object each time."""

    done: Summary = field(default_factory=Summary)
    total: int | None = None
    """How many videos there are to do; None while listing goes on."""
    stage: str = "listing"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an ingest did. `version` is the head that it left, which is the old one where nothing was new."""

    version: Version
    videos: int
    added: int
    unchanged: int
    duplicates: int
    summary: Summary
    resumed: int
    seconds: float
    limit_exceeded: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The facts that `--json` prints; scripts depend on the names."""
        return {
            "version": self.version.number,
            "fingerprint": self.version.fingerprint,
            "videos": self.videos,
            "added": self.added,
            "unchanged": self.unchanged,
            "duplicates": self.duplicates,
            "resumed": self.resumed,
            "remuxed": self.summary.remuxed,
            "rejected": self.summary.rejects,
            "frames": self.summary.frames,
            "bytes_read": self.summary.bytes_read,
            "seconds": round(self.seconds, 3),
        }


def ingest(
    config: IngestConfig,
    engine: EngineConfig | None = None,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    author: str = "",
    command: str = "",
    message: str = "",
) -> IngestReport:
    """Bring what is new or changed in the source into the lake, as one new version."""
    engine = engine or EngineConfig()
    began = time.monotonic()
    source = open_source(config.source, kind=config.kind, policy=access_policy(config))
    lake = Lake.open_or_create(config.lake)
    with lake.writing(seconds=_LEASE_SECONDS):
        journal = Journal(lake.uri, config.work_key())
        listing, progress = Listing(), Progress()
        for part in journal.tables(list(SUMMARISED)):
            progress.done.add(Summary.of(part.to_pylist()))
        resumed = progress.done.done
        tasks = listing.tasks(source.list_videos(), _known(lake, journal), source.uri)
        _work_off(tasks, config=config, engine=engine, journal=journal, progress=progress, on_progress=on_progress)
        progress.stage = "committing"
        on_progress(progress)
        before = lake.head()
        version = lake.commit(
            lambda head: Proposal(lake, head, journal, config.splits, source.uri).changes(),
            author=author or _whoami(),
            command=command or shlex.join(sys.argv),
            source=source.uri,
            processing=config.model_dump(mode="json"),
            message=message,
        )
        journal.clear()
    seconds = time.monotonic() - began
    return _report(
        config, version, before=before, listing=listing, done=progress.done, resumed=resumed, seconds=seconds
    )


def check_limit(report: IngestReport) -> None:
    """Raise where more was rejected than the config allows; the version is made all the same."""
    if report.limit_exceeded:
        raise TooManyRejects(report.limit_exceeded)


def _work_off(
    tasks: Iterator[Task],
    *,
    config: IngestConfig,
    engine: EngineConfig,
    journal: Journal,
    progress: Progress,
    on_progress: Callable[[Progress], None],
) -> None:
    def done(summary: Summary) -> None:
        progress.done.add(summary)
        on_progress(progress)

    def listed(total: int) -> None:
        progress.total, progress.stage = total, "indexing"
        on_progress(progress)

    first = list(itertools.islice(tasks, engine.local_limit + 1)) if engine.engine == "auto" else []
    small = engine.engine == "auto" and len(first) <= engine.local_limit and not engine.address
    everything = itertools.chain(first, tasks)
    if engine.engine == "ray" or (engine.engine == "auto" and not small):
        run_on_ray(everything, config=config, engine=engine, journal=journal, on_progress=done, on_listed=listed)
        return
    if small:
        listed(len(first))
    progress.stage = "indexing"
    run_local(everything, config=config, engine=engine, journal=journal, on_progress=done)


def _known(lake: Lake, journal: Journal) -> KnownPlaces:
    return KnownPlaces(itertools.chain(_head_places(lake), journal.tables(["key", "signature"])))


def _head_places(lake: Lake) -> Iterator[pa.Table]:
    head = lake.head()
    if head is not None and "places" in head.tables:
        for batch in lake.scan(head, "places", columns=["place_id", "signature"]):
            yield pa.table({"key": batch["place_id"], "signature": batch["signature"]})


def _report(
    config: IngestConfig,
    version: Version,
    *,
    before: Version | None,
    listing: Listing,
    done: Summary,
    resumed: int,
    seconds: float,
) -> IngestReport:
    videos = version.counts.get("videos", 0)
    added = videos - (before.counts.get("videos", 0) if before else 0)
    looked_at = done.ready + done.rejected
    share = done.rejected / looked_at if looked_at else 0.0
    exceeded = ""
    if share > config.max_reject_fraction:
        exceeded = (
            f"{done.rejected} of {looked_at} new videos ({share:.0%}) were rejected; max_reject_fraction allows "
            f"{config.max_reject_fraction:.0%}. The good ones are in version {version.number}; see the reasons with "
            f"`cineray lake query {config.lake} --filter \"state = 'rejected'\" --columns uri,reason,detail`"
        )
    return IngestReport(
        version=version,
        videos=videos,
        added=added,
        unchanged=listing.unchanged + done.unchanged,
        duplicates=max(0, done.ready - added),
        summary=done,
        resumed=resumed,
        seconds=seconds,
        limit_exceeded=exceeded,
    )


def _whoami() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"
