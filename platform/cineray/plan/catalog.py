"""One dataset's clips by number: what the plan asks of whoever holds them, and a catalog in memory.

A catalog answers in random access and keeps order: the same number is the same clip for as long as its fingerprint is
the same. Filters and splits are its business, they are done when the plan comes. It is asked once which of its rows may
be drawn (`eligible`, answered with the rule's own `sort`), and then for single clips and their videos.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import blake3

from cineray.plan.eligible import Eligible, Rule
from cineray.plan.facts import CatalogClip, facts_of
from cineray.records import IndexedVideo


@runtime_checkable
class Catalog(Protocol):
    """One dataset's clips, by number."""

    @property
    def fingerprint(self) -> str:
        """Names the ordered clips and all that is known of them: another fingerprint, another plan."""

    def __len__(self) -> int:
        """How many clip rows there are."""

    def clip(self, number: int) -> CatalogClip:
        """One clip row."""

    def video(self, number: int) -> IndexedVideo:
        """The video of one clip row."""

    def eligible(self, rule: Rule) -> Eligible:
        """Which rows may be drawn, for which bucket: `rule.sort(facts of all rows)`, or the same known otherwise."""

    def prefetch(self, numbers: Sequence[int]) -> None:
        """A hint: these rows are asked for next. A catalog on disk reads them at once."""


class MemoryCatalog:
    """A list of (clip row, video) as a catalog."""

    def __init__(self, rows: Sequence[tuple[CatalogClip, IndexedVideo]]) -> None:
        self._rows = tuple(rows)
        digest = blake3.blake3()
        for clip, video in self._rows:
            said = (clip.clip_id, clip.video_id, clip.start_pts, clip.end_pts, clip.label, clip.captions, clip.cuts_pts)
            digest.update(json.dumps([*said, video.content_hash, video.num_frames]).encode() + b"\n")
        self._fingerprint = digest.hexdigest()

    @property
    def fingerprint(self) -> str:
        """Of the rows, in order."""
        return self._fingerprint

    def __len__(self) -> int:
        return len(self._rows)

    def clip(self, number: int) -> CatalogClip:
        """One clip row."""
        return self._rows[number][0]

    def video(self, number: int) -> IndexedVideo:
        """The video of one clip row."""
        return self._rows[number][1]

    def eligible(self, rule: Rule) -> Eligible:
        """Every row, looked at."""
        return rule.sort([facts_of(rule.sampler, self._rows)])

    def prefetch(self, numbers: Sequence[int]) -> None:
        """Nothing to do: all of it is here."""
