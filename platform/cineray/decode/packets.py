"""The frame table seen from the packets: which frame a packet holds, and whether it is the packet that was indexed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from cineray.decode.reasons import DecodeFault
from cineray.records import FrameTable


class PacketTable:
    """Questions about packets, by their numbers in decode order."""

    def __init__(self, frames: FrameTable) -> None:
        self._frames = frames
        count = int(frames.decode_order.max()) + 1 if len(frames) else 0
        self._frame_of = np.full(count, -1, np.int64)
        self._frame_of[frames.decode_order] = np.arange(len(frames))
        ranks = np.argsort(np.argsort(frames.decode_order, kind="stable"), kind="stable")
        self.reorder_depth = int((ranks - np.arange(len(frames))).max()) if len(frames) else 0
        """How many frames may be decoded before one that is shown before them."""
        self._key_pts = frames.pts[frames.key]

    def frame_of(self, number: int) -> int:
        """The frame of a packet; -1 where it shows none."""
        return int(self._frame_of[number]) if 0 <= number < len(self._frame_of) else -1

    def disposable(self, number: int) -> bool:
        """Does the container say that no other frame refers to this packet's?"""
        frame = self.frame_of(number)
        return frame >= 0 and bool(self._frames.disposable[frame])

    def key_pts_before(self, pts: int) -> int:
        """The time of the key frame before this instant; well before the first frame where there is none."""
        at = int(np.searchsorted(self._key_pts, pts)) - 1
        return int(self._key_pts[at]) if at >= 0 else int(self._frames.pts[0]) - (1 << 20)

    def check(self, number: int, packet: Packet[VideoStream], *, exactly: bool) -> None:
        """The packet must have the time that the index says; `exactly`: and the place and the size."""
        frame = self.frame_of(number)
        if frame < 0:
            return
        told = [("time", packet.pts, int(self._frames.pts[frame]))]
        if exactly and self._frames.position[frame] >= 0:
            told += [
                ("place", packet.pos, int(self._frames.position[frame])),
                ("size", packet.size, int(self._frames.size_bytes[frame])),
            ]
        for what, found, expected in told:
            if found is not None and found != expected:
                raise DecodeFault(
                    "wrong_frame",
                    f"packet {number} has the {what} {found}, and the index says {expected} of frame {frame}: it was "
                    "made of other bytes; ingest the video again",
                )


def real_packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """The packets of a stream, without the empty ones with which PyAV tells decoders to finish."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except IndexError:  # PyAV 18, where a transport stream announced another stream on the way: all were given
            return
        if packet is None:
            return
        if packet.size or packet.pts is not None or packet.dts is not None:
            yield packet
