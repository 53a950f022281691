"""Frames at the start of a cut video that no decoder can show. Packets in; the same out, with those marked as hidden.

    cut from the middle       P B B I B B P ...     what comes before the first key frame refers to frames that are gone
    cut at an open group      I B B P ...           and so may frames that are stored after it but shown before it

Whether a decoder shows them depends on the codec, so where there are such packets it is asked: the first group of
pictures is decoded. All other videos, nearly all, are not touched.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from av.container import InputContainer

from cineray.index.decoded import Decoding
from cineray.index.facts import video_stream
from cineray.index.packets import Packets


def hide_what_cannot_be_shown(packets: Packets, open_it: Callable[[], InputContainer], stream_index: int) -> None:
    """Set `shown` to False for packets of the first group that the decoder shows nothing of."""
    keys = np.flatnonzero(packets.key)
    if len(keys) == 0:
        return
    first, second = int(keys[0]), int(keys[1]) if len(keys) > 1 else len(packets)
    group = np.arange(second)
    leading = packets.shown[:second] & ((group < first) | (packets.pts[:second] < packets.pts[first]))
    if not leading.any():
        return
    with open_it() as container:
        decoding = Decoding(container, video_stream(container, stream_index))
        shown = {number for number, _ in decoding.frames(stop_after=second)}
    for number in np.flatnonzero(leading).tolist():
        packets.shown[number] = number in shown
