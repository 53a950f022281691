"""A file that is real where the header is and zero elsewhere, so that FFmpeg's own demuxer computes every frame's time
from the header alone: times, edit lists, discard flags and positions are then what FFmpeg says, and no media byte is
read.
"""

from __future__ import annotations

import io
import struct
from bisect import bisect_right

from cineray.index.boxes import Box, Header


class HeaderFile(io.RawIOBase):
    """What FFmpeg reads instead of the file. Boxes that were not fetched appear as free space of the same size."""

    def __init__(self, header: Header) -> None:
        self.size, self.at = header.size_bytes, 0
        pieces = dict(header.pieces)
        for box in header.boxes:
            if box.start not in pieces:
                pieces[box.start] = _box_head(box)
        self.starts = sorted(pieces)
        self.pieces = [pieces[start] for start in self.starts]

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        """As for any file."""
        self.at = max(0, offset + (0, self.at, self.size)[whence])
        return self.at

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes: the rest of one real piece, or zeros up to the next one."""
        left = self.size - self.at
        size = left if size < 0 else min(size, left)
        if size <= 0:
            return b""
        i = bisect_right(self.starts, self.at) - 1
        inside = self.at - self.starts[i] if i >= 0 else 0
        if i >= 0 and inside < len(self.pieces[i]):
            data = self.pieces[i][inside : inside + size]
        else:
            following = self.starts[i + 1] if i + 1 < len(self.starts) else self.size
            data = bytes(min(size, following - self.at))
        self.at += len(data)
        return data


def _box_head(box: Box) -> bytes:
    """Size and kind of a box whose content stays zero; anything but media data is named free space."""
    kind, size = (b"mdat" if box.kind == b"mdat" else b"free"), box.end - box.start
    if box.body - box.start == 16:
        return struct.pack(">I4sQ", 1, kind, size)
    return struct.pack(">I4s", size if size < 1 << 32 else 0, kind)  # 0: to the end of the file
