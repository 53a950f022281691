"""How long a file says that it is. Its first bytes in; `Unfit` when it is shorter than that, and so was cut.

Matroska and AVI tell their size in their first bytes, and FFmpeg reads what is there without a word. What
other containers tell, and where, `follow.py` knows. (MP4's header is held against the file packet by packet.)
"""

from __future__ import annotations

import struct

from cineray.index.reasons import Unfit

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def refuse_shorter_than_declared(front: bytes, size_bytes: int) -> None:
    """Raise `Unfit` when the file declares an end that lies beyond its last byte."""
    end = declared_end(front)
    if end is not None and end > size_bytes:
        raise Unfit("truncated", f"the file has {size_bytes} bytes and declares {end}; copy it again")


def declared_end(front: bytes) -> int | None:
    """Where the file says that it ends; None where it does not say, as a live recording does not."""
    if front.startswith(_EBML):
        at = front.find(_SEGMENT)
        return _matroska_end(front, at + len(_SEGMENT)) if at >= 0 else None
    if front.startswith(b"RIFF") and front[8:12] == b"AVI " and len(front) >= 12:
        (size,) = struct.unpack_from("<I", front, 4)
        return size + 8 if size else None
    return None


def _matroska_end(front: bytes, at: int) -> int | None:
    """The end of the element whose size is told at `at`: the leading zeros tell how many bytes tell it."""
    if at >= len(front) or front[at] == 0:
        return None
    length = 9 - front[at].bit_length()
    ones = (1 << 7 * length) - 1
    size = int.from_bytes(front[at : at + length], "big") & ones
    return None if size == ones or at + length > len(front) else at + length + size
