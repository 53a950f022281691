"""A place as a file object, for libraries that want one: tarfile, PyAV, torchcodec. A reader goes in, a file comes out.

Those libraries ask for 32 to 64 KiB at a time; each request to a store costs a round trip. So the file reads whole
blocks and keeps the few used last: a decode of 16 frames in the middle of a 31 MB film is two or three requests.
A read longer than a block goes to the reader directly, so that what is asked in one piece is one request.
"""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from typing import TYPE_CHECKING

from cineray.storage.reader import RangeReader

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class PlaceFile(io.RawIOBase):
    """Read-only and seekable; at most `max_blocks` blocks in memory. Not for several threads at once."""

    def __init__(self, reader: RangeReader, block_bytes: int = 1 << 20, max_blocks: int = 8) -> None:
        super().__init__()
        if block_bytes < 1 or max_blocks < 1:
            raise ValueError(f"PlaceFile: {block_bytes=} and {max_blocks=} must be 1 or more")
        self._reader, self._block_bytes, self._max_blocks = reader, block_bytes, max_blocks
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As for files: beyond the end is allowed and reads nothing."""
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._reader.size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"PlaceFile: cannot seek to {base + offset}, before the beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Exactly `size` bytes, fewer only at the end; all that is left without a size."""
        self._check_open()
        left = max(0, self._reader.size_bytes - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        data = self._direct(wanted) if wanted > self._block_bytes else self._from_blocks(wanted)
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        """All that is left."""
        return self.read(-1)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer; what io.BufferedReader calls."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Forget the blocks; the reader stays its owner's to close."""
        self._blocks.clear()
        super().close()

    def _direct(self, wanted: int) -> bytes:
        return self._reader.read_at(self._at, wanted)

    def _from_blocks(self, wanted: int) -> bytes:
        number, skip = divmod(self._at, self._block_bytes)
        data = self._block(number)[skip : skip + wanted]
        if len(data) < wanted:  # at most one block long, so it ends in the next one
            data += self._block(number + 1)[: wanted - len(data)]
        return data

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        block = self._reader.read_at(number * self._block_bytes, self._block_bytes)
        self._blocks[number] = block
        if len(self._blocks) > self._max_blocks:
            self._blocks.popitem(last=False)
        return block

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("PlaceFile: the file was closed")
