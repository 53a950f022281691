"""What a curation did, or in a dry run would do: an outcome goes in, facts for people and scripts leave."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cineray.curate.changes import Outcome
from cineray.curate.config import CurateJob
from cineray.curate.homes import moved, rule_of
from cineray.curate.rules import UNREADABLE, RuleCount, any_of, counts
from cineray.lake import Version

UNREADABLE_NAMED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CurateReport:
    """The facts, and the outcome that they are of."""

    version: Version
    """The version that it left: a dry run's, and one that changed nothing, is the head."""
    based_on: Version
    """The head that was curated."""
    dry_run: bool
    videos: int
    looked_at: int
    """Videos that were decoded; of the others all was known."""
    unreadable: int
    unreadable_named: tuple[dict[str, str], ...]
    clips_before: int
    clips: int
    left_out: int
    seconds_of_clips: float
    seconds_kept: float
    rules: tuple[RuleCount, ...]
    duplicate_sets: int
    moved: Mapping[str, tuple[str, str]]
    """Videos whose split changes, because a copy of them lies in another: from, to."""
    seconds: float
    outcome: Outcome
    waiting: int = 0
    """Videos that came meanwhile, or of which another run cleared what was found: the next run takes them in."""
    limit_exceeded: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The facts that `--json` prints; scripts depend on the names."""
        same = ("dry_run", "videos", "looked_at", "clips_before", "clips", "left_out", "duplicate_sets", "waiting")
        return {
            "version": self.version.number,
            "fingerprint": self.version.fingerprint,
            **{name: getattr(self, name) for name in same},
            "hours": round(self.seconds_of_clips / 3600, 4),
            "hours_kept": round(self.seconds_kept / 3600, 4),
            "rules": [asdict(rule) for rule in self.rules],
            "unreadable": list(self.unreadable_named),
            "moved": {video: list(splits) for video, splits in self.moved.items()},
            "seconds": round(self.seconds, 3),
        }


def report_of(
    outcome: Outcome,
    *,
    job: CurateJob,
    head: Version,
    version: Version,
    dry_run: bool,
    looked_at: int,
    clips_before: int,
    waiting: int,
    seconds: float,
) -> CurateReport:
    """Count what an outcome holds."""
    table = outcome.table
    gone = any_of(outcome.reasons, len(table.drafts))
    lengths = np.asarray(table.rows["clip_seconds"].to_numpy(), np.float64) if table.drafts else np.zeros(0)
    rejects = [reject for one in table.listed if (reject := outcome.cache.reject(one)) is not None]
    named = tuple({"video": one.video_id, "reason": one.reason, "detail": one.detail} for one in rejects)
    return CurateReport(
        version=version,
        based_on=head,
        dry_run=dry_run,
        videos=len(table.listed),
        looked_at=looked_at,
        unreadable=len(rejects),
        unreadable_named=named[:UNREADABLE_NAMED],
        clips_before=clips_before,
        clips=int((~gone).sum()),
        left_out=int(gone.sum()),
        seconds_of_clips=float(lengths.sum()),
        seconds_kept=float(lengths[~gone].sum()),
        rules=tuple(counts(table, outcome.reasons)),
        duplicate_sets=len({told["group"] for told in outcome.copies.values()}),
        moved=moved(outcome.homes, rule_of(head)),
        seconds=seconds,
        outcome=outcome,
        waiting=waiting,
        limit_exceeded=_over_the_limit(job, len(rejects), len(table.listed)),
    )


def _over_the_limit(job: CurateJob, unreadable: int, videos: int) -> str:
    share = unreadable / videos if videos else 0.0
    if share <= job.max_unreadable_fraction:
        return ""
    return (
        f"{unreadable} of {videos} videos ({share:.0%}) could not be looked at; max_unreadable_fraction allows "
        f"{job.max_unreadable_fraction:.0%}. See the reasons with `cineray lake query {shlex.quote(job.lake)} --from "
        f"layers/curation --filter \"value LIKE '%{UNREADABLE}%'\"`"
    )
