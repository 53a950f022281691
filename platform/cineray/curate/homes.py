"""Which group and split each video belongs to. A lake's head and sets of duplicates go in; each video's home leaves.

    head's clips           the group and split that a video has
    layers/curation        the same of a video that an earlier curation left out whole
    neither                a group of its own

Duplicates share a group, and with them all that their groups held before: so no copy of a training video is in the
test set. A united group takes the name that sorts first, and the split that most of its clips have.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cineray.curate.videos import Listed
from cineray.lake import Lake, SplitRule, Version, unpack_text

CURATION_LAYER = "layers/curation"
AUTHOR = "curate"


@dataclass(frozen=True, slots=True)
class Home:
    """Where a video belongs. A split of None: none was given yet."""

    group_id: str
    split: str | None
    weight: float = 1.0


@dataclass(slots=True)
class Homes:
    """Homes by video, and how many clips of each split a group has."""

    by_video: dict[str, Home] = field(default_factory=dict)
    splits: dict[str, Counter[str]] = field(default_factory=dict)
    united: dict[str, str] = field(default_factory=dict)
    """Groups that became another: their old name, and the new one."""

    def group_of(self, video_id: str) -> str:
        """The group that a video belongs to, once duplicates are united."""
        home = self.by_video.get(video_id)
        group = home.group_id if home else video_id
        return self.united.get(group, group)

    def home(self, video_id: str, rule: SplitRule) -> Home:
        """The group, split and weight for the clips of one video."""
        group = self.group_of(video_id)
        held = self.by_video.get(video_id)
        return Home(group, self.split_of(group, rule), held.weight if held else 1.0)

    def split_of(self, group: str, rule: SplitRule) -> str:
        """What most clips of the group have, of equals the name that sorts first; else what the lake's rule says."""
        held = self.splits.get(group)
        if not held:
            return rule.assign(group)
        return min(held, key=lambda split: (-held[split], split))


def homes_of(lake: Lake, head: Version, listed: Iterable[Listed], duplicates: Iterable[Sequence[str]]) -> Homes:
    """The homes that a version's videos have, with duplicates united."""
    found = Homes()
    for batch in lake.scan(head, "clips", ["video_id", "group_id", "split", "weight"]):
        for row in batch.to_pylist():
            group = unpack_text(row["group_id"] or row["video_id"])
            _settle(found, row["video_id"], Home(group, row["split"], row["weight"]))
    if CURATION_LAYER in head.tables:
        for batch in lake.scan(head, CURATION_LAYER, ["video_id", "value"], f"author = '{AUTHOR}'"):
            for row in batch.to_pylist():
                told = json.loads(row["value"])
                if row["video_id"] not in found.by_video:
                    _settle(found, row["video_id"], Home(told["group_id"], told["split"], told.get("weight", 1.0)))
    for one in listed:
        found.by_video.setdefault(one.video_id, Home(one.video_id, None))
    _unite(found, duplicates)
    return found


def _settle(found: Homes, video_id: str, home: Home) -> None:
    found.by_video.setdefault(video_id, home)
    if home.split is not None:
        found.splits.setdefault(home.group_id, Counter())[home.split] += 1


def _unite(found: Homes, duplicates: Iterable[Sequence[str]]) -> None:
    parents: dict[str, str] = {}

    def root(group: str) -> str:
        while parents.get(group, group) != group:
            parents[group] = parents.get(parents[group], parents[group])
            group = parents[group]
        return group

    for members in duplicates:
        roots = sorted({root(found.group_of(video_id)) for video_id in members})
        parents.update(dict.fromkeys(roots, roots[0]))
    found.united = {group: root(group) for group in parents if root(group) != group}
    for old, new in found.united.items():
        found.splits.setdefault(new, Counter()).update(found.splits.pop(old, Counter()))


def rule_of(head: Version) -> SplitRule:
    """The lake's own rule, which says where a group goes that has no split yet."""
    return head.split_rule or SplitRule()


def moved(found: Homes, rule: SplitRule) -> Mapping[str, tuple[str, str]]:
    """Videos whose clips change their split because a copy of them lies in another: from, to."""
    changes = {}
    for video_id, home in found.by_video.items():
        if home.split is not None:
            split = found.home(video_id, rule).split
            if split != home.split and split is not None:
                changes[video_id] = (home.split, split)
    return changes
