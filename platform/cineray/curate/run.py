"""`curate`: a lake and a job go in; a new version with clean clips comes out, and the reason for all that is left out.

    survey -> look at what is not known (here, or on Ray) -> cuts -> rules -> duplicates -> commit -> clear the cache

Killed at any moment it leaves the last version whole; run again it goes on where it was. A dry run stops before the
commit and keeps what it measured. The same job on the same lake changes nothing and makes no version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cineray.curate.cache import Cache
from cineray.curate.changes import Outcome
from cineray.curate.clip_table import clip_table
from cineray.curate.config import CurateEngine, CurateJob
from cineray.curate.copies import copies_of
from cineray.curate.curate_report import CurateReport, report_of
from cineray.curate.homes import homes_of
from cineray.curate.local import run_local
from cineray.curate.ray_curate import run_on_ray
from cineray.curate.rules import check_rules, reasons
from cineray.curate.videos import Listed, survey
from cineray.errors import Interrupted, LakeError, TooManyRejects
from cineray.lake import Changes, Lake, Version
from cineray.telemetry.typed import typed

FIRST_VIDEOS = 8
"""Of these the first that can be read says whether the rules can be asked."""
LOOKS = 3
"""A curation of the same lake that ends meanwhile clears parts that this one has not taken in yet: it looks again."""


@dataclass(slots=True)
class CurateProgress:
    """What a curation has done so far; whoever watches gets the same object each time."""

    done: int = 0
    total: int = 0
    stage: str = "looking"


def curate(
    job: CurateJob,
    engine: CurateEngine | None = None,
    *,
    author: str,
    dry_run: bool = False,
    on_progress: Callable[[CurateProgress], None] = lambda _: None,
    command: str = "",
    message: str = "",
) -> CurateReport:
    """Look at a lake's videos and make the version in which clips are cut and what the job's rules name is left out."""
    began = time.monotonic()
    lake = Lake.open(job.lake)
    head = lake.head()
    if head is None:
        raise LakeError(f"{lake.uri} has no version to curate; `cineray ingest SOURCE --lake {lake.uri}` makes one")
    with lake.writing() as held:
        run = _Run(job, engine or CurateEngine(), lake, head, on_progress)
        run.measure()
        outcome, version = run.outcome(head), head
        if not dry_run:
            told = {"author": author, "command": command or typed(), "message": message}
            version = run.commit(held.check, **told)
            outcome = run.made
            run.cache.clear(outcome.table.listed)
    return report_of(
        outcome,
        job=job,
        head=run.based_on,
        version=version,
        dry_run=dry_run,
        looked_at=run.progress.done,
        clips_before=run.clips_before(),
        waiting=run.waiting,
        seconds=time.monotonic() - began,
    )


def check_limit(report: CurateReport) -> None:
    """Raise where more was unreadable than the job allows; the version is made all the same."""
    if report.limit_exceeded:
        raise TooManyRejects(report.limit_exceeded)


class _Run:
    """One curation on its way: what it found out, and what it makes of that."""

    made: Outcome
    waiting = 0

    def __init__(
        self,
        job: CurateJob,
        engine: CurateEngine,
        lake: Lake,
        head: Version,
        on_progress: Callable[[CurateProgress], None],
    ) -> None:
        self.job, self.engine, self.lake, self.head, self.on_progress = job, engine, lake, head, on_progress
        self.progress, self.based_on = CurateProgress(), head
        self.cache = Cache(lake, head, job.keys(), job.vectors())

    def measure(self) -> None:
        """Look at every video of which something is not known; on Ray where they are many."""
        listed = survey(self.lake, self.head, self.job.filter)
        told: dict[str, Any] = {"lake": self.lake, "version": self.head, "job": self.job, "engine": self.engine}
        try:
            self._check_rules(listed, told)
            for _ in range(LOOKS):
                todo = list(self.cache.todo(listed))
                if not todo:
                    break
                self.progress.total = self.progress.done + len(todo)
                self.on_progress(self.progress)
                run_work = run_on_ray if self._is_large(len(todo)) else run_local
                run_work(iter(todo), **told, cache=self.cache, on_done=self._done)
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped; {self.progress.done} videos are finished and kept, run the same command to go on"
            ) from None

    def _check_rules(self, listed: Sequence[Listed], told: dict[str, Any]) -> None:
        """A misspelt rule is told after one video and not after all: the first that can be read has the columns."""
        self.progress.total = sum(1 for _ in self.cache.todo(listed))
        for one in listed[:FIRST_VIDEOS] if self.job.rules else ():
            if todo := list(self.cache.todo([one])):
                run_local(todo, **told, cache=self.cache, on_done=self._done)
            if self._is_settled(one) and self.cache.reject(one) is None:
                check_rules(clip_table(self.lake, self.head, [one], self.cache, self.job), self.job)
                break

    def outcome(self, head: Version) -> Outcome:
        """What the job makes of a head's videos; those that came meanwhile are the next run's."""
        every = survey(self.lake, head, self.job.filter)
        listed = [one for one in every if self._is_settled(one)]
        self.waiting = len(every) - len(listed)
        table = clip_table(self.lake, head, listed, self.cache, self.job)
        found = reasons(table, self.job, self.cache)
        copies, duplicate = copies_of(table, found, self.job)
        homes = homes_of(self.lake, head, listed, copies.sets)
        self.based_on = head
        self.made = Outcome(
            table=table, reasons=[*found, *duplicate], homes=homes, cache=self.cache, copies=copies.by_video
        )
        return self.made

    def commit(self, check_lease: Callable[[], None], **provenance: str) -> Version:
        """The outcome as the next version; the head where nothing changes."""
        self.progress.stage = "committing"
        self.on_progress(self.progress)

        def prepare(head: Version | None) -> Changes:
            assert head is not None  # `curate` has found one, and versions do not go away
            check_lease()  # whoever slept through it may have lost its cache to gc
            made = self.made if head.number == self.based_on.number else self.outcome(head)
            return made.changes(self.lake, head)

        processing: dict[str, Any] = {"kind": "curate", **self.job.model_dump(mode="json")}
        return self.lake.commit(prepare, source=self.lake.uri, processing=processing, **provenance)

    def clips_before(self) -> int:
        """How many clips the videos had."""
        ours = pa.array([one.video_id for one in self.made.table.listed], pa.string())
        batches = self.lake.scan(self.based_on, "clips", ["video_id"])
        return sum(pc.sum(pc.is_in(batch["video_id"], value_set=ours)).as_py() or 0 for batch in batches)

    def _is_settled(self, one: Listed) -> bool:
        return self.cache.reject(one) is not None or not any(True for _ in self.cache.todo([one]))

    def _is_large(self, videos: int) -> bool:
        if self.engine.engine != "auto":
            return self.engine.engine == "ray"
        return bool(self.engine.address) or videos > self.engine.local_limit

    def _done(self, videos: int) -> None:
        self.progress.done += videos
        self.on_progress(self.progress)
