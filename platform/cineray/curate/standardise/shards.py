"""WebDataset shards of even size: encoded videos with what is said of them in, tar files with an index beside each out.

    train/000000-9f86d081884c7d65.tar     <id>.mp4 <id>.json [<id>.txt] [<id>.cls]  <id>.mp4 ...
    train/000000-9f86d081884c7d65.idx     where each lies
    test/000000-60303ae22b998861.tar

What goes where follows from the videos' contents alone. They are taken in the order of their ids, which are hashes of
what was encoded: so each shard is a fair sample, as whoever streams shards one after the other wants. A shard's name
ends in the SHA-256 of what is in it, so one that a killed run has finished is known by its name, and is not written
again. Each split has shards of its own, with a folder that says which it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from blake3 import blake3

from cineray import storage
from cineray.curate.standardise.tar_file import Member, index_lines, laid_out, write_tar
from cineray.errors import PlaceError
from cineray.records import Place

NO_SPLIT = "unsplit"
_PIECE_BYTES = 4 << 20


class Weighed(Protocol):
    """What is to be dealt out."""

    @property
    def video_id(self) -> str:
        """Gives the order."""

    @property
    def split(self) -> str:
        """Which shards it may lie in."""

    @property
    def tar_bytes(self) -> int:
        """About how much of a shard it takes."""


One = TypeVar("One", bound=Weighed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Generic[One]):
    """What belongs into one shard."""

    split: str
    number: int
    items: tuple[One, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One video for a shard."""

    video_id: str
    split: str
    uri: str
    """Where its bytes lie now."""
    size_bytes: int
    content_hash: str
    sidecars: tuple[tuple[str, bytes], ...]
    """Extension and content of each, in the order in which they are written."""

    def members(self) -> list[Member]:
        """Its files, the video first."""
        video = Member(name=f"{self.video_id}.mp4", size_bytes=self.size_bytes, content_hash=self.content_hash)
        return [video, *(_sidecar(self.video_id, kind, data) for kind, data in self.sidecars)]

    @property
    def tar_bytes(self) -> int:
        """Of the archive."""
        return laid_out([self.members()])[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One tar, before it is written."""

    split: str
    number: int
    samples: tuple[Sample, ...]

    def name(self) -> str:
        """Under the folder of all shards, without its ending."""
        digest = hashlib.sha256()
        for sample in self.samples:
            for member in sample.members():
                digest.update(f"{member.name} {member.size_bytes} {member.content_hash}\n".encode())
        return f"{self.split}/{self.number:06d}-{digest.hexdigest()[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lies:
    """Where a video's bytes ended up."""

    place: Place
    version_tag: str


def plan_shards(videos: Iterable[One], shard_bytes: int) -> list[Part[One]]:
    """Which video goes into which shard: of each split as many shards as come nearest to the size, of even sizes."""
    by_split: dict[str, list[One]] = {}
    for video in videos:
        by_split.setdefault(video.split, []).append(video)
    planned = []
    for split in sorted(by_split):
        ordered = sorted(by_split[split], key=lambda video: video.video_id)
        parts = _even_parts([video.tar_bytes for video in ordered], shard_bytes)
        planned += [
            Part(split=split, number=number, items=tuple(ordered[at] for at in part))
            for number, part in enumerate(parts)
        ]
    return planned


def _even_parts(sizes: Sequence[int], part_size: int) -> list[list[int]]:
    """Consecutive items in parts that differ by no more than an item: each goes where its middle lies.

    items   |--|-|------|---|-|--|---|      total 20, three parts
    parts   |      0      |     1     | 2
    """
    total = sum(sizes)
    count = max(1, round(total / part_size))
    parts: list[list[int]] = [[] for _ in range(count)]
    before = 0
    for number, size in enumerate(sizes):
        parts[(2 * before + size) * count // (2 * total)].append(number)
        before += size
    return [part for part in parts if part]


def write_shard(shard: Shard, out_uri: str) -> tuple[str, dict[str, Lies]]:
    """Write a shard and its index, unless they are there already; the shard's uri, and where each video lies."""
    uri = storage.join_uri(out_uri, *f"{shard.name()}.tar".split("/"))
    members = [sample.members() for sample in shard.samples]
    written, size_bytes = laid_out(members)
    if _size_at(uri) != size_bytes:
        _write(shard, members, uri, size_bytes)
    storage.put_object(f"{uri.removesuffix('.tar')}.idx", "\n".join([*index_lines(written), ""]).encode())
    tag = storage.place_stat(Place(uri=uri))[1]
    return uri, {
        sample.video_id: Lies(place=Place(uri=uri, offset=files[0].offset, length=files[0].size_bytes), version_tag=tag)
        for sample, files in zip(shard.samples, written, strict=True)
    }


def _size_at(uri: str) -> int:
    try:
        return storage.place_stat(Place(uri=uri))[0]
    except PlaceError:
        return -1  # not there, or not to be read: writing it says which


def _write(shard: Shard, members: list[list[Member]], uri: str, size_bytes: int) -> None:
    def contents() -> Iterator[tuple[Member, Iterable[bytes]]]:
        for sample, files in zip(shard.samples, members, strict=True):
            yield files[0], _pieces(sample.uri)
            yield from zip(files[1:], ([data] for _, data in sample.sidecars), strict=True)

    with storage.new_object(uri, size_bytes=size_bytes) as out:
        write_tar(out, contents())


def _pieces(uri: str) -> Iterator[bytes]:
    with storage.open_place(Place(uri=uri)) as reader:
        for at in range(0, reader.size_bytes, _PIECE_BYTES):
            yield reader.read_at(at, _PIECE_BYTES)


def _sidecar(video_id: str, kind: str, data: bytes) -> Member:
    digest = f"blake3:{blake3(data).hexdigest()}"
    return Member(name=f"{video_id}.{kind}", size_bytes=len(data), content_hash=digest)
