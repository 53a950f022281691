"""MP4 and MOV: find the header and nothing else. Ranges of bytes in; the header's bytes, and where the media data lies,
out.

    header in front    ftyp moov | mdat ............        one small read, then exactly the rest of moov
    header behind      ftyp | mdat ............ | moov      one small read, then from the end of mdat on
    fragmented         ftyp moov | moof | mdat | moof | mdat ...   the boxes between the media data

Box sizes are whatever a stranger wrote. Every one is checked against the file's size before a byte is fetched for it,
the number of boxes and the bytes fetched are bounded, and a size that cannot be true is a reason, not a loop.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from cineray.index.reasons import Unfit

FRONT_BYTES = 1024
"""The first read: enough for ftyp and the moov box's size, and often for whatever lies between."""
_TAIL_BYTES = 4 << 20
"""What follows the media data is fetched in one go up to this size: it is the header of files that have it behind."""
_STEP_BYTES = 2048
_LONGEST_HEADER_BYTES = 512 << 20
_MOST_BOXES = 200_000

_TOP_LEVEL = {
    b"ftyp",
    b"moov",
    b"mdat",
    b"free",
    b"skip",
    b"wide",
    b"pnot",
    b"styp",
    b"moof",
    b"sidx",
    b"uuid",
    b"udta",
}
_NEEDED = {b"ftyp", b"moov", b"moof", b"sidx"}
_MAY_BE_CUT = {b"mdat", b"free", b"skip", b"mfra"}
"""What may end with the file: media data, which is held against its packets, and boxes that tell of no frame."""
_MOST_PADDING_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20


class Reader(Protocol):
    """The part of `storage.RangeReader` that is used here."""

    size_bytes: int

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from `offset`, fewer only where the place ends."""


@dataclass(frozen=True, slots=True)
class Box:
    """One box: `[start, end)` in the file, its content beginning at `body`."""

    kind: bytes
    start: int
    body: int
    end: int


@dataclass(slots=True)
class Header:
    """The header of one MP4 file: pieces of real bytes by offset, and all top-level boxes that were walked over."""

    size_bytes: int
    pieces: dict[int, bytes] = field(default_factory=dict)
    boxes: list[Box] = field(default_factory=list)
    fragmented: bool = False

    def bytes_of(self, box: Box) -> bytes:
        """The box's bytes, which must have been fetched."""
        return self.pieces[box.start][: box.end - box.start]

    @property
    def moov(self) -> bytes:
        """The bytes of the movie header."""
        return self.bytes_of(next(box for box in self.boxes if box.kind == b"moov"))


def looks_like_mp4(front: bytes) -> bool:
    """True when the file begins with a box that MP4 and MOV files begin with."""
    return front[4:8] in _TOP_LEVEL


def read_header(reader: Reader, front: bytes) -> Header:
    """Walk the boxes from `front` (the file's first bytes) and fetch those that say what the file holds."""
    return _Walk(reader, front).run()


