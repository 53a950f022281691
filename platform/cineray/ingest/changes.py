"""From finished work to the next version: the journal's rows and a head go in, the rows to add and to remove come out.

    new video                            + media  + place  + clip  + layer entries
    known video, new place                        + place
    place with other bytes or facts      its old place leaves, and its old video with it unless it lies elsewhere too

It is a function of the journal and the head alone, so losing a race for the next version costs one more call of it.
Nothing depends on the order in which work was finished: of several places of one video, the first by URI describes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cineray.errors import SplitLeakage, UsageError
from cineray.ingest import staged
from cineray.ingest.config import SplitConfig
from cineray.ingest.journal import Journal
from cineray.ingest.sidecar_facts import AUTHOR
from cineray.ingest.survey import Survey, mask_of, survey
from cineray.lake import LAYER, MEDIA, PLACES, Changes, SplitRule, assign_splits, batches_of, clip_row, sql_in, sql_text

if TYPE_CHECKING:
    from cineray.lake import Lake, Version

_MAX_NAMED = 20
_SURVEYED = ["outcome", "key", "signature", "checked_at", "name", "given_split", "given_group", "media", "place"]


def split_rule(asked: SplitConfig, head: Version | None) -> SplitRule:
    """The rule that divides: the lake's own, and in a new lake what was asked for. Another is taken on purpose only."""
    given = {name: getattr(asked, name) for name in ("fractions", "salt", "group_by")}
    given = {name: value for name, value in given.items() if value is not None}
    held = head.split_rule if head else None
    rule = dataclasses.replace(held or SplitRule(), **given)
    if held is None or asked.change or rule == held:
        return rule
    # As text, because the order of the fractions is part of the rule.
    pairs = [(name, repr(getattr(held, name)), repr(getattr(rule, name))) for name in given]
    told = "; ".join(f"{name} is {has} and {wants} was asked for" for name, has, wants in pairs if has != wants)
    raise UsageError(
        f"the lake divides its videos by another rule: {told}. Leave the option out to go on with the lake's rule, or "
        "let the new one hold for new groups with --change-split-rule"
    )


class Counts(NamedTuple):
    """What a proposal changes, in videos and places."""

    added: int
    removed: int
    further_places: int


