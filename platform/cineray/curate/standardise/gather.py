"""Finished work made into shards: what is staged and what the lake says of each video in; where each lies now, out.

Two sources may come to the very same bytes (one recording in two containers). The first by its id stays, and the others
are left out as `same_pictures`: the same clip twice, maybe in two splits, is what standardising should end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cineray import storage
from cineray.curate.standardise.config import StandardiseConfig
from cineray.curate.standardise.next_version import Outcome, Ready
from cineray.curate.standardise.shards import NO_SPLIT, Lies, Sample, plan_shards, write_shard
from cineray.curate.standardise.sidecars import said_of, sidecars_of
from cineray.curate.standardise.staging import Staged, Staging
from cineray.curate.standardise.times import Moved
from cineray.curate.videos import Listed, Video, take_videos
from cineray.decode.geometry import upright_size
from cineray.lake import Lake, Version, unpack_text
from cineray.records import Reject

SAME_PICTURES = "same_pictures"
SHARDS_AT_ONCE = 4
"""Each is on this machine's disk while it is written: four of them are some gigabytes."""
_TAKEN_AT_ONCE = 256


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

    staged: Staged
    moved: Moved
    split: str
    said: Mapping[str, Any]
    """What its sidecars will say."""
    bytes_before: int


def gathered(
    lake: Lake, version: Version, staging: Staging, todo: Sequence[Listed], config: StandardiseConfig
) -> Gathered:
    """Write the shards of what is staged."""
    said = dict(_splits(lake, version))
    taken: dict[str, _Taken] = {}
    rejects: dict[str, Reject] = {}
    first = {video_id: video_id for video_id in _ids(lake, version)}
    for video, staged in _with_work(lake, version, staging, todo):
        source_id = video.listed.video_id
        if staged.made is None:
            assert staged.reject is not None
            rejects[source_id] = staged.reject
        elif (other := first.setdefault(staged.made.video.video_id, source_id)) != source_id:
            detail = f"encoded, it has the very same bytes as video {other}, which stays; nothing is to be done"
            rejects[source_id] = Reject(name=source_id, stage="standardise", reason=SAME_PICTURES, detail=detail)
        else:
            taken[source_id] = _taken(video, staged, said.get(source_id, {}))
    samples = zip(taken.values(), sidecars_of([one.said for one in taken.values()]), strict=True)
    shards = plan_shards((_sample(one, sidecars) for one, sidecars in samples), config.shard_bytes)
    out, lies = shards_uri(lake, config), dict[str, Lies]()
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as threads:
        for written in threads.map(lambda shard: write_shard(shard, out), shards):
            lies |= written
    ready = {source_id: _ready(one, lies[one.moved.video_id]) for source_id, one in taken.items()}
    return Gathered(
        outcome=Outcome(ready=ready, rejects=rejects),
        shards=tuple(storage.join_uri(out, *f"{shard.name()}.tar".split("/")) for shard in shards),
        bytes_before=sum(one.bytes_before for one in taken.values()),
    )


def shards_uri(lake: Lake, config: StandardiseConfig) -> str:
    """Where the shards go."""
    return storage.normalise_uri(config.out) if config.out else storage.join_uri(lake.uri, "shards")


def _with_work(
    lake: Lake, version: Version, staging: Staging, todo: Sequence[Listed]
) -> Iterator[tuple[Video, Staged]]:
    for at in range(0, len(todo), _TAKEN_AT_ONCE):
        some = todo[at : at + _TAKEN_AT_ONCE]
        work = staging.take_all([one.video_id for one in some])
        yield from zip(take_videos(lake, version, some), work, strict=True)


def _ids(lake: Lake, version: Version) -> Iterator[str]:
    """Also what was standardised before is there already."""
    for batch in lake.scan(version, "media", ["video_id"]):
        yield from batch["video_id"].to_pylist()


def _splits(lake: Lake, version: Version) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Split and group of each video: its clips agree about both, or it is cut into scenes that share a split."""
    if "clips" not in version.tables:
        return
    for batch in lake.scan(version, "clips", ["video_id", "split", "group_id"]):
        for row in batch.to_pylist():
            group = None if row["group_id"] is None else unpack_text(row["group_id"])
            yield row["video_id"], {"split": row["split"], "group": group}


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
        source_times=staged.source_times,
    )
    return _Taken(
        staged=staged,
        moved=moved,
        split=said.get("split") or NO_SPLIT,
        said=said_of(video, staged, said),
        bytes_before=source.size_bytes,
    )


def _sample(taken: _Taken, sidecars: tuple[tuple[str, bytes], ...]) -> Sample:
    assert taken.staged.made is not None
    made = taken.staged.made.video
    return Sample(
        video_id=made.video_id,
        split=taken.split,
        uri=taken.staged.uri,
        size_bytes=made.size_bytes,
        content_hash=made.content_hash,
        sidecars=sidecars,
    )


def _ready(taken: _Taken, lies: Lies) -> Ready:
    made = taken.staged.made
    assert made is not None
    return Ready(
        video=made.video,
        lies=lies,
        moved=taken.moved,
        bytes_before=taken.bytes_before,
        psnr_db=made.psnr_db,
        worst_psnr_db=made.worst_psnr_db,
    )
