"""A tar whose bytes follow from its members alone: names and contents in, an archive and the place of each out.

    | header | a.mp4 ..... pad | header | a.json  pad | ... | two blocks of zeros |
             ^ offset, size: what the lake keeps, and the index beside the shard

Plain POSIX headers: no owner, no time, no extended fields, so that the same members are the same shard on any machine
and every reader of tars reads it. Contents are hashed while they are copied.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from blake3 import blake3

from cineray.errors import CinerayError

MOST_BYTES = (8 << 30) - 1
"""What plain headers can say of a member: eleven octal digits."""
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of a shard, before it is written."""

    name: str
    size_bytes: int
    content_hash: str
    """`blake3:<hex>` of its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One file of a shard: its bytes are `[offset, offset + size_bytes)` of the archive."""

    name: str
    offset: int
    size_bytes: int


def write_tar(out: BinaryIO, members: Iterable[tuple[Member, Iterable[bytes]]]) -> None:
    """Write the members, each from its pieces; refuses one that is not what it was said to be."""
    for member, pieces in members:
        out.write(header(member))
        size, digest = 0, blake3()
        for piece in pieces:
            size += len(piece)
            digest.update(piece)
            out.write(piece)
        if size != member.size_bytes or f"blake3:{digest.hexdigest()}" != member.content_hash:
            raise CinerayError(
                f"{member.name} has {size} bytes of hash {digest.hexdigest()[:12]} and should have {member.size_bytes} "
                f"of {member.content_hash[:19]}: it was damaged on its way into a shard; remove the lake's staging of "
                "this run and run it again"
            )
        out.write(bytes(-size % _BLOCK))
    out.write(_END)


def header(member: Member) -> bytes:
    """512 bytes."""
    info = tarfile.TarInfo(member.name)
    info.size, info.mode, info.mtime = member.size_bytes, 0o644, 0
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except ValueError as error:
        raise CinerayError(f"{member.name} of {member.size_bytes} bytes does not fit a tar header: {error}") from error


def laid_out(samples: Iterable[list[Member]]) -> tuple[list[list[Written]], int]:
    """Where `write_tar` puts each member of each sample, and how many bytes the archive has."""
    at, told = 0, []
    for sample in samples:
        files = []
        for member in sample:
            files.append(Written(name=member.name, offset=at + _BLOCK, size_bytes=member.size_bytes))
            at += _BLOCK + member.size_bytes + -member.size_bytes % _BLOCK
        told.append(files)
    return told, at + len(_END)


def index_lines(samples: Iterable[list[Written]]) -> Iterator[str]:
    """The index beside a shard, in the text form of DALI's wds2idx v1.2: a line per sample, four words per member."""
    told = list(samples)
    yield f"v1.2 {len(told)}"
    for sample in told:
        yield " ".join(
            f"{member.name.partition('.')[2]} {member.offset} {member.size_bytes} {member.name}" for member in sample
        )
