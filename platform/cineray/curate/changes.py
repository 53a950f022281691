"""From verdicts to the next version: a head and what was found go in; the rows to add and to remove come out.

    clips             those of the videos that were looked at are made anew: a clip for each draft that stays
    layers/quality    one row per video and stage: its columns as JSON, spans as [start_pts, end_pts, value]
    layers/embeddings one row per video and network that gives vectors
    layers/scenes     where scenes begin and end; the plan's mode `scene` reads it
    layers/duplicates one row per video that is in a set of duplicates: which set, and which copy stays
    layers/curation   one row per draft that is left out: the rule, its figures, and the group and split it belongs to
    any other layer   rows that name a clip which leaves get its span, see `carried.py`

Only what differs from the head is touched, so the same curation again changes nothing and makes no version. Rows of
other authors stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cineray.curate.cache import Cache
from cineray.curate.carried import carried
from cineray.curate.clip_table import SCENES_COLUMN, ClipTable
from cineray.curate.clips import Draft
from cineray.curate.homes import AUTHOR, CURATION_LAYER, Home, Homes, rule_of
from cineray.curate.rules import DUPLICATE, UNREADABLE, Reason, verdict
from cineray.curate.vectors import EMBEDDINGS_LAYER
from cineray.lake import Changes, Lake, Version, batches_of, clip_row, layer_row, pack_text, sql_in, unpack_text
from cineray.lake.measured import QUALITY_LAYER

SCENES_LAYER = "layers/scenes"
DUPLICATES_LAYER = "layers/duplicates"
OWN_LAYERS = frozenset({QUALITY_LAYER, EMBEDDINGS_LAYER, SCENES_LAYER, DUPLICATES_LAYER, CURATION_LAYER})
Row = dict[str, Any]
Held = tuple[dict[str, Row], Callable[[Row], bool]]
"""The rows that a table is to have, by their keys, and which of the head's rows they stand for."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a curation came to, before it is in a version."""

    table: ClipTable
    reasons: list[Reason]
    homes: Homes
    cache: Cache
    copies: Mapping[str, Row] = field(default_factory=dict)
    """By video: the set of duplicates that it is in (`group`, its first member), and which copy stays (`kept`)."""

    def changes(self, lake: Lake, head: Version) -> Changes:
        """Rows to add and to remove."""
        ours = {one.video_id for one in self.table.listed}
        clips, left_out = self._clips(head)
        left_out |= self._without_frames(head)
        clips |= self._regrouped(lake, head, ours)
        changes = _changes(lake, head, self._held(ours, clips, left_out))
        leave = {row["clip_id"]: row for row in _rows(lake, head, "clips") if _is_gone(row, ours, clips)}
        for layer, rows, stand_for in carried(lake, head, leave, own=OWN_LAYERS):
            changes = _with_layer(changes, layer, rows, stand_for)
        return changes

    def _held(self, ours: set[str], clips: dict[str, Row], left_out: dict[str, Row]) -> dict[str, Held]:
        """What each table is to hold of our videos."""
        stages = set(self.cache.keys)
        held: dict[str, Held] = {
            "clips": (clips, lambda row: row["video_id"] in ours or row["clip_id"] in clips),
            CURATION_LAYER: (left_out, lambda row: row["author"] == AUTHOR and row["video_id"] in ours),
        }
        for layer, names in ((QUALITY_LAYER, stages - self.cache.vectors), (EMBEDDINGS_LAYER, self.cache.vectors)):
            held[layer] = self._measured(names), partial(_is_measured, stages, ours)
        # Without their stage, what an earlier curation found of scenes and duplicates still holds.
        if "scenes" in stages:
            held[SCENES_LAYER] = (
                self._scenes(),
                lambda row: _is_of(row["author"], {"scenes"}) and row["video_id"] in ours,
            )
        if "signatures" in stages:
            held[DUPLICATES_LAYER] = (
                self._duplicates(),
                lambda row: _is_of(row["author"], {"signatures"}) and row["video_id"] in ours,
            )
        return held

    def _clips(self, head: Version) -> tuple[dict[str, Row], dict[str, Row]]:
        """Rows of clips by their ids, and rows of the curation layer by theirs."""
        clips, left_out = {}, {}
        rule = rule_of(head)
        labels = self.table.rows["label"].to_pylist()
        for number, draft in enumerate(self.table.drafts):
            home = self.homes.home(self.table.video_id(draft), rule)
            row = clip_row(
                video_id=self.table.video_id(draft),
                start_pts=draft.start_pts,
                end_pts=draft.end_pts,
                split=home.split,
                group_id=home.group_id,
                label=None if labels[number] is None else unpack_text(labels[number]),
                weight=home.weight,
            )
            why = verdict(self.table, self.reasons, number)
            if why is None:
                clips[row["clip_id"]] = row
            else:
                made = self._left_out(draft, row["clip_id"], home, why)
                left_out[made["row_id"]] = made
        return clips, left_out

    def _left_out(self, draft: Draft, clip_id: str, home: Home, why: Row) -> Row:
        """The row that says why a draft is no clip, and where it would belong."""
        video_id = self.table.video_id(draft)
        reject = self.cache.reject(self.table.listed[draft.video])
        detail = {"reason": reject.reason, "detail": reject.detail} if reject else {}
        copies = self.copies.get(video_id, {}) if DUPLICATE in (why["rule"], *why["also"]) else {}
        return layer_row(
            value=json.dumps(why | detail | dict(copies) | _belongs(home), sort_keys=True),
            author=AUTHOR,
            video_id=video_id,
            clip_id=clip_id,
            start_pts=draft.start_pts,
            end_pts=draft.end_pts,
            source=reject.said if reject else None,
        )

    def _without_frames(self, head: Version) -> dict[str, Row]:
        """Rows of videos that can have no clip, because the index knows no frame of them; their span is empty."""
        drafted = {draft.video for draft in self.table.drafts}
        rows = {}
        for number, one in enumerate(self.table.listed):
            reject = self.cache.reject(one)
            if number in drafted or reject is None:
                continue
            home = self.homes.home(one.video_id, rule_of(head))
            why = {"rule": UNREADABLE, "because": reject.detail, "also": [], "figures": {}, "reason": reject.reason}
            told = why | {"detail": reject.detail} | _belongs(home)
            row = layer_row(
                value=json.dumps(told, sort_keys=True), author=AUTHOR, video_id=one.video_id, start_pts=0, end_pts=0
            )
            rows[row["row_id"]] = row
        return rows

    def _regrouped(self, lake: Lake, head: Version, ours: set[str]) -> dict[str, Row]:
        """Clips of videos that were not looked at, but whose group became another's."""
        rows = {}
        rule = rule_of(head)
        for batch in lake.scan(head, "clips") if self.homes.united else ():
            for row in batch.to_pylist():
                if row["video_id"] in ours or unpack_text(row["group_id"] or "") not in self.homes.united:
                    continue
                home = self.homes.home(row["video_id"], rule)
                rows[row["clip_id"]] = row | {"group_id": pack_text(home.group_id), "split": home.split}
        return rows

    def _measured(self, names: Collection[str]) -> dict[str, Row]:
        rows = {}
        for one in self.table.listed:
            texts = self.cache.texts(one)
            for name, key in self.cache.keys.items():
                if name in names and key in texts:
                    row = layer_row(value=texts[key], author=key, video_id=one.video_id, source=one.said)
                    rows[row["row_id"]] = row
        return rows

    def _duplicates(self) -> dict[str, Row]:
        rows = {}
        for video_id, told in self.copies.items():
            row = layer_row(
                value=json.dumps(told, sort_keys=True), author=self.cache.keys["signatures"], video_id=video_id
            )
            rows[row["row_id"]] = row
        return rows

    def _scenes(self) -> dict[str, Row]:
        rows = {}
        for one in self.table.listed:
            for columns in self.cache.columns(one):
                scenes = columns.get(SCENES_COLUMN)
                for start, end, begins in scenes if isinstance(scenes, list) else ():
                    row = layer_row(
                        value=str(begins),
                        author=self.cache.keys["scenes"],
                        video_id=one.video_id,
                        start_pts=start,
                        end_pts=end,
                    )
                    rows[row["row_id"]] = row
        return rows


