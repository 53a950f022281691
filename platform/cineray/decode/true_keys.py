"""Is a packet that the container calls a key frame one? A packet in; no where the codec says that it is not.

FFmpeg, and with it containers that it wrote, also calls the beginning of a gradual refresh a key frame: a picture with
references, from which a decoder gets clean pictures only a second later, and before that pictures that look clean. A
decode that begins there shows wrong frames without an error. A true key frame consists of slices without references.
"""

from __future__ import annotations

from cineray.decode.disposable import PacketTest
from cineray.decode.units import h264_length_bytes, hevc_length_bytes, unit_heads

_INTRA_SLICES = (2, 4, 7, 9)  # I and SI, said of one slice or of all of the picture


def true_key_test(codec: str, extradata: bytes) -> PacketTest | None:
    """The test for key packets of one stream; None for codecs whose key frames are what the container says."""
    if codec == "h264":
        length_bytes = h264_length_bytes(extradata)
        return lambda data: _h264(data, length_bytes)
    if codec == "hevc":
        length_bytes = hevc_length_bytes(extradata)
        return lambda data: _hevc(data, length_bytes)
    return None


def _h264(data: memoryview, length_bytes: int) -> bool:
    heads = unit_heads(data, length_bytes)
    slices = [head for head in heads if head[0] & 0x1F in (1, 2, 5)]
    return bool(slices) and all(head[0] & 0x1F == 5 or slice_type(head) in _INTRA_SLICES for head in slices)


def _hevc(data: memoryview, length_bytes: int) -> bool:
    """Random access points are the types 16 to 23."""
    kinds = [head[0] >> 1 & 0x3F for head in unit_heads(data, length_bytes)]
    slices = [kind for kind in kinds if kind < 32]
    return bool(slices) and all(16 <= kind <= 23 for kind in slices)


def slice_type(head: bytes) -> int:
    """The second number of an H.264 slice header; numbers are written in exp-Golomb code.

    0 -> 1     1 -> 010     2 -> 011     3 -> 00100     ...     as many zeros before as there are bits after the first 1
    """
    plain = head[1:].replace(b"\x00\x00\x03", b"\x00\x00")  # the 3 only keeps start codes from appearing
    bits = "".join(f"{byte:08b}" for byte in plain)
    _, at = _exp_golomb(bits, 0)
    return _exp_golomb(bits, at)[0]


def _exp_golomb(bits: str, at: int) -> tuple[int, int]:
    """A number and where the next one begins; -1 where the bits end before it."""
    one = bits.find("1", at)
    end = 2 * one - at + 1
    return (-1, len(bits)) if one < 0 or end > len(bits) else (int(bits[one:end], 2) - 1, end)
