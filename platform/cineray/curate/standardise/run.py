"""`standardise`: a version of a lake in; shards, and the next version whose media lie in them, out.

    survey -> leave out what is finished -> encode (in this process, or on Ray) -> staging -> shards -> commit -> clear

Killed at any moment it leaves the last version whole, and run again it goes on: encoded videos are in the staging,
finished shards are known by their names. Two at once share the work, and one version comes of it. A video that fails is
a row with a reason. What the settings have been applied to already stays as it is, so standardising twice makes no
version; and so does a video without a clip.
"""

from __future__ import annotations

import dataclasses
import shlex
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from cineray import storage
from cineray.curate.standardise.config import StandardiseConfig
from cineray.curate.standardise.encoder import Progress
from cineray.curate.standardise.gather import SAME_PICTURES, Gathered, gathered
from cineray.curate.standardise.local import Engine, Local
from cineray.curate.standardise.next_version import SOURCE_TIMES, NextVersion
from cineray.curate.standardise.staging import TRIES, Staging
from cineray.curate.standardise.times import SourceTimes
from cineray.curate.videos import Listed, survey
from cineray.errors import Interrupted, LakeError, PlaceMissing, TooManyRejects
from cineray.lake import Changes, Lake, Version
from cineray.lake.leases import live
from cineray.records import Place
from cineray.telemetry.typed import typed

