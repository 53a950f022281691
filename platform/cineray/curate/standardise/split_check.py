"""Does anything lie in two splits? A version in; what does, and which splits, out.

A lake refuses versions in which a group or a video is in two splits. This looks further: at sets of duplicates that
curation found, at videos made of one source, and at equal pictures under two names; and it names all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cineray.curate.standardise.moved_layers import DUPLICATES
from cineray.curate.standardise.next_version import SOURCE_TIMES
from cineray.lake import Lake, Version, unpack_text


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitProblem:
    """Something that lies in more than one split."""

    kind: str
    """`group`, `video`, `duplicates`, or `source`."""
    name: str
    splits: tuple[str, ...]
    video_ids: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.video_ids[:5]) + (f" and {len(self.video_ids) - 5} more" * (len(self.video_ids) > 5))
        return f"{self.kind} {self.name} lies in {' and '.join(self.splits)}: {shown}"


def check_splits(lake: Lake, version: Version, *, duplicates: Mapping[str, str] | None = None) -> list[SplitProblem]:
    """Everything that lies in two splits. `duplicates`: video id -> the name of its set, beside those in the lake."""
    members: dict[tuple[str, str], set[tuple[str, str]]] = {}
    sets = {**dict(_duplicate_sets(lake, version)), **(duplicates or {})}
    sources = dict(_sources(lake, version))
    for video_id, group, split in _clips(lake, version):
        told = [("video", video_id), ("group", group), ("duplicates", sets.get(video_id))]
        told.append(("source", sources.get(video_id, video_id)))
        for kind, name in told:
            if name is not None:
                members.setdefault((kind, name), set()).add((split, video_id))
    problems = []
    for (kind, name), held in sorted(members.items()):
        splits = sorted({split for split, _ in held})
        if len(splits) > 1:
            videos = tuple(sorted({video_id for _, video_id in held}))
            problems.append(SplitProblem(kind=kind, name=name, splits=tuple(splits), video_ids=videos))
    return problems


def _clips(lake: Lake, version: Version) -> Iterator[tuple[str, str | None, str]]:
    if "clips" in version.tables:
        for batch in lake.scan(version, "clips", ["video_id", "group_id", "split"], "split IS NOT NULL"):
            for row in batch.to_pylist():
                group = None if row["group_id"] is None else unpack_text(row["group_id"])
                yield row["video_id"], group, row["split"]


def _duplicate_sets(lake: Lake, version: Version) -> Iterator[tuple[str, str]]:
    if DUPLICATES in version.tables:
        for batch in lake.scan(version, DUPLICATES, ["video_id", "value"]):
            for row in batch.to_pylist():
                yield row["video_id"], str(json.loads(row["value"]).get("group"))


def _sources(lake: Lake, version: Version) -> Iterator[tuple[str, str]]:
    if SOURCE_TIMES in version.tables:
        for batch in lake.scan(version, SOURCE_TIMES, ["video_id", "value"]):
            for row in batch.to_pylist():
                yield row["video_id"], json.loads(row["value"])["video_id"]
