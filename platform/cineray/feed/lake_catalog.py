"""A lake's version as the plan's catalogs: a recipe's datasets go in; clips, their videos and their places come out.

Numbers are the clips' places in the order of their ids: they depend on what the version holds, never on how its
tables are laid out or where the lake lies, and neither does the fingerprint. About 50 bytes a clip stay in memory, in
each process that makes batches, and more while the catalog is opened: ten million clips take 0.5 GB of every decode
worker, so a lake of more is drawn from by a filter, or with fewer workers on a node. Frame tables and places are
fetched by row, many at once when the plan says what comes next, and the last few thousand are kept. A catalog is made
again in other processes from its few words (it is pickled as these), and works after a fork.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from types import SimpleNamespace
from typing import Any, cast

import blake3
import numpy as np

from cineray.errors import PlaceError, PlaceMissing
from cineray.feed.lake_columns import CAPTIONS_LAYER, SCENES_LAYER, ClipColumns, read_columns, take_dicts
from cineray.lake import Lake, Version, place_from_row, unpack_text, video_from_row
from cineray.lake.measured import QUALITY_LAYER, measures_named, names_in
from cineray.plan import CatalogClip, ClipFacts, DatasetSpec, Eligible, Recipe, Rule, display_size, facts_of
from cineray.records import IndexedVideo, Place
from cineray.storage import is_remote, join_uri, place_stat

_KEPT_BYTES = 64 << 20
_PIECE = 1 << 16
_LOOKED_INTO = 256
"""Frame tables held at once while a mode looks into all of them."""
_UNREAD = frozenset({"detail", "columns", "label", "uri", "offset", "length", "reason", "remux_reason"})


@dataclass(slots=True)
class _Row:
    """What was fetched of one video."""

    video: IndexedVideo
    captions: tuple[str, ...]
    candidates: tuple[tuple[Place, str], ...]
    """Where it may lie, and the version tag that it has there; the best first."""
    chosen: tuple[Place, str] | None = None

    @property
    def nbytes(self) -> int:
        return 4096 + 38 * self.video.num_frames + sum(map(len, self.captions))


class LakeCatalog:
    """The clips of one split of one version of a lake, as far as a filter lets them through."""

    def __init__(
        self, lake: str, version: str | int, *, split: str | None, filter: str | None = None, scenes: bool = False
    ) -> None:
        self.lake = Lake.open(lake)
        self.version: Version = self.lake.resolve(version)
        self.split, self.filter, self.scenes = split, filter, scenes
        self.columns: ClipColumns = read_columns(self.lake, self.version, split=split, where=filter, scenes=scenes)
        self._media, self._places = self.lake.table("media"), self.lake.table("places")
        self._captions = self.lake.table(CAPTIONS_LAYER)
        self._wanted = [name for name in self._media.schema.names if name not in _UNREAD]
        self._rows: OrderedDict[int, _Row] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _open, (self.lake.uri, self.version.number, self.split, self.filter, self.scenes)

    def __len__(self) -> int:
        return len(self.columns)

    @cached_property
    def fingerprint(self) -> str:
        """Of the version's media and clips, of the layers that are looked at, of the split and the filter."""
        looked_at = ["media", "clips", CAPTIONS_LAYER, *([SCENES_LAYER] if self.scenes else [])]
        if measures_named(self.lake, self.version, names_in(self.filter or "")):
            looked_at.append(QUALITY_LAYER)
        tables = {name: self.version.tables[name].fingerprint for name in looked_at if name in self.version.tables}
        told = {"tables": tables, "split": self.split, "filter": self.filter}
        return blake3.blake3(json.dumps(told, sort_keys=True).encode()).hexdigest()

    # ---- what the plan asks ------------------------------------------------------------------------------------------

    def clip(self, number: int) -> CatalogClip:
        """One clip row."""
        columns, row = self.columns, self._row(number)
        said = columns.captions[number]
        return CatalogClip(
            clip_id=columns.ids[number],
            video_id=row.video.video_id,
            start_pts=int(columns.start_pts[number]),
            end_pts=int(columns.end_pts[number]),
            label=columns.labels[int(columns.label_at[number])],
            captions=row.captions + (self._layer_captions(said) if said else ()),
            cuts_pts=tuple(columns.cuts[int(columns.media_at[number])]),
        )

    def video(self, number: int) -> IndexedVideo:
        """The video of one clip row."""
        return self._row(number).video

    def prefetch(self, numbers: Sequence[int]) -> None:
        """Read what is not held yet, at once."""
        with self._lock:
            wanted = dict.fromkeys(int(self.columns.media_at[number]) for number in numbers)
            self._fetch([at for at in wanted if at not in self._rows])

    def eligible(self, rule: Rule) -> Eligible:
        """Which clips may be drawn; columns tell where a clip is a whole video and the mode does not look inside."""
        return rule.sort(self._facts(rule))

    # ---- where the bytes are -----------------------------------------------------------------------------------------

    def located(self, number: int, *, again: bool = False) -> tuple[IndexedVideo, Place]:
        """The video of a clip row, with the version tag that its bytes have at the place that is returned.

        A remuxed object goes before the original. Of several places the first is taken that has the indexed bytes;
        whether a single one still has them, whoever opens it will see. `again` chooses anew. Raises PlaceMissing for a
        video without a place.
        """
        with self._lock:
            row = self._row(number)
        if row.chosen is None or again:
            row.chosen = _first_good(row.candidates, row.video.video_id)
        place, tag = row.chosen
        return dataclasses.replace(row.video, version_tag=tag), place

    # ---- rows --------------------------------------------------------------------------------------------------------

    def _row(self, number: int) -> _Row:
        at = int(self.columns.media_at[number])
        with self._lock:
            if at not in self._rows:
                self._fetch([at])
            self._rows.move_to_end(at)
            return self._rows[at]

    def _fetch(self, positions: list[int]) -> None:
        state = self.version.tables["media"]
        found = take_dicts(self._media, state.version, positions, self._wanted)
        candidates = self._candidates(positions, found)
        for at, values in zip(positions, found, strict=True):
            captions = tuple(unpack_text(text) for text in cast("list[str]", values["captions"] or []))
            row = _Row(video_from_row(values | {"reason": None}), captions, candidates[at])
            self._rows[at] = row
            self._held_bytes += row.nbytes
        while self._held_bytes > _KEPT_BYTES and len(self._rows) > len(positions):
            self._held_bytes -= self._rows.popitem(last=False)[1].nbytes

    def _candidates(
        self, positions: list[int], found: list[dict[str, Any]]
    ) -> dict[int, tuple[tuple[Place, str], ...]]:
        """A remuxed object, or all places of each video: near ones first, then in the order of their uris."""
        by_video: dict[int, tuple[tuple[Place, str], ...]] = {}
        rows: dict[int, list[int]] = {}
        for at, values in zip(positions, found, strict=True):
            if values["remuxed_uri"]:
                # Written once under the video's id, and part of the lake: a copied lake gives it a new tag.
                uri = unpack_text(values["remuxed_uri"])
                whole = uri if uri.startswith("/") or "://" in uri else join_uri(self.lake.uri, *uri.split("/"))
                by_video[at] = ((Place(uri=whole), ""),)
            else:
                rows[at] = self.columns.places[at]
        numbers = [number for some in rows.values() for number in some]
        state = self.version.tables.get("places")
        columns = ["uri", "offset", "length", "version_tag"]
        taken = dict(
            zip(numbers, take_dicts(self._places, state.version if state else 0, numbers, columns), strict=True)
        )
        for at, some in rows.items():
            places = [(place_from_row(taken[n]), str(taken[n]["version_tag"] or "")) for n in some]
            by_video[at] = tuple(sorted(places, key=lambda pair: (is_remote(pair[0].uri), pair[0].uri, pair[0].offset)))
        return by_video

    def _layer_captions(self, rows: list[int]) -> tuple[str, ...]:
        state = self.version.tables[CAPTIONS_LAYER]
        found = take_dicts(self._captions, state.version, rows, ["row_id", "value"])
        ordered = sorted(found, key=lambda row: str(row["row_id"]))
        return tuple(unpack_text(str(row["value"])) for row in ordered)

    # ---- facts of all rows -------------------------------------------------------------------------------------------

    def _facts(self, rule: Rule) -> Iterator[ClipFacts]:
        media = self._media_facts()
        for start in range(0, len(self), _PIECE):
            numbers = np.arange(start, min(start + _PIECE, len(self)))
            at = self.columns.media_at[numbers].astype(np.int64)
            facts = self._facts_of_columns(numbers, {name: column[at] for name, column in media.items()}, rule)
            inside = self._not_whole(numbers, media["start_pts"][at], media["end_pts"][at])
            if rule.sampler.looks_inside:
                inside = np.arange(len(numbers))
            yield self._looked_into(facts, numbers, inside, rule)

    def _media_facts(self) -> dict[str, Any]:
        """The columns of all media rows that facts are made of, by row."""
        names = ["num_frames", "start_pts", "end_pts", "time_base_num", "time_base_den"]
        shape = ["width", "height", "rotation_degrees", "sample_aspect_ratio_num", "sample_aspect_ratio_den"]
        parts: dict[str, list[Any]] = {name: [] for name in (*names, "display_width", "display_height", "captioned")}
        state = self.version.tables.get("media")
        batches = self._media.scan(state.version, columns=[*names, *shape, "captions"]) if state else iter(())
        for batch in batches:
            for name in names:
                parts[name].append(batch[name].fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64))
            sizes = _display_sizes([batch[name].fill_null(0).to_pylist() for name in shape])
            parts["display_width"].append(sizes[:, 0])
            parts["display_height"].append(sizes[:, 1])
            counted = batch["captions"].value_lengths().fill_null(0)
            parts["captioned"].append(counted.to_numpy(zero_copy_only=False) > 0)
        empty = [np.zeros(0, np.int64)]
        return {name: np.concatenate(columns or empty) for name, columns in parts.items()}

    def _facts_of_columns(self, numbers: Any, media: dict[str, Any], rule: Rule) -> ClipFacts:
        columns, length = self.columns, media["end_pts"] - media["start_pts"]
        labels = None
        if rule.balance == "label":
            labels = np.array(columns.labels, dtype=object)[columns.label_at[numbers]]
        return ClipFacts(
            room_frames=media["num_frames"],
            room_ticks=length,
            span_ticks=length,
            time_base_num=np.maximum(media["time_base_num"], 1),
            time_base_den=np.maximum(media["time_base_den"], 1),
            display_width=media["display_width"],
            display_height=media["display_height"],
            label=labels,
            captioned=media["captioned"] | columns.captions.has(numbers),
        )

    def _not_whole(self, numbers: Any, start_pts: Any, end_pts: Any) -> Any:
        """The clips that are a part of their video."""
        columns = self.columns
        return np.flatnonzero((columns.start_pts[numbers] > start_pts) | (columns.end_pts[numbers] < end_pts))

    def _looked_into(self, facts: ClipFacts, numbers: Any, inside: Any, rule: Rule) -> ClipFacts:
        """The same facts, those of some clips taken from their frame tables."""
        for start in range(0, len(inside), _LOOKED_INTO):
            here = inside[start : start + _LOOKED_INTO]
            some = numbers[here].tolist()
            self.prefetch(some)
            seen = facts_of(rule.sampler, ((self.clip(number), self.video(number)) for number in some))
            for name in ("room_frames", "room_ticks", "span_ticks"):
                getattr(facts, name)[here] = getattr(seen, name)
        return facts


