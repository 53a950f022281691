"""The same clips made in two ways: two open plans go in; pairs of clips come out, and what is between the two.

From the first recipe to the second, one thing is changed at a time, so that each is seen by itself:

    a          A's frames   A's picture   A's bytes and decoder
    decode     A's frames   A's picture   B's bytes and decoder      the same instants: pixels must be the same
    resize     A's frames   B's picture   A's bytes and decoder      the same instants: pixels, where sizes allow it
    sampling   B's frames   A's picture   A's bytes and decoder      the same picture: times
    b          B's frames   B's picture   B's bytes and decoder

Whatever a recipe leaves to chance is drawn alike on both sides. A clip is the same by its id; where the two lakes share
none (one holds the videos as they came, the other made them smaller), by the name of its video and where it begins.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from cineray.decode import decode_visit
from cineray.errors import UsageError
from cineray.feed import LakeCatalog, Supply
from cineray.lake import sql_in
from cineray.plan import BucketSpec, Catalog, CatalogClip, Recipe, RowSet
from cineray.plan.clips import ClipMaker
from cineray.plan.order import Visit
from cineray.records import ClipSpec, IndexedVideo, Reject

Reals = npt.NDArray[np.float64]

FACTORS = ("decode", "resize", "sampling")
WAYS = ("a", *FACTORS, "b")
_LOOKED_AT = 8
"""Times as many clips of A are looked at as are wanted: some have no partner in B."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One clip as one way shows it: its real frames, without padding."""

    spec: ClipSpec
    frames_THWC: npt.NDArray[np.uint8]
    asked_T: Reals
    """The instants asked for, in seconds since the video's first frame."""
    shown_T: Reals
    """When the frames that are shown instead begin."""
    numbers_T: npt.NDArray[np.int64]
    """Their numbers in the video."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One clip, all ways."""

    name: str
    ways: Mapping[str, Shown]
    """Of `WAYS`; a factor that the recipes agree in is left out."""


@dataclass(slots=True)
class Exported:
    """What became of the clips that both recipes were asked for."""

    pairs: list[Pair] = field(default_factory=list)
    factors: tuple[str, ...] = ()
    """In which of the three the recipes differ at all."""
    by_name: bool = False
    """The lakes share no clips: they were matched by their videos' names."""
    without_partner: list[str] = field(default_factory=list)
    """Clips of A whose row is not in B's data."""
    not_drawn: list[str] = field(default_factory=list)
    """Clips of A whose row is in B's data, but that B's recipe leaves out: too short for it."""
    rejected: list[Reject] = field(default_factory=list)
    """Clips that one way could not decode; the name says which way."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One clip row of one side, seen as a catalog whose every number is this row: draws are keyed by the number, so
    both sides are asked for the same one."""

    supply: Supply
    dataset: int
    number: int

    def clip(self, number: int) -> CatalogClip:  # noqa: ARG002
        """The row."""
        return self.supply.catalogs[self.dataset].clip(self.number)

    def video(self, number: int) -> IndexedVideo:  # noqa: ARG002
        """Its video."""
        return self.supply.catalogs[self.dataset].video(self.number)

    @property
    def bucket(self) -> BucketSpec | None:
        """The shape that the side's recipe gives it; None where it may not be drawn."""
        eligible = self.supply.plan.eligible[self.dataset]
        for bucket, groups in zip(self.supply.plan.recipe.shapes, eligible.buckets, strict=True):
            if any(_holds(group.rows, self.number) for group in groups):
                return bucket
        return None


def export_pairs(a: Supply, b: Supply, clips: int, *, seed: int) -> Exported:
    """So many clips of A's plan, in its order, each of another video, made in all ways."""
    out = Exported(factors=tuple(factor for factor in FACTORS if _differs(factor, a, b)))
    rows_a = list(_rows(a, clips * _LOOKED_AT))
    partners = _partners(rows_a, b, out)
    for row_a in rows_a:
        if len(out.pairs) == clips:
            break
        name = row_a.clip(0).clip_id
        row_b = partners.get(name)
        if row_b is None:
            out.without_partner.append(name)
        elif row_b.bucket is None:
            out.not_drawn.append(name)
        else:
            _add(out, name, row_a, row_b, seed)
    if not out.pairs:
        raise UsageError(
            f"the two recipes share no clip that both can show: of {len(rows_a)} clips of the first, "
            f"{len(out.without_partner)} are not in the second's data, {len(out.not_drawn)} are too short for its "
            f"recipe, {len(out.rejected)} could not be decoded; name recipes over the same videos"
        )
    return out


def _add(out: Exported, name: str, row_a: _Row, row_b: _Row, seed: int) -> None:
    """Make one clip in all ways; one that cannot be decoded in some way is no pair."""
    ways: dict[str, Shown] = {}
    for way in ("a", *out.factors, "b"):
        made = _made(way, row_a, row_b, seed)
        if isinstance(made, Reject):
            out.rejected.append(replace(made, name=f"{name} ({way})"))
            return
        ways[way] = made
    out.pairs.append(Pair(name, ways))


def _made(way: str, row_a: _Row, row_b: _Row, seed: int) -> Shown | Reject:
    sampled = row_b if way in ("sampling", "b") else row_a
    cut = row_b if way in ("resize", "b") else row_a
    read = row_b if way in ("decode", "b") else row_a
    time, picture = sampled.bucket, cut.bucket
    assert time is not None
    assert picture is not None
    bucket = BucketSpec(frames=time.frames, height=picture.height, width=picture.width)
    told = {"sampling": sampled.supply.plan.recipe.sampling, "frame": cut.supply.plan.recipe.frame}
    recipe = row_a.supply.plan.recipe.model_copy(update=told)
    return _shown(read, _spec(read, recipe, bucket, seed, number=row_a.number))