class _Walk:
    def __init__(self, reader: Reader, front: bytes) -> None:
        self.reader, self.size = reader, reader.size_bytes
        self.header = Header(self.size)
        self.window_start, self.window = 0, front
        self.fetched = 0
        self.after_media = False
        self.found_moov = False

    def run(self) -> Header:
        at = 0
        while at + 8 <= self.size and not (self.found_moov and not self.header.fragmented):
            box = self.box_at(at)
            if box is None:
                self.refuse_damage(at)
                break
            self.header.boxes.append(box)
            if len(self.header.boxes) > _MOST_BOXES:
                raise Unfit(
                    "corrupt", f"more than {_MOST_BOXES} boxes; write the file again: ffmpeg -i in.mp4 -c copy out.mp4"
                )
            if box.kind in _NEEDED and not (box.kind == b"moov" and self.found_moov):
                self.take(box)
            self.after_media = self.after_media or box.kind == b"mdat"
            at = box.end
        if not self.found_moov:
            raise self.no_moov()
        if self.header.fragmented and at < self.size < at + 8:
            self.refuse_damage(at)
        return self.header

    def box_at(self, at: int) -> Box | None:
        """The box that begins at `at`; None where no box begins, as in padding after the last one."""
        head = self.peek(at, 16)
        size, kind = struct.unpack(">I4s", head[:8])
        body = at + 8
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:16])
            body = at + 16
        elif size == 0:
            size = self.size - at
        if size < body - at or (self.header.fragmented and not (head[:4] != bytes(4) or kind in _MAY_BE_CUT)):
            return None
        if self.header.fragmented and not is_name(kind):
            return None
        end = at + size
        if end > self.size and self.header.fragmented and kind not in _MAY_BE_CUT | _NEEDED:
            return None
        if end > self.size and kind in _NEEDED:
            what = kind.decode("latin1")
            raise Unfit(
                "truncated",
                f"the {what} box says that it ends at byte {end}, but the file has {self.size}; copy the file again",
            )
        return Box(kind, at, body, min(end, self.size))

    def refuse_damage(self, at: int) -> None:
        """In a fragmented file more fragments may follow whatever begins no box, unless it is padding to the end."""
        if not self.header.fragmented:
            return
        for start in range(at, min(self.size, at + _MOST_PADDING_BYTES), _BLOCK_BYTES):
            if any(self.reader.read_at(start, min(_BLOCK_BYTES, self.size - start))):
                raise Unfit(
                    "truncated" if self.size - at < 8 else "corrupt",
                    f"no box begins at byte {at} of this fragmented MP4 of {self.size} bytes: the file was damaged or "
                    "cut there, and frames after it cannot be found; copy it again",
                )

    def peek(self, at: int, length: int) -> bytes:
        length = min(length, self.size - at)
        if not (self.window_start <= at and at + length <= self.window_start + len(self.window)):
            left = self.size - at
            tail = self.after_media and not self.header.fragmented and left <= max(_TAIL_BYTES, self.size // 50)
            self.slide(at, left if tail else min(left, _STEP_BYTES))
        return self.window[at - self.window_start : at - self.window_start + length]

    def slide(self, at: int, length: int) -> None:
        """Move the window so that it holds `[at, at + length)`, keeping what it already has of that."""
        kept = self.window[max(0, at - self.window_start) :] if at >= self.window_start else b""
        kept = kept[:length]
        self.fetched += length - len(kept)
        if self.fetched > _LONGEST_HEADER_BYTES:
            raise Unfit(
                "too_large",
                f"the header needs more than {_LONGEST_HEADER_BYTES >> 20} MiB; write the file again: "
                "ffmpeg -i in.mp4 -c copy out.mp4",
            )
        more = self.reader.read_at(at + len(kept), length - len(kept)) if length > len(kept) else b""
        self.window_start, self.window = at, kept + more
        if len(self.window) < length:
            raise Unfit("changed", f"the file ended at byte {at + len(self.window)} while it was read; ingest it again")

    def take(self, box: Box) -> None:
        """Fetch the whole box and, after moov, the next box's size: FFmpeg looks at it to find the media data."""
        if box.kind == b"moov":
            self.found_moov = True
        stop = min(box.end + 16, self.size) if box.kind == b"moov" else box.end
        if not (self.window_start <= box.start and stop <= self.window_start + len(self.window)):
            self.slide(box.start, stop - box.start)
        self.header.pieces[box.start] = self.window[box.start - self.window_start : stop - self.window_start]
        if box.kind == b"moov":
            self.header.fragmented = any(child.kind == b"mvex" for child in children(self.header.bytes_of(box)))

    def no_moov(self) -> Unfit:
        kinds = [box.kind for box in self.header.boxes]
        if b"mdat" in kinds or b"ftyp" in kinds:
            return Unfit(
                "truncated",
                f"this MP4 has no moov box, the index that is written last, in its {self.size} bytes: the copy or the "
                "recording was cut short; copy it again",
            )
        return Unfit("not_video", "no MP4 header was found, although it begins like one; leave it out of the source")


def is_name(kind: bytes) -> bool:
    """Whether these four bytes can be a box's name: printable, or QuickTime's copyright sign at the beginning."""
    return all(32 <= byte < 127 for byte in kind[1:]) and (32 <= kind[0] < 127 or kind[0] == 0xA9)


def children(box: bytes | memoryview) -> Iterator[Box]:
    """The boxes inside a box's bytes, as far as their sizes make sense."""
    at = 16 if box[:4] == b"\x00\x00\x00\x01" else 8
    while at + 8 <= len(box):
        size, kind = struct.unpack_from(">I4s", box, at)
        body = at + 8
        if size == 1 and at + 16 <= len(box):
            (size,) = struct.unpack_from(">Q", box, at + 8)
            body = at + 16
        size = size or len(box) - at
        if size < body - at or at + size > len(box):
            return
        yield Box(kind, at, body, at + size)
        at += size


def find(box: bytes | memoryview, *path: bytes) -> Iterator[memoryview]:
    """Every box below `box` along a path of kinds: `find(moov, b"trak", b"tkhd")`. Copies nothing."""
    view = memoryview(box)
    for child in children(view):
        if child.kind == path[0]:
            inner = view[child.start : child.end]
            if len(path) == 1:
                yield inner
            else:
                yield from find(inner, *path[1:])