OnProgress = Callable[[Progress, int], None]
"""Called with what was done so far, and how many videos there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardiseReport:
    """What standardising did. `version` is the head that it left, which is the old one where nothing was to do."""

    version: Version
    videos: int
    """Standardised now."""
    unchanged: int
    """Had these settings already."""
    without_clips: int
    """Of which no clip is drawn: left as they are."""
    resumed: int
    """Of the videos, those that a killed run had finished."""
    rejected: dict[str, int]
    """How many videos were left out, by reason."""
    shards: tuple[str, ...]
    bytes_before: int
    bytes_after: int
    psnr_db: float | None
    """Of brightness, the mean over videos: what the encoder lost."""
    seconds: float
    limit_exceeded: str = field(default="")

    def to_dict(self) -> dict[str, Any]:
        """The facts that `--json` prints; scripts depend on the names."""
        told = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        told |= {"version": self.version.number, "fingerprint": self.version.fingerprint, "shards": list(self.shards)}
        return told | {"seconds": round(self.seconds, 3)}


def standardise(
    config: StandardiseConfig,
    *,
    engine: Literal["local", "ray"] = "local",
    workers: int = 0,
    address: str = "",
    on_progress: OnProgress = lambda _done, _total: None,
    author: str = "cineray",
    command: str = "",
    message: str = "",
) -> StandardiseReport:
    """Encode every ready video of a version, write shards, and make the next version of them."""
    began = time.monotonic()
    lake = Lake.open(config.lake)
    with lake.writing() as held:
        told = {"author": author, "command": command or typed(), "message": message}
        try:
            run, found, version = _landed(
                lambda: _Run(config, lake, on_progress),
                lambda run: run.engine(engine, workers, address),
                lambda run, found: run.commit(found, held.check, told),
            )
        except KeyboardInterrupt:
            raise Interrupted("stopped; encoded videos are kept, run the same command to go on") from None
        ready = set(run.ids(version, "media", "state = 'ready'"))
        run.staging.clear(keep=ready)  # raw ones that came meanwhile, which another run may be at
    landed = sum(one.moved.video_id in ready for one in found.outcome.ready.values())
    if found.outcome.ready and not landed:
        raise LakeError(
            f"version {version.number} of {lake.uri} was made of these videos meanwhile, with other settings, and "
            f"nothing of this run is in it. To encode them anew, standardise version {version.number}; "
            "`cineray lake gc` finds the shards that nothing names"
        )
    return run.report(version, found, landed, time.monotonic() - began)


def _landed(
    begin: Callable[[], _Run], engine_of: Callable[[_Run], Engine], commit: Callable[[_Run, Gathered], Version]
) -> tuple[_Run, Gathered, Version]:
    """Everything encoded, in shards, and in a version. Another run with the same settings shares the staging, and may
    have made its version meanwhile and cleared it: then what is left to do is looked for anew."""
    while True:
        run = begin()
        with engine_of(run) as engine:
            run.encode(engine)
            try:
                found = run.gathered(engine)
                return run, found, commit(run, found)
            except PlaceMissing:
                run.staging.drop_halves()
                if {one.video_id for one in run.todo} <= run.staging.finished():
                    raise  # all of it is there: something else is missing


def check_limit(report: StandardiseReport) -> None:
    """Raise where more was left out than the config allows; the version is made all the same."""
    if report.limit_exceeded:
        raise TooManyRejects(report.limit_exceeded)


class _Run:
    """One standardising on its way."""

    def __init__(self, config: StandardiseConfig, lake: Lake, on_progress: OnProgress) -> None:
        self.config, self.lake, self.on_progress = config, lake, on_progress
        self.base, self.head = lake.resolve(config.version), lake.resolve("latest")
        self.staging = Staging(lake.uri, config.work_key())
        self.staging.forget_machine_rejects()
        listed, wanted = survey(lake, self.base, None), self._with_clips()
        drawn = [one for one in listed if one.video_id in wanted]
        had = self._standardised_already() | self._gone()
        self.todo: list[Listed] = [one for one in drawn if one.video_id not in had]
        self.unchanged, self.without_clips = len(drawn) - len(self.todo), len(listed) - len(drawn)
        finished = self.staging.finished()
        self.left = [one for one in self.todo if one.video_id not in finished]
        if sum(lease.version is None for lease in live(lake.uri)) > 1:
            self.left.reverse()  # another writer, maybe with these settings, began at the front: meet in the middle

    def _with_clips(self) -> set[str]:
        """A video of which curation left no clip is not worth encoding: it stays as it is, and where it is."""
        return set(self.ids(self.base, "clips"))

    def _gone(self) -> set[str]:
        """What the head has no more: standardised since, or removed. The next version would know nothing of it."""
        if self.base.number == self.head.number:
            return set()
        return set(self.ids(self.base, "media")).difference(self.ids(self.head, "media"))

    def ids(self, version: Version, table: str, where: str | None = None) -> Iterator[str]:
        """The videos of which a version's table has a row."""
        if table in version.tables:
            for batch in self.lake.scan(version, table, ["video_id"], where):
                yield from batch["video_id"].to_pylist()

    def _standardised_already(self) -> set[str]:
        wanted, had = self.config.encoding.digest(), set()
        if SOURCE_TIMES in self.base.tables:
            for batch in self.lake.scan(self.base, SOURCE_TIMES, ["video_id", "value"]):
                for row in batch.to_pylist():
                    if SourceTimes.from_json(row["value"]).encoding == wanted:
                        had.add(row["video_id"])
        return had

    def engine(self, engine: str, workers: int, address: str) -> Engine:
        """What is to do the work."""
        if engine != "ray":
            return Local(self.config, self.lake, self.base, workers=workers)
        from cineray.curate.standardise.ray_standardise import OnRay

        tries = storage.join_uri(self.staging.folder, TRIES, uuid.uuid4().hex[:12])
        return OnRay(self.config, self.base, tries_uri=tries, workers=workers, address=address)

    def encode(self, engine: Engine) -> None:
        """Encode what is not finished."""
        done = Progress(videos=len(self.todo) - len(self.left))
        self.on_progress(done, len(self.todo))
        for one in engine.encode(self.left):
            done = done + one
            self.on_progress(done, len(self.todo))

    def gathered(self, engine: Engine) -> Gathered:
        """All of it in shards."""
        size = self.config.shard_bytes
        return gathered(self.lake, self.base, self.staging, self.todo, shard_bytes=size, pack=engine.pack)

    def commit(self, found: Gathered, check_lease: Callable[[], None], told: dict[str, str]) -> Version:
        """The next version; the head where nothing was to do."""

        def prepare(head: Version | None) -> Changes:
            check_lease()  # whoever slept through it may have lost its staging to gc
            for uri in found.shards:
                storage.place_stat(Place(uri=uri))  # one that was there already, a gc may have been about to take
            assert head is not None  # `resolve` has found a version, and versions do not go away
            return NextVersion(self.lake, head, found.outcome, self.staging.videos).changes()

        source = f"{self.lake.uri} version {self.base.number}"
        processing = {"kind": "standardise", **self.config.model_dump(mode="json")}
        return self.lake.commit(prepare, source=source, processing=processing, **told)

    def report(self, version: Version, found: Gathered, landed: int, seconds: float) -> StandardiseReport:
        """What all this came to."""
        ready, rejects = found.outcome.ready, found.outcome.rejects
        reasons = Counter(reject.reason for reject in rejects.values())
        failed = len(rejects) - reasons[SAME_PICTURES]  # a copy that is left out is no failure
        limit, over = self.config.max_reject_fraction, ""
        if self.todo and failed / len(self.todo) > limit:
            query = "--filter \"state = 'rejected'\" --columns video_id,reason,detail"
            over = (
                f"{failed} of {len(self.todo)} videos were left out ({dict(reasons)}); max_reject_fraction "
                f"allows {limit:.0%}. The good ones are in version {version.number}; see the reasons with "
                f"`cineray lake query {shlex.quote(self.config.lake)} {query}`"
            )
        return StandardiseReport(
            version=version,
            videos=landed,
            unchanged=self.unchanged,
            without_clips=self.without_clips,
            resumed=len(self.todo) - len(self.left),
            rejected=dict(reasons),
            shards=found.shards,
            bytes_before=found.bytes_before,
            bytes_after=sum(one.bytes_after for one in ready.values()),
            psnr_db=sum(one.psnr_db for one in ready.values()) / len(ready) if ready else None,
            seconds=seconds,
            limit_exceeded=over,
        )
