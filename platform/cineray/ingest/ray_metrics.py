"""An ingest's figures for Prometheus, through Ray: the summaries of finished chunks go in; counters come out on the
metrics port of the driver's node: `ray_cineray_ingest_videos_total{lake, outcome}` and, for those that were rejected,
`ray_cineray_ingest_rejects_total{lake, reason}`. `..._reject_limit{lake}` is the share that was asked for.

Counted by the driver as chunks come back, so a chunk that is done twice counts once. Ray forgets them with the driver.
"""

from __future__ import annotations

from collections import Counter as Tally

from ray.util.metrics import Counter, Gauge

from cineray.ingest.summary import Summary


class IngestFigures:
    """The counters of one ingest on Ray."""

    def __init__(self, lake: str, *, max_reject_fraction: float) -> None:
        self._videos = Counter("cineray_ingest_videos", "videos that are settled, by outcome", ("lake", "outcome"))
        self._rejects = Counter("cineray_ingest_rejects", "videos that were rejected, by reason", ("lake", "reason"))
        for counter in (self._videos, self._rejects):
            counter.set_default_tags({"lake": lake})
        self._limit = Gauge("cineray_ingest_reject_limit", "the share of rejects that is borne", ("lake",))
        self._limit.set_default_tags({"lake": lake})
        self._borne = max_reject_fraction

    def add(self, done: Summary) -> None:
        """A chunk is finished."""
        self._limit.set(self._borne)
        for outcome in ("ready", "unchanged", "rejected"):
            if videos := getattr(done, outcome):
                self._videos.inc(videos, tags={"outcome": outcome})
        for reason, videos in Tally(reject["reason"] for reject in done.rejects).items():
            self._rejects.inc(videos, tags={"reason": reason})