class Proposal:
    """What one ingest would change in one head."""

    def __init__(self, lake: Lake, head: Version | None, journal: Journal, splits: SplitConfig, source: str) -> None:
        self.lake, self.head, self.journal, self.source = lake, head, journal, source
        self.rule = split_rule(splits, head)
        self.found: Survey = survey(
            journal.tables(_SURVEYED),
            lake=lake,
            head=head,
            group_by=self.rule.group_by,
            keep_given=splits.given == "keep",
            source=source,
        )
        self.given_splits = self._given_splits()

    def counts(self) -> Counts:
        """What a person wants to know of it."""
        ready = pc.equal(self.found.work["outcome"], staged.READY)
        new = self.found.primary.filter(pc.equal(self.found.primary["outcome"], staged.READY))
        added = set(new["video_id"].to_pylist()) - self.found.refreshed
        known = self.found.refreshed | self.found.relocated.keys()
        places = self.found.work.filter(ready)["video_id"].to_pylist()
        removed = sum(not video.startswith("rejected-") for video in self.found.leaving)
        return Counts(len(added), removed, sum(video not in known for video in places) - len(added))

    def changes(self) -> Changes:
        """Rows to add and to remove; nothing at all where the head has everything."""
        rule = None if self.head and self.head.split_rule == self.rule else self.rule
        if not self.found.work.num_rows:
            return Changes(split_rule=rule)
        layers = sorted(self._new_layers())
        add: dict[str, Iterator[pa.RecordBatch]] = {
            "media": self._media(),
            "places": self._taken("place", self.found.work.filter(pc.field("has_place")), PLACES),
            "clips": self._clips(),
        }
        add |= {f"layers/{name}": self._layer(name) for name in layers}
        return Changes(add=add, remove=self._removals(), split_rule=rule)

    # -- media and places: rows of the journal, taken as they are

    def _media(self) -> Iterator[pa.RecordBatch]:
        yield from self._taken("media", self.found.primary, MEDIA)
        if self.found.relocated:
            rows = self._head_rows("media", "video_id", self.found.relocated)
            yield from batches_of("media", ({**row, **self.found.relocated[row["video_id"]]} for row in rows))

    def _taken(self, column: str, chosen: pa.Table, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for table, mask in self._journal_rows(chosen, [column]):
            rows = table[column].combine_chunks().filter(mask)
            for batch in pa.Table.from_arrays(rows.flatten(), schema=schema).to_batches():
                if batch.num_rows:
                    yield batch

    def _journal_rows(self, chosen: pa.Table, columns: list[str]) -> Iterator[tuple[pa.Table, pa.Array]]:
        at = 0
        for table in self.journal.tables(columns):
            yield table, pa.array(mask_of(chosen, at, table.num_rows))
            at += table.num_rows

    # -- clips: one per new video, the whole of it, until curation cuts it

    def _clips(self) -> Iterator[pa.RecordBatch]:
        ready = self.found.primary.filter(pc.equal(self.found.primary["outcome"], staged.READY))
        groups = dict(zip(ready["video_id"].to_pylist(), ready["group_id"].to_pylist(), strict=True))
        existing = self._head_splits("group_id", set(groups.values()))
        existing |= {groups[video]: split for video, split in self.given_splits.items() if video in groups}
        refreshed = self.found.refreshed
        rows = (row for row in self._new_clip_rows(ready, groups) if row["video_id"] not in refreshed)
        yield from batches_of("clips", assign_splits(rows, rule=self.rule, existing=existing))
        if refreshed:
            yield from self._relabelled_clips()

    def _new_clip_rows(self, ready: pa.Table, groups: dict[str, str]) -> Iterator[dict[str, Any]]:
        for table, mask in self._journal_rows(ready, ["media"]):
            media = table["media"].combine_chunks().filter(mask)
            names = ("video_id", "start_pts", "end_pts", "label")
            for video_id, start, end, label in zip(*(media.field(n).to_pylist() for n in names), strict=True):
                row = clip_row(
                    video_id=video_id,
                    start_pts=start,
                    end_pts=end,
                    split=self.given_splits.get(video_id),
                    group_id=groups[video_id],
                    label=label,
                )
                yield row

    def _relabelled_clips(self) -> Iterator[pa.RecordBatch]:
        """The clips of videos whose facts changed keep their span, split and group, and take the new label."""
        labels: dict[str, str | None] = {}
        for table, mask in self._journal_rows(self.found.primary, ["media"]):
            media = table["media"].combine_chunks().filter(mask)
            labels |= dict(zip(media.field("video_id").to_pylist(), media.field("label").to_pylist(), strict=True))
        rows = self._head_rows("clips", "video_id", self.found.refreshed)
        yield from batches_of("clips", ({**row, "label": labels.get(row["video_id"])} for row in rows))

    def _head_splits(self, key: str, wanted: set[str]) -> dict[str, str]:
        """The splits that these groups or videos have already, and keep."""
        if self.head is None or "clips" not in self.head.tables or not wanted:
            return {}
        ids = pa.array(sorted(wanted), pa.string())
        held: dict[str, str | None] = {}
        for batch in self.lake.scan(self.head, "clips", columns=[key, "split"]):
            ours = pa.Table.from_batches([batch]).filter(pc.is_in(batch[key], value_set=ids))
            held.update(zip(ours[key].to_pylist(), ours["split"].to_pylist(), strict=True))
        return {found: split for found, split in held.items() if split}

    def _given_splits(self) -> dict[str, str]:
        """The split that the source states for each video; one video in two splits is refused by name."""
        given = self.found.work.filter(pc.is_valid(self.found.work["given_split"]))
        splits = self._head_splits("video_id", set(given["video_id"].to_pylist()))
        names = dict.fromkeys(splits, "a video of the lake")
        leaks = []
        for video, split, name in zip(
            *(given[c].to_pylist() for c in ("video_id", "given_split", "name")), strict=True
        ):
            if splits.setdefault(video, split) != split:
                leaks.append(self._leak(video, name, split, names[video], splits[video]))
            names.setdefault(video, repr(name))
        if leaks:
            raise SplitLeakage(
                f"{len(leaks)} times a video would lie in two splits: {'; '.join(leaks[:_MAX_NAMED])}. Nothing was "
                "committed; remove one copy of each, or let the lake divide them with --ignore-given-splits"
            )
        return splits

    def _leak(self, video: str, name: str, split: str, other: str, held: str) -> str:
        if video in self.found.refreshed:
            return f"{name!r} was in {held} and is now said to be in {split}, but a video keeps its split"
        return f"{name!r} in {split} has the same bytes as {other} in {held}"

    # -- layers

    def _new_layers(self) -> set[str]:
        names: set[str] = set()
        for table, mask in self._journal_rows(self.found.primary, ["layers"]):
            entries = table["layers"].combine_chunks().filter(mask).flatten()
            if len(entries):
                names |= set(pc.unique(entries.field("layer")).to_pylist())
        return names

    def _layer(self, name: str) -> Iterator[pa.RecordBatch]:
        for table, mask in self._journal_rows(self.found.primary, ["layers"]):
            entries = table["layers"].combine_chunks().filter(mask).flatten()
            ours = entries.filter(pc.equal(entries.field("layer"), name)) if len(entries) else entries
            if len(ours):
                arrays = [ours.field(column) for column in LAYER.names]
                yield from pa.Table.from_arrays(arrays, schema=LAYER).to_batches()

    # -- what leaves

    def _removals(self) -> dict[str, str]:
        if self.head is None:
            return {}
        keys = self.found.work["key"].to_pylist()
        remove = {"places": sql_in("place_id", keys)} if self._touches_known_places(keys) else {}
        videos = self.found.leaving | self.found.refreshed
        if videos | self.found.relocated.keys():
            remove["media"] = sql_in("video_id", sorted(videos | self.found.relocated.keys()))
        if videos:
            remove["clips"] = sql_in("video_id", sorted(videos))
            ingested = f"author = {sql_text(AUTHOR)}"
            for layer in self.head.layers():
                theirs = sql_in("video_id", sorted(self.found.refreshed))
                left = sql_in("video_id", sorted(self.found.leaving))
                remove[f"layers/{layer}"] = f"({left}) OR (({theirs}) AND {ingested})"
        return remove

    def _touches_known_places(self, keys: list[str]) -> bool:
        assert self.head is not None
        if "places" not in self.head.tables:
            return False
        ours = pa.array(keys, pa.string())
        batches = self.lake.scan(self.head, "places", columns=["place_id"])
        return any(pc.any(pc.is_in(batch["place_id"], value_set=ours)).as_py() for batch in batches)

    def _head_rows(self, table: str, column: str, ids: Any) -> list[dict[str, Any]]:
        assert self.head is not None
        rows: list[dict[str, Any]] = self.lake.read(self.head, table, filter=sql_in(column, sorted(ids))).to_pylist()
        return rows
