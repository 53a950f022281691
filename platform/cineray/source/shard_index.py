"""The index that may lie beside a shard, in the text form of DALI's wds2idx v1.2: bytes in, members out, or nothing.

    v1.2 2                                    the number of samples
    mp4 512 1234 a.mp4 json 2560 17 a.json    one line a sample: extension, data offset, size, name of each member
    mp4 3584 9876 b.mp4

It spares a remote shard's headers, and it is a second truth that may be stale, wrong (wds2idx miscounts behind pax
headers) or a lie. So it is believed only if it describes the shard to the last block, each member right behind the one
before it, and if the headers at a few of its offsets say the same; otherwise the shard's own headers are walked.
"""

from __future__ import annotations

from collections.abc import Iterator

from cineray.errors import PlaceError
from cineray.source import tar_headers as headers
from cineray.source.tar_headers import BLOCK_BYTES, TarHeaderError, padded
from cineray.source.tar_members import TarMember
from cineray.storage import AccessPolicy, RangeReader, read_object

MAX_INDEX_BYTES = 16 << 20
CHECKED_MEMBERS = 8
_LONGEST_TAIL_BYTES = 64 << 10


def read_shard_index(uri: str, reader: RangeReader, *, policy: AccessPolicy) -> Iterator[TarMember] | None:
    """The shard's members by its index, or None where there is no index that fits the shard."""
    if not uri:
        return None
    try:
        text = read_object(uri, limit_bytes=MAX_INDEX_BYTES, policy=policy)
    except PlaceError:
        return None  # no index, or none that may or can be read: the headers say the same, only slower
    count = _fitting(text, reader)
    if count == 0 or not _headers_agree(text, count, reader):
        return None
    return _members(text)


def _members(text: bytes) -> Iterator[TarMember]:
    """ValueError or IndexError where a line is not made of fours: a name with a blank, another version."""
    lines = iter(text.splitlines())
    version, count = next(lines, b"").split()
    if version != b"v1.2":
        raise ValueError(f"index version {version!r}")
    samples = 0
    for line in lines:
        words = line.split(b" ")
        samples += 1
        for at in range(0, len(words), 4):
            _, offset, size, name = words[at : at + 4]
            yield TarMember(name.decode("utf-8", "surrogateescape"), int(offset), int(size))
    if samples != int(count):
        raise ValueError(f"index says {int(count)} samples and has {samples}")


def _fitting(text: bytes, reader: RangeReader) -> int:
    """How many members the index has if they fill the shard without a gap; 0 if they do not."""
    expected, count = BLOCK_BYTES, 0
    try:
        for member in _members(text):
            if member.offset != expected or member.size < 0:
                return 0
            expected += padded(member.size) + BLOCK_BYTES
            count += 1
    except ValueError:
        return 0
    end = expected - BLOCK_BYTES
    tail = reader.size_bytes - end
    if not 2 * BLOCK_BYTES <= tail <= _LONGEST_TAIL_BYTES:
        return 0
    return 0 if reader.read_at(end, tail).strip(b"\0") else count


def _headers_agree(text: bytes, count: int, reader: RangeReader) -> bool:
    """Whether the first header, the last and some between them say what the index says."""
    checked = {round(step * (count - 1) / (CHECKED_MEMBERS - 1)) for step in range(CHECKED_MEMBERS)}
    for number, member in enumerate(_members(text)):
        if number not in checked:
            continue
        try:
            header = headers.parse_header(reader.read_at(member.offset - BLOCK_BYTES, BLOCK_BYTES))
        except TarHeaderError:
            return False
        if header.type not in headers.REGULAR_TYPES or (header.name, header.size) != (member.name, member.size):
            return False
    return True
