"""MPEG transport streams (TS, M2TS): packet after packet. Bytes as they pass in; lost and broken packets out.

Every packet has 188 bytes and begins with 0x47. Those of one stream count 0 to 15 and around: a step that is not one
tells that packets are gone, unless the packet says that its counter begins anew (discontinuity flag), is sent twice, or
begins a recording that was joined to the one before (counter 0 at a random access point, after program tables).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cineray.index.passing import Follower, Steps, damaged
from cineray.index.reasons import Unfit

_SYNC, _NO_STREAM = 0x47, 0x1FFF
_PACKETS_AT_ONCE = 4096
_LAYOUTS = ((188, 0), (192, 4), (204, 0))
"""Bytes per packet, and how many of them come before the sync byte."""
_COMPARED = slice(12, 188)
"""What is the same in a packet that is sent twice: all but the clock in its adaptation field."""
Rows = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the packets of one file lie."""

    first: int
    packet_bytes: int
    sync_at: int


def packet_layout(front: bytes) -> Layout | None:
    """The layout when `front` shows nothing but packets, from one of its first bytes on: recordings begin anywhere."""
    for first in range(_LAYOUTS[-1][0]):
        for packet_bytes, sync_at in _LAYOUTS:
            syncs = front[first + sync_at :: packet_bytes]
            if len(syncs) >= 4 and syncs.count(_SYNC) == len(syncs):
                return Layout(first, packet_bytes, sync_at)
    return None


class FollowTransport(Follower):
    """Every packet of one transport stream."""

    def __init__(self, size_bytes: int, layout: Layout) -> None:
        self.layout = layout
        self.last: dict[int, npt.NDArray[np.uint8]] = {}
        self.tables_since: dict[int, bool] = {}
        self.gaps: dict[int, tuple[int, int]] = {}
        super().__init__(size_bytes)

    def walk(self) -> Steps:
        """As in `Follower`."""
        yield from self.skip(self.layout.first)
        length = self.layout.packet_bytes
        while self.size - self.at >= length:
            start = self.at
            packets = min(_PACKETS_AT_ONCE, (self.size - self.at) // length)
            data = yield from self.take(packets * length)
            rows = np.frombuffer(data, np.uint8).reshape(-1, length)[:, self.layout.sync_at :]
            bad = np.flatnonzero(rows[:, 0] != _SYNC)
            if len(bad):
                raise damaged(start + int(bad[0]) * length, "a packet of an MPEG transport stream")
            self.count(rows, start)
        if self.at < self.size:
            raise Unfit(
                "truncated",
                f"the file ends {self.size - self.at} bytes into a packet of {length}; copy it again",
            )

    def refuse(self, track: int) -> None:
        """As in `Follower`; of the counters only those of the video stream matter."""
        super().refuse(track)
        if track in self.gaps:
            at, number = self.gaps[track]
            raise Unfit(
                "corrupt",
                f"packets of the video are missing {number} times, first before byte {at}: the recording or the copy "
                "lost them; copy it again, or keep what is left: ffmpeg -i in -c:v libx264 out.mp4",
            )

    def count(self, rows: Rows, start: int) -> None:
        """Hold the counters of each stream against the packets before."""
        streams = (rows[:, 1].astype(np.int32) & 0x1F) << 8 | rows[:, 2]
        for stream in np.unique(streams).tolist():
            if stream != _NO_STREAM:
                self.count_stream(stream, streams, rows, start)
        tables = np.flatnonzero(streams == 0)
        for stream in self.last:
            own = np.flatnonzero(streams == stream)
            seen = len(tables) and (not len(own) or tables[-1] > own[-1])
            self.tables_since[stream] = bool(seen or (not len(own) and self.tables_since.get(stream)))

    def count_stream(self, stream: int, streams: npt.NDArray[np.int32], rows: Rows, start: int) -> None:
        """One stream's packets among these."""
        places = np.flatnonzero(streams == stream)
        own = rows[places]
        before = np.concatenate([self.last.get(stream, own[0])[None], own[:-1]])
        known = np.arange(len(own)) > (-1 if stream in self.last else 0)
        step = (own[:, 3] - before[:, 3]) & 15
        filled = (own[:, 3] & 0x10) > 0
        twice = (step == 0) & (~filled | (own[:, _COMPARED] == before[:, _COMPARED]).all(axis=1))
        fine = twice | ((step == 1) & filled) | _says_anew(own) | _says_anew(before)
        broken = (own[:, 1] & 0x80) > 0  # what received it could not repair it
        for i in np.flatnonzero((known & ~fine) | broken).tolist():
            behind = int(places[i - 1]) + 1 if i else 0
            tables = bool((streams[behind : places[i]] == 0).any()) or (not i and self.tables_since.get(stream, False))
            if broken[i] or not (tables and _begins(own[i])):
                first, number = self.gaps.get(stream, (start + int(places[i]) * self.layout.packet_bytes, 0))
                self.gaps[stream] = (first, number + 1)
        self.last[stream] = own[-1].copy()


def _says_anew(rows: Rows) -> npt.NDArray[np.bool_]:
    """The discontinuity flag of the adaptation field, where there is one."""
    return ((rows[:, 3] & 0x20) > 0) & (rows[:, 4] > 0) & ((rows[:, 5] & 0x80) > 0)


def _begins(row: npt.NDArray[np.uint8]) -> bool:
    """Counter 0, the start of a frame, and a point where decoding may begin: as the first packet of a recording."""
    return bool(row[3] & 0x2F == 0x20 and row[1] & 0x40 and row[4] > 0 and row[5] & 0x40)
