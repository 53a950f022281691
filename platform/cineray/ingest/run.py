"""`ingest`: a source and a lake in, a new version out. The three stations joined: listed, indexed, committed.

    list -> leave out what is known -> check (in this process, or on Ray) -> journal -> commit -> clear the journal

Killed at any moment it leaves the last version whole; run again it takes up the journal and goes on. Where nothing is
new, the head stays the head.
"""

from __future__ import annotations

import getpass
import itertools
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cineray.errors import Interrupted, TooManyRejects
from cineray.ingest.changes import Counts, Proposal, split_rule
from cineray.ingest.config import EngineConfig, IngestConfig, is_below
from cineray.ingest.journal import Journal
from cineray.ingest.known import KnownPlaces
from cineray.ingest.local import run_local
from cineray.ingest.ray_ingest import run_on_ray
from cineray.ingest.summary import SUMMARISED, Summary
from cineray.ingest.tasks import Listing, spooled
from cineray.ingest.work import access_policy
from cineray.lake import Changes, Lake, Version
from cineray.records import Reject, VideoFile
from cineray.source import Source, open_source
from cineray.telemetry.typed import typed


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
    removed: int
    unchanged: int
    duplicates: int
    """Further places of videos that were there, or came, already."""
    summary: Summary
    resumed: int
    """How much of the work a killed run had finished."""
    passed_over: Mapping[str, int]
    """Files of the source that are no videos by their names: how many of each extension."""
    seconds: float
    limit_exceeded: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The facts that `--json` prints; scripts depend on the names."""
        return {
            "version": self.version.number,
            "fingerprint": self.version.fingerprint,
            "videos": self.videos,
            "added": self.added,
            "removed": self.removed,
            "unchanged": self.unchanged,
            "duplicates": self.duplicates,
            "resumed": self.resumed,
            "remuxed": self.summary.remuxed,
            "rejected": self.summary.rejects,
            "passed_over": dict(self.passed_over),
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
    began = time.monotonic()
    source = open_source(config.source, kind=config.kind, policy=access_policy(config))
    lake = Lake.open_or_create(config.lake)
    split_rule(config.splits, lake.head())  # another rule than the lake's is refused before any work
    with lake.writing() as held:
        run = _Run(config, engine or EngineConfig(), lake, source, on_progress)
        try:
            run.work_off()
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped; {run.progress.done.done} videos are finished and kept, run the same command to go on"
            ) from None
        told = {"author": author or whoami(), "command": command or typed(), "message": message}
        version = run.commit(held.check, **told)
        run.journal.clear()
    return run.report(version, time.monotonic() - began)


def check_limit(report: IngestReport) -> None:
    """Raise where more was rejected than the config allows; the version is made all the same."""
    if report.limit_exceeded:
        raise TooManyRejects(report.limit_exceeded)


class _Run:
    """One ingest on its way: what it found, what it did, and what it will commit."""

    def __init__(
        self,
        config: IngestConfig,
        engine: EngineConfig,
        lake: Lake,
        source: Source,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.config, self.engine, self.lake, self.source = config, engine, lake, source
        self.on_progress, self.progress, self.listing = on_progress, Progress(), Listing()
        self.journal = Journal(lake.uri, config.work_key())
        for part in self.journal.tables(list(SUMMARISED)):
            self.progress.done.add(Summary.of(part.to_pylist()))
        self.resumed = self.progress.done.done
        self.counts = Counts(0, 0, 0)

    def work_off(self) -> None:
        """List, and check what is not known to be done; on Ray where it is much."""
        tasks = self.listing.tasks(self._listed(), _known(self.lake, self.journal), self.source.uri)
        first = list(itertools.islice(tasks, self.engine.local_limit + 1))
        everything = itertools.chain(first, tasks)
        if self._is_large(len(first)):
            run_on_ray(
                everything,
                config=self.config,
                engine=self.engine,
                journal=self.journal,
                on_progress=self._done,
                on_listed=self._begin,
            )
            return
        with spooled(everything) as (total, spooled_tasks):
            self._begin(total)
            run_local(
                spooled_tasks,
                config=self.config,
                engine=self.engine,
                journal=self.journal,
                on_progress=self._done,
            )

    def commit(self, check_lease: Callable[[], None], **provenance: str) -> Version:
        """The journal's rows as the next version; the head where nothing is new."""
        self.progress.stage = "committing"
        self.on_progress(self.progress)

        def prepare(head: Version | None) -> Changes:
            check_lease()  # whoever slept through it may have lost its journal to gc
            proposal = Proposal(self.lake, head, self.journal, self.config.splits, self.source.uri)
            self.counts = proposal.counts()  # of the last call, which is the one that landed
            return proposal.changes()

        processing = self.config.model_dump(mode="json")
        return self.lake.commit(prepare, source=self.source.uri, processing=processing, **provenance)

    def report(self, version: Version, seconds: float) -> IngestReport:
        """What all this came to."""
        done = self.progress.done
        return IngestReport(
            version=version,
            videos=version.counts.get("videos", 0),
            added=self.counts.added,
            removed=self.counts.removed,
            unchanged=max(0, self.listing.unchanged - self.resumed) + done.unchanged,
            duplicates=self.counts.further_places,
            summary=done,
            resumed=self.resumed,
            passed_over=self.source.passed_over,
            seconds=seconds,
            limit_exceeded=self._over_the_limit(version),
        )

    def _listed(self) -> Iterator[VideoFile | Reject]:
        """The source's videos, without those of a lake that lies inside it."""
        for listed in self.source.list_videos():
            if isinstance(listed, Reject) or not is_below(listed.place.uri, self.lake.uri):
                yield listed

    def _is_large(self, at_least: int) -> bool:
        if self.engine.engine != "auto":
            return self.engine.engine == "ray"
        return bool(self.engine.address) or at_least > self.engine.local_limit

    def _begin(self, total: int) -> None:
        self.progress.total, self.progress.stage = total + self.resumed, "indexing"
        self.on_progress(self.progress)

    def _done(self, summary: Summary) -> None:
        self.progress.done.add(summary)
        self.on_progress(self.progress)

    def _over_the_limit(self, version: Version) -> str:
        done = self.progress.done
        looked_at = done.ready + done.rejected
        share = done.rejected / looked_at if looked_at else 0.0
        if share <= self.config.max_reject_fraction:
            return ""
        lake = shlex.quote(self.config.lake)
        kept = f"The {done.ready} good ones are in version {version.number}; see" if done.ready else "See"
        return (
            f"{done.rejected} of {looked_at} new videos ({share:.0%}) were rejected; max_reject_fraction allows "
            f"{self.config.max_reject_fraction:.0%}. {kept} the reasons with "
            f"`cineray lake query {lake} --filter \"state = 'rejected'\" --columns uri,reason,detail`"
        )


def _known(lake: Lake, journal: Journal) -> KnownPlaces:
    return KnownPlaces(itertools.chain(_head_places(lake), journal.tables(["key", "signature"])))


def _head_places(lake: Lake) -> Iterator[pa.Table]:
    head = lake.head()
    if head is not None and "places" in head.tables:
        for batch in lake.scan(head, "places", columns=["place_id", "signature"]):
            yield pa.table({"key": batch["place_id"], "signature": batch["signature"]})


def whoami() -> str:
    """The user's name, for the log."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"
