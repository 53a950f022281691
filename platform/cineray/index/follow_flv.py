"""FLV: tag after tag, each followed by its own length. Bytes as they pass in; the first thing that does not fit, out.

    header | 0 | tag | its length | tag | its length | ...

The first tag of most files is `onMetaData`, which tells the file's size and duration: a file shorter than that was cut.
"""

from __future__ import annotations

import struct

from cineray.index.passing import Follower, Steps, damaged
from cineray.index.reasons import Unfit

_SOUND, _PICTURE, _SCRIPT = 8, 9, 18
_TAG_HEAD_BYTES = 11


class FollowFlv(Follower):
    """Every tag of one FLV file."""

    def walk(self) -> Steps:
        """As in `Follower`."""
        self.last_ms, self.declared_bytes, self.declared_seconds = 0, 0.0, 0.0
        head = yield from self.take(9)
        yield from self.skip(int.from_bytes(head[5:9], "big") - 9 + 4)
        while self.at < self.size:
            yield from self.tag()
        self.refuse_short()

    def tag(self) -> Steps:
        """One tag and the length behind it. Some writers leave that 0, or do not count the tag's head."""
        start = self.at
        head = yield from self.take(_TAG_HEAD_BYTES)
        length = int.from_bytes(head[1:4], "big")
        if head[0] & 0xDF not in (_SOUND, _PICTURE, _SCRIPT):  # 0x20: filtered
            raise damaged(start, "an FLV tag")
        self.last_ms = max(self.last_ms, int.from_bytes(head[7:8] + head[4:7], "big", signed=True))
        if head[0] == _SCRIPT and not self.declared_bytes:
            self.learn((yield from self.take(length)))
        else:
            yield from self.skip(length)
        if self.at < self.size:
            behind = int.from_bytes((yield from self.take(4)), "big")
            if behind not in (length + _TAG_HEAD_BYTES, length, 0):
                raise damaged(self.at - 4, f"the length of the tag at byte {start}")

    def learn(self, script: bytes) -> None:
        """Size and duration from a script tag; both stay 0 where the writer did not come back to fill them in."""
        self.declared_bytes = _number(script, b"filesize")
        self.declared_seconds = _number(script, b"duration")

    def refuse_short(self) -> None:
        """Raise `Unfit` when the file is smaller than it says, or, where it says no size, a good deal shorter."""
        if self.declared_bytes > self.size:
            raise Unfit(
                "truncated",
                f"the file has {self.size} bytes and its metadata declare {self.declared_bytes:.0f}; copy it again",
            )
        seconds = self.last_ms / 1000
        if not self.declared_bytes and seconds < self.declared_seconds - max(1.0, self.declared_seconds / 20):
            raise Unfit(
                "truncated",
                f"the last frame is at {seconds:.3f} s and the metadata declare {self.declared_seconds:.3f} s; "
                "copy the file again",
            )


def _number(script: bytes, name: bytes) -> float:
    """The number of that name in an AMF object; 0 where there is none."""
    at = script.find(struct.pack(">H", len(name)) + name + b"\x00")
    start = at + 3 + len(name)
    if at < 0 or start + 8 > len(script):
        return 0.0
    (number,) = struct.unpack_from(">d", script, start)
    return float(number) if 0 < number < 1 << 53 else 0.0
