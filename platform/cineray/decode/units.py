"""The units that an H.264 or H.265 packet consists of. A packet in; the first bytes of each unit out."""

from __future__ import annotations

HEAD_BYTES = 16


def unit_heads(data: memoryview, length_bytes: int) -> list[bytes]:
    """The first bytes of each unit; `length_bytes` tell a unit's length, or, where 0, a start code its beginning.

    Nothing where the framing makes no sense.
    """
    if not length_bytes:
        whole = bytes(data)
        return [whole[start : start + HEAD_BYTES] for start in _start_codes(whole)]
    heads, at = [], 0
    while at + length_bytes < len(data):
        size = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        if size == 0 or at + size > len(data):
            return []
        heads.append(bytes(data[at : at + min(size, HEAD_BYTES)]))
        at += size
    return heads


def h264_length_bytes(extradata: bytes) -> int:
    """From an MP4's configuration record; 0 for a stream with start codes."""
    return (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0


def hevc_length_bytes(extradata: bytes) -> int:
    """From an MP4's configuration record; 0 for a stream with start codes."""
    return (extradata[21] & 3) + 1 if len(extradata) > 22 and extradata[0] == 1 else 0


def _start_codes(data: bytes) -> list[int]:
    """Where units begin in a byte stream: after each 00 00 01."""
    found, at = [], data.find(b"\x00\x00\x01")
    while at >= 0:
        found.append(at + 3)
        at = data.find(b"\x00\x00\x01", at + 3)
    return found
