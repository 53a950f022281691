"""One shard packed: which videos it is to hold goes in; a tar and its index at their place, and where each lies, out.

What a shard needs of its videos is read here, where it is written, be that this process or a task on another machine:
to deal videos out, a few words of each are enough (`Item`), and one `Shape` for all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

from cineray.curate.standardise.shards import NO_SPLIT, Lies, Part, Sample, Shard, write_shard
from cineray.curate.standardise.sidecars import Shape, said_of, sidecars_of
from cineray.curate.standardise.staging import Staged, Staging
from cineray.curate.videos import Listed, Video, take_videos
from cineray.lake import Lake, Version
from cineray.records import Place

_TAKEN_AT_ONCE = 32
"""With their frame tables: of hours of video some megabytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One encoded video on its way into a shard."""

    listed: Listed
    """Its source."""
    video_id: str
    tar_bytes: int
    told_split: str | None
    group: str | None

    @property
    def split(self) -> str:
        """The folder of its shard."""
        return self.told_split or NO_SPLIT

    @property
    def said(self) -> dict[str, str | None]:
        """What its clips say of it."""
        return {"split": self.told_split, "group": self.group}


Packing = Part[Item]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A shard that is written."""

    uri: str
    lies: dict[str, Lies]


def pack(lake: Lake, version: Version, staging: Staging, part: Packing, *, shape: Shape, out_uri: str) -> Packed:
    """Write the shard, unless it is there already. Raises `PlaceMissing` where the staging has been cleared."""
    worked = with_work(lake, version, staging, [item.listed for item in part.items])
    samples = tuple(
        _sample(item, video, staged, shape) for item, (video, staged) in zip(part.items, worked, strict=True)
    )
    uri, lies = write_shard(Shard(split=part.split, number=part.number, samples=samples), out_uri)
    return Packed(uri=uri, lies=lies)


def with_work(
    lake: Lake, version: Version, staging: Staging, listed: Sequence[Listed]
) -> Iterator[tuple[Video, Staged]]:
    """Videos, and what became of each, some at a time."""
    for at in range(0, len(listed), _TAKEN_AT_ONCE):
        some = listed[at : at + _TAKEN_AT_ONCE]
        work = staging.take_all([one.video_id for one in some])
        yield from zip(take_videos(lake, version, some), work, strict=True)


def _sample(item: Item, video: Video, staged: Staged, shape: Shape) -> Sample:
    assert staged.made is not None
    made = staged.made.video
    return Sample(
        video_id=made.video_id,
        split=item.split,
        uri=staged.uri,
        size_bytes=made.size_bytes,
        content_hash=made.content_hash,
        sidecars=sidecars_of(said_of(video, staged, item.said), shape),
    )


def part_to_json(part: Packing) -> str:
    """For a task elsewhere."""
    items = [[astuple(one.listed), one.video_id, one.tar_bytes, one.told_split, one.group] for one in part.items]
    return json.dumps([part.split, part.number, items])


def part_from_json(text: str) -> Packing:
    """The inverse."""
    split, number, told = json.loads(text)
    items = tuple(
        Item(listed=Listed(*listed), video_id=video_id, tar_bytes=size, told_split=told_split, group=group)
        for listed, video_id, size, told_split, group in told
    )
    return Part(split=split, number=number, items=items)


def packed_to_json(packed: Packed) -> str:
    """A task's answer."""
    lies = {video_id: [one.place.offset, one.place.length, one.version_tag] for video_id, one in packed.lies.items()}
    return json.dumps({"uri": packed.uri, "lies": lies})


def packed_from_json(text: str) -> Packed:
    """The inverse."""
    told = json.loads(text)
    uri = told["uri"]
    lies = {
        video_id: Lies(place=Place(uri=uri, offset=offset, length=length), version_tag=tag)
        for video_id, (offset, length, tag) in told["lies"].items()
    }
    return Packed(uri=uri, lies=lies)
