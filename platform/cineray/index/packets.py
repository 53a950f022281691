"""The packets of one video stream, as FFmpeg's demuxer gives them: parallel arrays in decode order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from cineray.index.reasons import Unfit

NO_TIME = np.iinfo(np.int64).min
"""The pts or dts of a packet that has none."""
MOST_PACKETS = 50_000_000


@dataclass(slots=True, kw_only=True)
class Packets:
    """One entry per packet. `shown` is False for what the container marks as decoded but not to be shown."""

    pts: npt.NDArray[np.int64]
    dts: npt.NDArray[np.int64]
    duration: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    key: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.bool_]
    disposable: npt.NDArray[np.bool_]
    encrypted: bool = False

    def __len__(self) -> int:
        return len(self.pts)


def real_packets(container: InputContainer, *streams: Stream) -> Iterator[av.Packet[Any]]:
    """The packets of these streams, without the empty ones with which PyAV tells decoders to finish.

    PyAV 18 counts the streams when it begins. A transport stream may announce more later, and then making the last,
    empty packets fails with an IndexError: by then all real ones were given.
    """
    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets, None)
        except IndexError:
            return
        if packet is None:
            return
        if packet.size or packet.pts is not None or packet.dts is not None:
            yield packet


def collect(packets: Iterable[av.Packet[VideoStream]], *, vp8: bool = False, vp9: bool = False) -> Packets:
    """Read all packets to the end. For VP8 and VP9, frames that are never shown are found in their first byte."""
    rows: list[tuple[int, int, int, int, int, bool, bool, bool]] = []
    encrypted = False
    for packet in packets:
        pts, dts, position = packet.pts, packet.dts, packet.pos
        hidden = packet.is_discard or (vp8 and _hidden_vp8(packet)) or (vp9 and _hidden_vp9(packet))
        rows.append(
            (
                NO_TIME if pts is None else pts,
                NO_TIME if dts is None else dts,
                packet.duration or 0,
                -1 if position is None else position,
                packet.size,
                packet.is_keyframe,
                not hidden,
                packet.is_disposable,
            )
        )
        if len(rows) == 1 or len(rows) & 1023 == 0:
            encrypted = encrypted or packet.has_sidedata("encryption_info")
            if len(rows) > MOST_PACKETS:
                raise Unfit("too_large", f"more than {MOST_PACKETS} packets; cut the recording into shorter files")
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    whole = [np.array(column, np.int64) for column in columns[:5]]
    flags = [np.array(column, np.bool_) for column in columns[5:]]
    return Packets(
        pts=whole[0], dts=whole[1], duration=whole[2], position=whole[3], size=whole[4],
        key=flags[0], shown=flags[1], disposable=flags[2], encrypted=encrypted,
    )  # fmt: skip


def hide_repeats(packets: Packets) -> None:
    """Theora says "the same picture again" with an empty packet: no frame of its own, but more time for the last."""
    shown = 0
    for number, size in enumerate(packets.size.tolist()):
        if size == 0 and number:
            packets.shown[number] = False
            packets.duration[shown] += packets.duration[number]
        else:
            shown = number


def _hidden_vp8(packet: av.Packet[VideoStream]) -> bool:
    """VP8 keeps an alternative reference frame in a packet of its own; bit 4 of its first byte says `show_frame`."""
    return packet.size > 0 and not memoryview(packet)[0] & 0x10


def _hidden_vp9(packet: av.Packet[VideoStream]) -> bool:
    """VP9 packs hidden frames together with a shown one, so only a packet of one hidden frame shows nothing."""
    data = memoryview(packet)
    if len(data) == 0 or data[-1] & 0xE0 == 0xC0:  # a superframe: its last frame is shown
        return False
    bits = data[0]
    profile = (bits >> 5 & 1) | (bits >> 3 & 2)
    shift = 2 if profile == 3 else 3  # after marker and profile; profile 3 has one reserved bit more
    show_existing = bits >> shift & 1
    return not show_existing and not bits >> (shift - 2) & 1
