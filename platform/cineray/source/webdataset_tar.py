"""WebDataset shards: tar files in, one `VideoFile` per video member out, its place a byte range of the shard.

Members whose names agree up to the first dot of the basename, and that lie one behind the other, are one sample:

    walk/0001.mp4  walk/0001.json  walk/0001.txt | walk/0002.mp4 ...
    `------------- one sample: a video with two sidecars ---'

Sidecars that do not lie beside their video are a Reject, so that no caption is lost in silence. Nothing is unpacked,
and no member's content is looked at: what is no video and no sidecar (.pyd, .pth, .pkl, .npy) is passed over, and
counted. Afterwards each video is read by its range alone, without the shard. A shard that is missing, compressed, cut
or damaged is a Reject with its name, and the other shards are listed all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cineray.errors import PlaceError
from cineray.records import Place, Reject, Sidecar, VideoFile
from cineray.source.base import Source, reject
from cineray.source.naming import SIDECAR_KINDS, UniqueNames, extension, is_video, printable_name, split_of
from cineray.source.shard_index import read_shard_index
from cineray.source.shards import COMPRESSED_ENDINGS, Shard, find_shards
from cineray.source.tar_members import TarMember, TarProblem, walk_members
from cineray.source.torn_samples import TornSamples
from cineray.storage import RangeReader, open_place

MAX_SAMPLE_MEMBERS = 256
_COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x04\x22\x4d\x18": "lz4",
}


class WebDatasetTar(Source):
    """One shard, a folder of shards, a glob, or braces: `clips/shard-{000..012}.tar`."""

    kind = "webdataset"

    def list_videos(self) -> Iterator[VideoFile | Reject]:
        """Shard by shard in the order of `find_shards`, member by member in the order of the tar."""
        self.passed_over.clear()
        for shard in find_shards(self.uri, pass_over=self.pass_over):
            if isinstance(shard, Reject):
                yield shard
            else:
                yield from self._list_shard(shard)

    def _list_shard(self, shard: Shard) -> Iterator[VideoFile | Reject]:
        try:
            with open_place(Place(uri=shard.uri), policy=self.policy) as reader:
                refusal = _refuse_whole(shard, reader)
                if refusal is not None:
                    yield refusal
                    return
                members = read_shard_index(shard.index_uri, reader, policy=self.policy) or walk_members(reader)
                yield from _Samples(shard, reader.version_tag, self.pass_over).gather(members)
        except PlaceError as error:
            yield reject(shard.name, error.reason, f"the shard cannot be read: {error}")


def _refuse_whole(shard: Shard, reader: RangeReader) -> Reject | None:
    """A shard that is no plain tar at all, with the next step."""
    start = reader.read_at(0, 64)
    packed = next((name for magic, name in _COMPRESSIONS.items() if start.startswith(magic)), "")
    if packed or (start and shard.name.lower().endswith(COMPRESSED_ENDINGS)):
        detail = (
            f"the shard {shard.uri} is compressed ({packed or 'by its name'}), so a video in it has no byte range; "
            "unpack it to a plain .tar first, for example with `gzip -d`; videos hardly shrink anyway"
        )
        return reject(shard.name, "compressed_shard", detail)
    if start.startswith(b"version https://git-lfs"):
        return reject(shard.name, "lfs_pointer", f"the shard {shard.uri} is a Git LFS pointer; run `git lfs pull`")
    if not start:
        return reject(shard.name, "empty", f"the shard {shard.uri} has no bytes; write it again")
    return None


class _Samples:
    """Gathers members into samples; holds one sample at a time, and a few bytes for each key it has seen."""

    def __init__(self, shard: Shard, version_tag: str, pass_over: Callable[[str], None]) -> None:
        self._shard, self._tag, self._pass_over = shard, version_tag, pass_over
        self._names, self._torn = UniqueNames(), TornSamples(shard)
        self._key: str | None = None
        self._videos: list[TarMember] = []
        self._sidecars: list[TarMember] = []
        self._explained = False
        """Whether a Reject has said already why this sample has no video."""

    def gather(self, members: Iterator[TarMember | TarProblem]) -> Iterator[VideoFile | Reject]:
        for member in members:
            key = sample_key(member.name)
            if isinstance(member, TarProblem) and member.reason in ("truncated", "corrupt"):
                self._explained = True  # the shard breaks off here, and maybe the sample with it
            if key != self._key:
                yield from self._finish()
                self._key = key
            if isinstance(member, TarProblem):
                self._explained = True
                yield self._rejected(member)
            elif key is not None:
                yield from self._add(member)
        yield from self._finish()
        yield from self._torn.summary()

    def _add(self, member: TarMember) -> Iterator[VideoFile | Reject]:
        if is_video(member.name):
            self._videos.append(member)
        elif extension(member.name) in SIDECAR_KINDS:
            self._sidecars.append(member)
        else:
            self._pass_over(member.name)
        if len(self._videos) + len(self._sidecars) > MAX_SAMPLE_MEMBERS:
            name, self._explained = f"{self._shard.name}::{member.name}", True
            yield from self._finish()
            detail = f"the sample has more than {MAX_SAMPLE_MEMBERS} members; those from here on count as another one"
            yield reject(name, "hostile_member", detail)

    def _finish(self) -> Iterator[VideoFile | Reject]:
        """Give out the sample's videos, each with all its sidecars."""
        sidecars = tuple(
            Sidecar(kind=extension(member.name), place=self._place(member), version_tag=self._tag)
            for member in self._sidecars
        )
        for video in self._videos:
            name = printable_name(f"{self._shard.name}::{video.name}")
            yield VideoFile(
                name=self._names.claim(name, f"@{video.offset}"),  # tar allows one name twice; both are listed
                place=self._place(video),
                size_bytes=video.size,
                version_tag=self._tag,
                split=_split(self._shard.name, video.name),
                sidecars=sidecars,
            )
        if self._key is not None:
            videos, kinds = len(self._videos), [sidecar.kind for sidecar in sidecars]
            yield from self._torn.group(self._key, videos, kinds, explained=self._explained)
        self._key, self._videos, self._sidecars, self._explained = None, [], [], False

    def _place(self, member: TarMember) -> Place:
        return Place(uri=self._shard.uri, offset=member.offset, length=member.size)

    def _rejected(self, problem: TarProblem) -> Reject:
        if problem.name:
            detail = f"the member at byte {problem.offset:,} of {self._shard.uri} {problem.detail}"
            return reject(f"{self._shard.name}::{problem.name}", problem.reason, detail)
        return reject(self._shard.name, problem.reason, f"the shard {self._shard.uri}: {problem.detail}")


def sample_key(name: str) -> str | None:
    """`a/b/0001.left.mp4` -> `a/b/0001`; None for hidden files and for names without a dot."""
    folder, slash, base = name.rpartition("/")
    stem, dot, _ = base.partition(".")
    return f"{folder}{slash}{stem}" if stem and dot else None


def _split(shard_name: str, member_name: str) -> str | None:
    """From the first folder of the shard's or the member's path, where it is a split's name: `train/0001.tar`."""
    for path in (shard_name, member_name.removeprefix("./")):
        first, slash, _ = path.partition("/")
        split = split_of(first) if slash else None
        if split:
            return split
    return None
