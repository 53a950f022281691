"""Which videos train, validate and test. Groups (one source recording each) go in, split names come out.

Promises: a group's split depends on the rule's salt and the group's own name, never on what else is in the lake; a
group that has a split keeps it whatever the rule becomes; and no version is made in which one group, or one video,
lies in two splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import blake3

from cineray.errors import SplitLeakage, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_MAX_NAMED = 20


def _default_fractions() -> dict[str, float]:
    return {"train": 0.9, "validation": 0.05, "test": 0.05}


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """Fractions of the groups, in order, and a salt. The order is part of the rule: it cuts [0, 1) into spans."""

    fractions: Mapping[str, float] = field(default_factory=_default_fractions)
    salt: str = "cineray"
    group_by: str = "video"
    """What makes a group, in the words of whoever cuts clips (ingest: `video`, `column:NAME`, `path:REGEX`)."""

    def __post_init__(self) -> None:
        wrong = [name for name in self.fractions if not _NAME.fullmatch(name)]
        if wrong:
            raise UsageError(
                f"split names {wrong!r} are not usable: wanted letters, digits, _ or -, beginning with a letter"
            )
        parts = list(self.fractions.values())
        if not parts or min(parts) < 0 or abs(sum(parts) - 1) > 1e-6:
            raise UsageError(
                f"split fractions {dict(self.fractions)} sum to {sum(parts):g}; they must be >= 0 and sum to 1"
            )
        object.__setattr__(self, "fractions", dict(self.fractions))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SplitRule) and self.to_json() == other.to_json()  # dicts know no order

    def __hash__(self) -> int:
        return hash(repr(self.to_json()))

    def assign(self, group_id: str) -> str:
        """The split of a group: where a hash of salt and group falls in [0, 1)."""
        text = f"{self.salt}\0{group_id}".encode("utf-8", "surrogatepass")
        point = int.from_bytes(blake3.blake3(text).digest()[:6], "big") / (1 << 48)
        edge = 0.0
        for name, fraction in self.fractions.items():
            edge += fraction
            if point < edge:
                return name
        return next(name for name, fraction in reversed(list(self.fractions.items())) if fraction > 0)

    def to_json(self) -> dict[str, Any]:
        """As the manifest holds it: pairs, because JSON objects have no order that one may rely on.

        Grouping by video goes unsaid, as it did before there was a choice: so the fingerprints of versions that were
        made then are what this code counts.
        """
        told = {"fractions": [[name, fraction] for name, fraction in self.fractions.items()], "salt": self.salt}
        return told if self.group_by == "video" else told | {"group_by": self.group_by}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SplitRule:
        """The inverse of `to_json`."""
        fractions = {name: float(fraction) for name, fraction in data["fractions"]}
        return cls(fractions=fractions, salt=data["salt"], group_by=data.get("group_by", "video"))


def assign_splits(
    rows: Iterable[Mapping[str, Any]], *, rule: SplitRule, existing: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Clip rows with every split filled in: a row's own split, else its group's (`existing`), else what the rule says.

    One row after another: where some rows of a group bring a split and others none, put it into `existing` first.
    """
    for row in rows:
        group = row["group_id"]
        yield {**row, "split": row.get("split") or existing.get(group) or rule.assign(group)}


def check_leakage(clips: Iterable[pa.RecordBatch]) -> None:
    """Refuse clips in which a group or a video lies in two splits. Batches need video_id, group_id and split."""
    import pyarrow as pa

    groups, videos = [], []
    for batch in clips:
        table = pa.Table.from_batches([batch]).filter(pa.compute.is_valid(batch["split"]))
        groups.append(_distinct(table, "group_id"))
        videos.append(_distinct(table, "video_id"))
        if len(groups) > 256:  # merged now and then, so that memory follows distinct groups and not clips
            groups, videos = (
                [_distinct(pa.concat_tables(groups), "group_id")],
                [_distinct(pa.concat_tables(videos), "video_id")],
            )
    _refuse("group", groups, "group_id")
    _refuse("video", videos, "video_id")


def _distinct(table: pa.Table, key: str) -> pa.Table:
    return table.group_by([key, "split"]).aggregate([])


def _refuse(noun: str, parts: list[pa.Table], key: str) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not parts:
        return
    pairs = _distinct(pa.concat_tables(parts), key)
    pairs = pairs.filter(pc.is_valid(pairs[key]))
    counts = pairs.group_by(key).aggregate([("split", "count")])
    leaking = sorted(counts.filter(pc.greater(counts["split_count"], 1))[key].to_pylist())
    if not leaking:
        return
    shown = []
    for name in leaking[:_MAX_NAMED]:
        splits = sorted(pairs.filter(pc.equal(pairs[key], name))["split"].to_pylist())
        shown.append(f"{name!r} in {' and '.join(splits)}")
    more = f", and {len(leaking) - _MAX_NAMED} more" if len(leaking) > _MAX_NAMED else ""
    raise SplitLeakage(
        f"{len(leaking)} {noun}{'s' * (len(leaking) > 1)} would lie in more than one split: {', '.join(shown)}{more}. "
        f"Nothing was written; give each {noun} one split, or choose a coarser group"
    )
