"""MPEG program streams (MPG, VOB): pack after pack. Bytes as they pass in; the first that belongs to no packet out.

A pack is a head and packets of video and sound; each begins with 00 00 01 and its kind, packets tell their length:

    00 00 01 BA  clock | 00 00 01 E0  length  video ... | 00 00 01 C0  length  sound ... | 00 00 01 BA ...
"""

from __future__ import annotations

import re

from cineray.index.passing import Follower, Steps, damaged

_END, _PACK = 0xB9, 0xBA
_VIDEO = range(0xE0, 0xF0)
_MOST_PADDING_BYTES = 36
"""Zeros between packets: a Video CD fills its sound packets up to a sector with 20 of them."""
_HOLE = re.compile(rb"\x00{16,}(?![\x00\x01]|\Z)")
"""Zeros that stop at something else than a start code. Those that reach to the packet's end may be stuffing."""


class FollowProgram(Follower):
    """Every packet of one program stream. Zeros after the last one are padding."""

    def walk(self) -> Steps:
        """As in `Follower`. Ends early at a video packet of no declared length: only the next start code ends that."""
        while self.at < self.size:
            start = self.at
            head = yield from self.take(min(4, self.size - self.at))
            while head[:3] == bytes(3) and self.at < min(self.size, start + _MOST_PADDING_BYTES):
                head = head[1:] + (yield from self.take(1))
            if not any(head) and (yield from self.only_zeros()):
                return
            if len(head) < 4 and b"\x00\x00\x01".startswith(head):
                self.must_hold(1)
            if head[:3] != b"\x00\x00\x01" or head[3] < _END:
                raise damaged(start, "an MPEG packet")
            if head[3] == _PACK:
                yield from self.pack(start)
            elif head[3] != _END:
                length = int.from_bytes((yield from self.take(2)), "big")
                if length == 0 and head[3] in _VIDEO:
                    return
                yield from self.packet(start, head[3], length)

    def packet(self, start: int, stream: int, length: int) -> Steps:
        """The content of one packet: no video codec that lives here has zeros except before a start code."""
        if stream not in _VIDEO:
            yield from self.skip(length)
        elif hole := _HOLE.search((yield from self.take(length))):
            raise damaged(start + 6 + hole.start(), "video, which is never that many zeros")

    def pack(self, start: int) -> Steps:
        """The rest of a pack's head, which MPEG-1 and MPEG-2 write differently."""
        first = yield from self.take(1)
        if first[0] >> 6 == 0b01:
            rest = yield from self.take(9)
            yield from self.skip(rest[8] & 7)
        elif first[0] >> 4 == 0b0010:
            yield from self.skip(7)
        else:
            raise damaged(start, "the head of an MPEG pack")
