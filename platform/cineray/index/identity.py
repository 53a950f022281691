"""Names made of content: the same bytes are the same video wherever they lie.

`blake3:<hex>` is the hash of all bytes. A remote MP4 is not read whole for a name: `blake3-header:<hex>` is the hash of
its size and of its header, which lists the size and place of every packet. The two never name the same thing, so they
never collide.
"""

from __future__ import annotations

from blake3 import blake3

from cineray.index.looked import CountedReader
from cineray.index.passing import Follower
from cineray.index.reasons import Unfit

_BLOCK_BYTES = 1 << 20
ID_DIGITS = 32


class InOrderHash:
    """Hashes a file's bytes while somebody else reads it: what comes in order is taken, the rest is read at the end."""

    def __init__(self, reader: CountedReader, follower: Follower | None = None) -> None:
        self._reader, self._hash, self._done = reader, blake3(), 0
        self._follower = follower
        self._window_at, self._window = 0, b""

    def saw(self, offset: int, data: bytes) -> None:
        """Bytes of the file that were just read, from `offset` on."""
        if offset <= self._done < offset + len(data):
            fresh = data[self._done - offset :] if offset < self._done else data
            self._hash.update(fresh)
            if self._follower is not None:
                self._follower.saw(fresh)
            self._done = offset + len(data)

    def read_on(self, offset: int, length: int) -> bytes:
        """These bytes of the file, read together with all that lies before them. For offsets that only grow."""
        while self._done < min(offset + length, self._reader.size_bytes):
            kept = self._window[max(0, offset - self._window_at) :]
            block_at, block = self._done, self._next_block()
            self._window_at, self._window = block_at - len(kept), kept + block
        inside = offset - self._window_at
        if inside < 0 or inside + length > len(self._window):  # packets that overlap, or beyond the end
            return self._reader.read_at(offset, length)
        return self._window[inside : inside + length]

    def finish(self) -> str:
        """Read what nobody read in order, and give the content hash."""
        while self._done < self._reader.size_bytes:
            self._next_block()
        return "blake3:" + self._hash.hexdigest()

    def _next_block(self) -> bytes:
        at = self._done
        data = self._reader.read_at(at, _BLOCK_BYTES)
        if not data:
            raise Unfit("changed", f"the file ended at byte {at} while it was read; ingest it again")
        self.saw(at, data)
        return data


def header_hash(size_bytes: int, header: bytes) -> str:
    """The content hash of a file of which only the header was read."""
    return "blake3-header:" + blake3(size_bytes.to_bytes(8, "big") + header).hexdigest()


def video_id(content_hash: str) -> str:
    """The first 32 digits of a content hash."""
    return content_hash.partition(":")[2][:ID_DIGITS]
