"""May a packet stay undecoded when nobody wants its frame? A packet in; yes only where the codec itself says so.

H.264   nal_ref_idc is 0: no other picture refers to this one (ITU-T H.264, 7.4.1)
H.265   a sub-layer non-reference picture (even types 0 to 14) of the highest sub-layer: within its sub-layer nobody
        refers to it, and there is no sub-layer above (ITU-T H.265, table 7-1)

For other codecs the container's own flag counts. Dropping such packets changes no other picture by a bit.
"""

from __future__ import annotations

from collections.abc import Callable

from cineray.decode.units import h264_length_bytes, hevc_length_bytes, unit_heads

PacketTest = Callable[[memoryview], bool]


def disposable_test(codec: str, extradata: bytes) -> PacketTest | None:
    """The test for packets of one stream; None where only the container can tell."""
    if codec == "h264":
        length_bytes = h264_length_bytes(extradata)
        return lambda data: _h264(data, length_bytes)
    if codec == "hevc":
        # Without the configuration record it is not known how many sub-layers there are: then none are disposable.
        length_bytes, sub_layers = hevc_length_bytes(extradata), _sub_layers(extradata)
        return lambda data: sub_layers > 0 and _hevc(data, length_bytes, sub_layers)
    return None


def _sub_layers(extradata: bytes) -> int:
    return extradata[21] >> 3 & 7 if len(extradata) > 22 and extradata[0] == 1 else 0


def _h264(data: memoryview, length_bytes: int) -> bool:
    """All slices must say so: of a picture in two fields, the first may be referred to when the second is not."""
    slices = [head[0] for head in unit_heads(data, length_bytes) if head[0] & 0x1F in (1, 2, 5)]
    return bool(slices) and all(first & 0x60 == 0 for first in slices)


def _hevc(data: memoryview, length_bytes: int, sub_layers: int) -> bool:
    heads = [int.from_bytes(head[:2], "big") for head in unit_heads(data, length_bytes) if len(head) > 1]
    slices = [head for head in heads if head >> 9 & 0x3F < 32]
    return bool(slices) and all(_non_reference(head, sub_layers) for head in slices)


def _non_reference(head: int, sub_layers: int) -> bool:
    kind, layer, temporal_id = head >> 9 & 0x3F, head >> 3 & 0x3F, (head & 7) - 1
    return layer == 0 and kind <= 14 and kind % 2 == 0 and temporal_id == sub_layers - 1
