"""Matroska and WebM: element after element. Bytes as they pass in; the first that begins no element out.

    EBML | Segment( SeekHead Info Tracks Cluster( Timestamp SimpleBlock SimpleBlock BlockGroup( Block ) ... ) ... Cues )

Every element tells its size, so all of them are followed down to the blocks, and each must end where its parent says
or earlier. Segments and clusters of a live recording tell no size: such a cluster ends where the next begins. Duration
and cues are not asked: both only describe what this walk has seen, and honest writers get them wrong.
"""

from __future__ import annotations

from collections.abc import Generator

from cineray.index.passing import Follower, Steps, damaged

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_VOID, _CRC = 0xEC, 0xBF
_SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK = 0xA3, 0xA0, 0xA1
_IN_CLUSTER = {0xE7, 0x5854, 0xA7, 0xAB, _SIMPLE_BLOCK, _BLOCK_GROUP, 0xAF, _VOID, _CRC}
_FOUR_BYTES = 0x10000000
"""Everything of the first level has a name of four bytes; one that we do not know is left alone."""
_LEAST_BLOCK_BYTES = 4

Element = Generator[int, bytes, tuple[int, int | None]]


class FollowMatroska(Follower):
    """Every element of one Matroska file, down to the blocks."""

    def walk(self) -> Steps:
        """As in `Follower`. What follows the segment is looked at only for the beginning of another one."""
        end: int | None = None
        while end is None:
            start = self.at
            name, size = yield from self.element()
            if name == _SEGMENT:
                end = self.size if size is None else self.at + size
                yield from self.segment(end)
            elif size is None or name not in (_EBML, _VOID, _CRC):
                raise damaged(start, "a Matroska segment")
            else:
                yield from self.skip(size)
        start = self.at
        if self.size - start >= 4:
            name = int.from_bytes((yield from self.take(4)), "big")
            if name in (_EBML, _SEGMENT, _CLUSTER):
                raise damaged(start, "the end of the file, which the segment's size puts there")

    def segment(self, end: int) -> Steps:
        """The children of the segment; those of clusters without a size are taken as they come."""
        in_cluster = False
        while self.at < end:
            start = self.at
            name, size = yield from self.element()
            if name == _CLUSTER:
                in_cluster = size is None
                if size is not None:
                    yield from self.cluster(self.inside(size, end))
            elif in_cluster and name in _IN_CLUSTER:
                yield from self.child_of_cluster(start, name, size, end)
            elif size is None or name in (_EBML, _SEGMENT) or (name < _FOUR_BYTES and name not in (_VOID, _CRC)):
                raise damaged(start, "a Matroska element")
            else:
                in_cluster = False
                yield from self.skip(self.inside(size, end) - self.at)

    def cluster(self, end: int) -> Steps:
        """The children of one cluster."""
        while self.at < end:
            start = self.at
            name, size = yield from self.element()
            if name not in _IN_CLUSTER:
                raise damaged(start, "a part of a Matroska cluster")
            yield from self.child_of_cluster(start, name, size, end)

    def child_of_cluster(self, start: int, name: int, size: int | None, end: int) -> Steps:
        """One child: blocks must begin as blocks do, groups must hold one."""
        if size is None:
            raise damaged(start, "a Matroska element with a size")
        stop = self.inside(size, end)
        if name == _BLOCK_GROUP:
            yield from self.group(start, stop)
        elif name == _SIMPLE_BLOCK:
            yield from self.block(start, size)
        else:
            yield from self.skip(size)

    def group(self, start: int, end: int) -> Steps:
        """The children of one block group."""
        blocks = 0
        while self.at < end:
            child = self.at
            name, size = yield from self.element()
            if size is None:
                raise damaged(child, "a part of a Matroska block group")
            self.inside(size, end)
            if name == _BLOCK:
                blocks += 1
                yield from self.block(child, size)
            else:
                yield from self.skip(size)
        if blocks != 1:
            raise damaged(start, "a Matroska block group with one block")

    def block(self, start: int, size: int) -> Steps:
        """One block: its first byte tells its track, which is never 0."""
        if size < _LEAST_BLOCK_BYTES or (yield from self.take(1)) == b"\x00":
            raise damaged(start, "a Matroska block")
        yield from self.skip(size - 1)

    def inside(self, size: int, end: int) -> int:
        """Where an element that begins here ends; not after its parent."""
        if self.at + size > end and end < self.size:
            raise damaged(self.at, f"a Matroska element that ends by byte {end}")
        return self.at + size

    def element(self) -> Element:
        """An element's name and size; the size None where it tells none. The leading zeros tell their lengths."""
        start = self.at
        first = (yield from self.take(1))[0]
        if first < 0x10:
            raise damaged(start, "a Matroska element")
        more = 8 - first.bit_length()
        name = int.from_bytes(bytes([first]) + ((yield from self.take(more)) if more else b""), "big")
        first = (yield from self.take(1))[0]
        if first == 0:
            raise damaged(start, "a Matroska element")
        more = 8 - first.bit_length()
        size = int.from_bytes(bytes([first]) + ((yield from self.take(more)) if more else b""), "big")
        ones = (1 << 7 * (more + 1)) - 1
        return name, None if size & ones == ones else size & ones