def _spec(row: _Row, recipe: Recipe, bucket: BucketSpec, seed: int, *, number: int) -> ClipSpec:
    """The clip of a row, with the draws of clip `number`."""
    visit = Visit(dataset=0, clip_number=number, window=0, epoch=0)
    return ClipMaker([cast(Catalog, row)], recipe, seed).make(visit, 0, bucket)


def _shown(row: _Row, spec: ClipSpec) -> Shown | Reject:
    video, place = row.supply.catalogs[row.dataset].located(row.number)
    [clip] = decode_visit(video, place, [spec], options=row.supply.decode)
    if isinstance(clip, Reject):
        return clip
    real_T = np.array(spec.frame_is_real)
    numbers_T = np.array(spec.frame_numbers, dtype=np.int64)[real_T]
    asked_T = np.array(spec.frame_pts, dtype=np.int64)[real_T] - video.frames.start_pts
    shown_T = video.frames.pts[numbers_T] - video.frames.start_pts
    tick = video.time_base.numerator / video.time_base.denominator
    return Shown(spec, clip.frames_THWC[real_T], asked_T * tick, shown_T * tick, numbers_T)


# ---- which clips, and their partners ---------------------------------------------------------------------------------


def _differs(factor: str, a: Supply, b: Supply) -> bool:
    """Do the recipes say another thing of it? Data that is not the same may have other bytes."""
    one, other = a.plan.recipe, b.plan.recipe
    if factor == "sampling":
        frames = [[bucket.frames for bucket in recipe.shapes] for recipe in (one, other)]
        return one.sampling != other.sampling or frames[0] != frames[1]
    if factor == "resize":
        sizes = [[bucket.shape[1:] for bucket in recipe.shapes] for recipe in (one, other)]
        return one.frame != other.frame or sizes[0] != sizes[1]
    data = [[catalog.fingerprint for catalog in supply.catalogs] for supply in (a, b)]
    lakes = [[dataset.lake for dataset in recipe.datasets] for recipe in (one, other)]
    return a.decode.identity != b.decode.identity or data[0] != data[1] or lakes[0] != lakes[1]


def _rows(supply: Supply, most: int) -> Iterator[_Row]:
    """Rows of a plan in its order, each of another video."""
    seen: set[tuple[int, str]] = set()
    looked = 0
    for step in range(supply.plan.steps_per_epoch):
        for spec in supply.plan.batch(step):
            looked += 1
            if (spec.dataset, spec.video_id) not in seen:
                seen.add((spec.dataset, spec.video_id))
                yield _Row(supply, spec.dataset, spec.clip_number)
        if len(seen) >= most or looked >= most * supply.plan.recipe.clips_per_visit:
            return


def _partners(rows: Sequence[_Row], b: Supply, out: Exported) -> dict[str, _Row]:
    """By A's clip id: the row of the same clip in B."""
    ids = [row.clip(0).clip_id for row in rows]
    found = {clip_id: row for clip_id in ids if (row := _by_id(b, clip_id)) is not None}
    if not found:
        found = _by_video_name(rows, b)
        out.by_name = bool(found)
    return found


def _by_id(b: Supply, clip_id: str) -> _Row | None:
    """Catalogs are in the order of their clips' ids."""
    for dataset, catalog in enumerate(b.catalogs):
        ids = cast(LakeCatalog, catalog).columns.ids
        at = bisect_left(range(len(catalog)), clip_id, key=ids.__getitem__)
        if at < len(catalog) and ids[at] == clip_id:
            return _Row(b, dataset, at)
    return None


def _by_video_name(rows: Sequence[_Row], b: Supply) -> dict[str, _Row]:
    """The clip of the video of the same name that begins nearest to where A's begins."""
    found: dict[str, _Row] = {}
    for row in rows:
        name = _video_name(row)
        for dataset in range(len(b.catalogs)) if name else ():
            partner = _nearest(b, dataset, name, _start_seconds(row))
            if partner is not None:
                found[row.clip(0).clip_id] = partner
                break
    return found


def _video_name(row: _Row) -> str:
    """What the lake's source calls the row's video; empty where it calls it nothing."""
    catalog = cast(LakeCatalog, row.supply.catalogs[row.dataset])
    where = sql_in("video_id", [row.video(0).video_id])
    names = catalog.lake.read(catalog.version, "places", columns=["name"], filter=where)["name"].to_pylist()
    return min((name for name in names if name), default="")


def _nearest(supply: Supply, dataset: int, name: str, start_seconds: float) -> _Row | None:
    catalog = cast(LakeCatalog, supply.catalogs[dataset])
    places = catalog.lake.read(catalog.version, "places", columns=["video_id"], filter=sql_in("name", [name]))
    videos = sorted(set(places["video_id"].to_pylist()))
    clips = catalog.lake.read(catalog.version, "clips", columns=["clip_id"], filter=sql_in("video_id", videos))
    rows = [row for clip_id in clips["clip_id"].to_pylist() if (row := _by_id(supply, clip_id)) is not None]
    return min(rows, key=lambda row: abs(_start_seconds(row) - start_seconds), default=None)


def _start_seconds(row: _Row) -> float:
    video = row.video(0)
    return float((row.clip(0).start_pts - video.frames.start_pts) * video.time_base)


def _holds(rows: RowSet, number: int) -> bool:
    """Is this row one of them?"""
    if rows.listed is not None:
        at = int(np.searchsorted(rows.listed, number))
        return at < len(rows.listed) and int(rows.listed[at]) == number
    return len(rows) > 0 and 0 <= number - rows.start < rows.step * len(rows) and (number - rows.start) % rows.step == 0
