"""What came of some work, as counts that add up: rows go in, a `Summary` comes out; it travels as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from cineray.ingest import staged

SUMMARISED = (
    *("outcome", "name", "bytes_read", "media.num_frames", "media.remuxed_uri", "media.reason", "media.detail"),
    "place.uri",
)
"""The columns of a journal's part that a summary needs."""
REJECTS_NAMED = 10_000
"""A summary names this many rejects; the version names all of them."""


@dataclass(slots=True)
class Summary:
    """Counts of finished work."""

    ready: int = 0
    unchanged: int = 0
    rejected: int = 0
    remuxed: int = 0
    bytes_read: int = 0
    frames: int = 0
    rejects: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[staged.Row]) -> Summary:
        """Count these rows."""
        made = cls()
        for row in rows:
            made.bytes_read += row.get("bytes_read") or 0
            if row["outcome"] == staged.UNCHANGED:
                made.unchanged += 1
            elif row["outcome"] == staged.READY:
                made.ready += 1
                made.frames += row["media"]["num_frames"]
                made.remuxed += row["media"]["remuxed_uri"] is not None
            else:
                made.rejected += 1
                made.rejects.append(_named(row))
        return made

    def add(self, other: Summary) -> None:
        """Add another's counts to these."""
        for name in ("ready", "unchanged", "rejected", "remuxed", "bytes_read", "frames"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.rejects += other.rejects[: max(0, REJECTS_NAMED - len(self.rejects))]

    @property
    def done(self) -> int:
        """How many videos are settled, one way or another."""
        return self.ready + self.unchanged + self.rejected

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a Ray task's result."""
        return asdict(self)


def _named(row: staged.Row) -> dict[str, str]:
    media = row["media"]
    place = row.get("place")
    return {
        "name": row["name"],
        "uri": (place or {}).get("uri") or row["name"],
        "reason": media["reason"],
        "detail": media["detail"] or "",
    }
