"""Finished work made into shards: what is staged and what the lake says of each video in; where each lies now, out.

Two sources may come to the very same bytes (one recording in two containers). The first by its id stays, and the others
are left out as `same_pictures`: the same clip twice, maybe in two splits, is what standardising should end.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cineray import storage
from cineray.curate.standardise.config import StandardiseConfig
from cineray.curate.standardise.next_version import Outcome, Ready
from cineray.curate.standardise.packing import Item, Packed, Packing, with_work
from cineray.curate.standardise.shards import Lies, plan_shards
from cineray.curate.standardise.sidecars import Said, Shape, Shaping, said_of
from cineray.curate.standardise.staging import Staged, Staging
from cineray.curate.standardise.tar_file import Member, laid_out
from cineray.curate.standardise.times import Moved
from cineray.curate.videos import Listed, Video
from cineray.decode.geometry import upright_size
from cineray.lake import Lake, Version, unpack_text
from cineray.records import Reject

SAME_PICTURES = "same_pictures"
Pack = Callable[[Sequence[Packing], Shape], Iterable[Packed]]
"""Writes shards, in any order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All that standardising came to."""

    outcome: Outcome
    shards: tuple[str, ...]
    bytes_before: int
    """Of the videos that are ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """One encoded video, and what its way into the next version needs."""

    item: Item
    moved: Moved
    bytes_before: int
    bytes_after: int
    psnr_db: float
    worst_psnr_db: float

    def ready(self, lies: Lies) -> Ready:
        """With its place in a shard."""
        return Ready(
            lies=lies,
            moved=self.moved,
            bytes_before=self.bytes_before,
            bytes_after=self.bytes_after,
            psnr_db=self.psnr_db,
            worst_psnr_db=self.worst_psnr_db,
        )


def gathered(
    lake: Lake, version: Version, staging: Staging, todo: Sequence[Listed], *, shard_bytes: int, pack: Pack
) -> Gathered:
    """Let `pack` write the shards of what is staged."""
    told = dict(_splits(lake, version))
    taken: dict[str, _Taken] = {}
    rejects: dict[str, Reject] = {}
    first = {video_id: video_id for video_id in _ids(lake, version)}
    shaping = Shaping()
    for video, staged in with_work(lake, version, staging, todo):
        source_id = video.listed.video_id
        if staged.made is None:
            assert staged.reject is not None
            rejects[source_id] = staged.reject
        elif (other := first.setdefault(staged.made.video.video_id, source_id)) != source_id:
            detail = f"encoded, it has the very same bytes as video {other}, which stays; nothing is to be done"
            rejects[source_id] = Reject(name=source_id, stage="standardise", reason=SAME_PICTURES, detail=detail)
        else:
            split, group = told.get(source_id, (None, None))
            said = said_of(video, staged, {"split": split, "group": group})
            shaping.add(said)
            taken[source_id] = _taken(video, staged, said)
    parts = plan_shards((one.item for one in taken.values()), shard_bytes)
    lies, shards = dict[str, Lies](), list[str]()
    for packed in pack(parts, shaping.shape()):
        lies |= packed.lies
        shards.append(packed.uri)
    return Gathered(
        outcome=Outcome(
            ready={source_id: one.ready(lies[one.moved.video_id]) for source_id, one in taken.items()}, rejects=rejects
        ),
        shards=tuple(sorted(shards)),
        bytes_before=sum(one.bytes_before for one in taken.values()),
    )


def shards_uri(lake: Lake, config: StandardiseConfig) -> str:
    """Where the shards go."""
    return storage.normalise_uri(config.out) if config.out else storage.join_uri(lake.uri, "shards")


def _ids(lake: Lake, version: Version) -> Iterator[str]:
    """Also what was standardised before is there already."""
    for batch in lake.scan(version, "media", ["video_id"]):
        yield from batch["video_id"].to_pylist()


def _splits(lake: Lake, version: Version) -> Iterator[tuple[str, tuple[str | None, str | None]]]:
    """Split and group of each video: its clips agree about both, or it is cut into scenes that share a split."""
    if "clips" not in version.tables:
        return
    for batch in lake.scan(version, "clips", ["video_id", "split", "group_id"]):
        for row in batch.to_pylist():
            group = None if row["group_id"] is None else unpack_text(row["group_id"])
            yield row["video_id"], (row["split"], group)


def _taken(video: Video, staged: Staged, said: dict[str, Any]) -> _Taken:
    assert staged.made is not None
    made, source = staged.made.video, video.video
    moved = Moved(
        video_id=made.video_id,
        source_start_pts=source.frames.start_pts,
        source_end_pts=source.frames.end_pts,
        source_base=source.time_base,
        new_base=made.time_base,
        new_end_pts=made.frames.end_pts,
        source_size=upright_size(source),
        new_size=(made.width, made.height),
        packed_times=zlib.compress(staged.source_times.encode()),
    )
    item = Item(
        listed=video.listed,
        video_id=made.video_id,
        tar_bytes=_tar_bytes(made.size_bytes, said),
        told_split=said["split"],
        group=said["group"],
    )
    return _Taken(
        item=item,
        moved=moved,
        bytes_before=source.size_bytes,
        bytes_after=made.size_bytes,
        psnr_db=staged.made.psnr_db,
        worst_psnr_db=staged.made.worst_psnr_db,
    )


def _tar_bytes(size_bytes: int, said: Said) -> int:
    """Of a shard: to a few bytes, because the sidecars' common shape is known when all were seen."""
    sizes = {"mp4": size_bytes, "json": len(json.dumps(said))}
    return laid_out([[Member(name=kind, size_bytes=size, content_hash="") for kind, size in sizes.items()]])[1]