def _belongs(home: Home) -> Row:
    """Where a clip that is left out would belong, so that it comes back there."""
    return {"group_id": home.group_id, "split": home.split, "weight": home.weight}


def _is_gone(clip: Row, ours: Collection[str], clips: Collection[str]) -> bool:
    return clip["video_id"] in ours and clip["clip_id"] not in clips


def _with_layer(changes: Changes, layer: str, rows: list[Row], leave: list[str]) -> Changes:
    add = {**changes.add, **({layer: batches_of(layer, rows)} if rows else {})}
    return Changes(add=add, remove={**changes.remove, layer: sql_in("row_id", leave)})


def _is_measured(names: Collection[str], videos: Collection[str], row: Row) -> bool:
    """Whether a row says what one of these stages found in one of these videos."""
    return row["video_id"] in videos and _is_of(row["author"], names)


def _is_of(author: str | None, stages: Iterable[str]) -> bool:
    """Whether a stage, in any version and with any config, wrote a row."""
    name, sign, _ = (author or "").partition("@")
    return bool(sign) and name in set(stages)


def _changes(lake: Lake, head: Version, held: Mapping[str, Held]) -> Changes:
    add, remove = {}, {}
    for table, (wanted, is_ours) in held.items():
        rows, gone = _difference(lake, head, table, wanted, is_ours)
        if rows:
            add[table] = batches_of(table, rows)
        if gone:
            remove[table] = sql_in("clip_id" if table == "clips" else "row_id", gone)
    return Changes(add=add, remove=remove)


def _difference(
    lake: Lake, head: Version, table: str, wanted: dict[str, Row], is_ours: Callable[[Row], bool]
) -> tuple[list[Row], list[str]]:
    """Rows that the head lacks or has otherwise, and keys of those that must leave it."""
    key = "clip_id" if table == "clips" else "row_id"
    there: set[str] = set()
    gone: list[str] = []
    for row in _rows(lake, head, table):
        if not is_ours(row):
            continue
        # The id of a layer's row is made of all that it says.
        if row[key] in wanted and (table != "clips" or row == wanted[row[key]]):
            there.add(row[key])
        else:
            gone.append(row[key])
    return [row for row_key, row in wanted.items() if row_key not in there], sorted(gone)


def _rows(lake: Lake, head: Version, table: str) -> Iterator[Row]:
    if table in head.tables:
        for batch in lake.scan(head, table):
            yield from batch.to_pylist()
