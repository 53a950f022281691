"""A place as the file that FFmpeg reads during visits. A reader and the ranges that a visit will need go in; those are
fetched ahead, a few at a time, and handed out as they are asked for.

    file     [header][....][  run 1  ][...............][ run 2 ][....]
    fetched  [------]      [piece 0 ][piece 1]         [piece 2]          in parallel, at most `ahead` at once

What is asked for and was not planned is read when it is needed: what lies before the first packet or after the last one
(headers, an index at the end) in one piece, anything else in small blocks. Local files are read as asked. The promise:
FFmpeg sees the bytes of the place or an error, never a shorter file.
"""

from __future__ import annotations

import io
import os
import threading
from bisect import bisect_right
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from cineray.decode.ranges import Range
from cineray.decode.reasons import Deadline, DecodeFault
from cineray.storage import RangeReader

PIECE_BYTES = 4 << 20
BLOCK_BYTES = 32 << 10
_KEPT_BLOCKS = 8
_THREADS = 16


class VisitFile(io.RawIOBase):
    """Read-only and seekable. `media` is where the packets lie. For one thread, as the decoder that reads it."""

    def __init__(self, reader: RangeReader, *, remote: bool, media: Range, ahead: int = 4) -> None:
        super().__init__()
        self.reader, self.failure = reader, None
        self.remote, self._media, self._ahead = remote, media, ahead
        self._at, self._deadline = 0, Deadline(3600.0)
        self._pieces: list[Range] = []
        self._fetched: dict[int, Future[bytes]] = {}
        self._blocks: list[tuple[int, bytes]] = []

    failure: BaseException | None
    """The last error of a read: FFmpeg may take it for the end of the file, so it is kept for who asks."""

    def begin_visit(self, ranges: Iterable[Range], deadline: Deadline) -> None:
        """Say what the coming visit will read; the first pieces are asked for at once."""
        self.end_visit()
        self._deadline = deadline
        if self.remote:
            self._pieces = [piece for start, stop in ranges for piece in _cut(start, stop)]
            self._fetch_ahead(0)

    def end_visit(self) -> None:
        """Forget what was fetched ahead."""
        for future in self._fetched.values():
            future.cancel()
        self._pieces, self._fetched, self.failure = [], {}, None

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
        """As for files."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.reader.size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes, at least one before the end: what one piece or block has of them."""
        left = self.reader.size_bytes - self._at
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted <= 0:
            return b""
        try:
            data = self._some(self._at, wanted)
        except BaseException as error:
            self.failure = error
            raise
        self._at += len(data)
        return data

    def _some(self, at: int, wanted: int) -> bytes:
        if not self.remote:
            return self.reader.read_at(at, wanted)
        number = bisect_right(self._pieces, (at, self.reader.size_bytes + 1)) - 1
        if number >= 0 and at < self._pieces[number][1]:
            inside = at - self._pieces[number][0]
            return self._piece(number)[inside : inside + wanted]
        return self._unplanned(at, wanted)

    def _piece(self, number: int) -> bytes:
        self._fetch_ahead(number)
        try:
            return self._fetched[number].result(timeout=self._deadline.left_seconds())
        except TimeoutError:
            start, stop = self._pieces[number]
            raise DecodeFault(
                "timed_out", f"bytes {start} to {stop} had not come when the {self._deadline.seconds:g} s were over"
            ) from None

    def _fetch_ahead(self, number: int) -> None:
        """Ask for this piece and the next few, and let go of the ones before: decoding goes forward."""
        for past in [n for n in self._fetched if n < number - 1]:
            del self._fetched[past]
        for coming in range(number, min(number + self._ahead, len(self._pieces))):
            if coming not in self._fetched:
                start, stop = self._pieces[coming]
                self._fetched[coming] = _pool().submit(self.reader.read_at, start, stop - start)

    def _unplanned(self, at: int, wanted: int) -> bytes:
        for start, block in self._blocks:
            if start <= at < start + len(block):
                return block[at - start : at - start + wanted]
        block = self.reader.read_at(at, self._block_length(at))
        self._blocks = [*self._blocks[-(_KEPT_BLOCKS - 1) :], (at, block)]
        return block[:wanted]

    def _block_length(self, at: int) -> int:
        """Headers whole (up to a piece), as far as the first packet; blocks elsewhere, as far as the next piece."""
        first, last = self._media
        if at < first:
            return min(PIECE_BYTES, first - at)
        if at >= last:
            return min(PIECE_BYTES, self.reader.size_bytes - at)
        following = bisect_right(self._pieces, (at, self.reader.size_bytes + 1))
        stop = self._pieces[following][0] if following < len(self._pieces) else self.reader.size_bytes
        return min(BLOCK_BYTES, stop - at)


def _cut(start: int, stop: int) -> list[Range]:
    return [(at, min(at + PIECE_BYTES, stop)) for at in range(start, stop, PIECE_BYTES)]


_pools: dict[int, ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()


def _pool() -> ThreadPoolExecutor:
    """One pool per process: threads do not survive a fork, so a child makes its own."""
    with _pools_lock:
        pid = os.getpid()
        if pid not in _pools:
            _pools.clear()
            _pools[pid] = ThreadPoolExecutor(_THREADS, thread_name_prefix="cineray-fetch")
        return _pools[pid]