def _open(lake: str, version: int, split: str | None, filter: str | None, scenes: bool) -> LakeCatalog:
    return LakeCatalog(lake, version, split=split, filter=filter, scenes=scenes)


def _first_good(candidates: Sequence[tuple[Place, str]], video_id: str) -> tuple[Place, str]:
    if not candidates:
        raise PlaceMissing(f"video {video_id} has no place in this version of the lake; ingest its source again")
    for place, tag in candidates if len(candidates) > 1 else ():
        try:
            if not tag or place_stat(place)[1] == tag:
                return place, tag
        except PlaceError:
            continue  # the next place may have it; if none does, decoding says why the first has not
    return candidates[0]


def _display_sizes(columns: list[list[int]]) -> Any:
    """Upright width and height of each video; there are few different ones."""
    known: dict[tuple[int, ...], tuple[int, int]] = {}
    sizes = []
    for shape in zip(*columns, strict=True):
        if shape not in known:
            width, height, rotation, num, den = shape
            seen = SimpleNamespace(width=width, height=height, rotation_degrees=rotation)
            seen.sample_aspect_ratio = Fraction(num, den or 1)
            known[shape] = display_size(cast("IndexedVideo", seen))
        sizes.append(known[shape])
    return np.array(sizes, dtype=np.int64).reshape(-1, 2)


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with every version reference (`latest`, a name) replaced by the number that it means now, and every
    lake by its whole address: other processes, Ray's among them, work in other folders."""
    pinned = []
    for spec in recipe.datasets:
        lake = Lake.open(spec.lake)
        told = {"lake": lake.uri, "version": str(lake.resolve(spec.version).number)}
        pinned.append(spec.model_copy(update=told))
    return recipe.model_copy(update={"datasets": tuple(pinned)})


def open_catalogs(recipe: Recipe) -> list[LakeCatalog]:
    """One catalog per dataset of the recipe."""
    return [_opened(spec, scenes=recipe.sampling.mode == "scene") for spec in recipe.datasets]


def _opened(spec: DatasetSpec, *, scenes: bool) -> LakeCatalog:
    return LakeCatalog(spec.lake, spec.version, split=spec.split, filter=spec.filter, scenes=scenes)
