"""Frames from a decoder, each with the packet that it came from. Needed for two things: the times of frames whose
packets carry none, and the `decode` level of validation. One thread, one frame in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from cineray.index.looked import clockwise_degrees
from cineray.index.packets import NO_TIME, real_packets
from cineray.index.reasons import Unfit


@dataclass(slots=True)
class Decoding:
    """A decoder run over one stream. While `frames` is consumed, `errors` fills up: packet number, what FFmpeg said."""

    container: InputContainer
    stream: VideoStream
    errors: list[tuple[int, str]] = field(default_factory=list)

    def frames(self, *, stop_after: int | None = None) -> Iterator[tuple[int, VideoFrame]]:
        """Every shown frame with its packet's number, in the order in which the decoder shows them.

        `stop_after`: decode only that many packets, and what the decoder still holds after them.
        """
        packets = real_packets(self.container, self.stream)
        for number, packet in enumerate(islice(packets, stop_after)):
            yield from self.one(packet, number)
        yield from self.one(None, -1)

    def one(self, packet: Packet[VideoStream] | None, number: int = -1) -> Iterator[tuple[int, VideoFrame]]:
        """The frames that the decoder gives for one more packet; None for the last time."""
        context: Any = self.stream.codec_context
        if not context.is_open:  # it stays open after seeking
            context.thread_count = 1
            context.copy_opaque = True  # what we hang on a packet comes out on its frame
        if packet is not None:
            packet.opaque = number
        try:
            for frame in context.decode(packet):
                yield (-1 if frame.opaque is None else frame.opaque), frame
        except av.FFmpegError as error:
            self.errors.append((number, error.strerror or str(error)))


class FirstFrame:
    """Decodes packets that pass by until the first frame appears, to learn its turn: Matroska's comes with it."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.decoding, self.rotation_degrees = Decoding(container, stream), 0

    def watch(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        """The same packets; those before the first frame were decoded in passing."""
        seen = False
        for packet in packets:
            for _, frame in () if seen else self.decoding.one(packet):
                self.rotation_degrees, seen = clockwise_degrees(frame.rotation), True
            yield packet


def decoded_times(
    container: InputContainer, stream: VideoStream
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Packet number and time of each shown frame: the time that ffprobe calls `best_effort_timestamp`.

    A stream without any times is given those of its nominal rate, from 0. Frames that the decoder returns after the
    last packet, for which FFmpeg guesses nothing, follow at the distance of the last two.
    """
    decoding, clock = Decoding(container, stream), BestEffort()
    shown, times = [], []
    for number, frame in decoding.frames():
        shown.append(number)
        times.append(clock.time(frame.pts, frame.dts))
    if decoding.errors:
        number, said = decoding.errors[0]
        raise Unfit(
            "corrupt",
            f"packet {number} cannot be decoded ({said}), and the container gives no times that would do "
            "without decoding; repair it: ffmpeg -i in -c:v libx264 out.mp4",
        )
    if -1 in shown:
        detail = "the decoder cannot tell which packet a frame came from; convert it: ffmpeg -i in -c:v libx264 out.mp4"
        raise Unfit("bad_timestamps", detail)
    return np.array(shown, np.int64), filled_up(np.array(times, np.int64), _frame_ticks(stream))


class BestEffort:
    """Which of a frame's two times to believe: pts, unless they were caught out more often than the dts.

    Caught out means: not later than the one before.
    """

    def __init__(self) -> None:
        self.wrong_pts = self.wrong_dts = 0
        self.last_pts = self.last_dts = NO_TIME

    def time(self, pts: int | None, dts: int | None) -> int:
        """The frame's time, or `NO_TIME`; called once per frame, in the order in which they are shown."""
        if dts is not None:
            self.wrong_dts += dts <= self.last_dts
            self.last_dts = dts
        elif pts is not None:
            self.last_dts = pts
        if pts is not None:
            self.wrong_pts += pts <= self.last_pts
            self.last_pts = pts
        elif dts is not None:
            self.last_pts = dts
        if pts is not None and (self.wrong_pts <= self.wrong_dts or dts is None):
            return pts
        return NO_TIME if dts is None else dts


def filled_up(times: npt.NDArray[np.int64], frame_ticks: int) -> npt.NDArray[np.int64]:
    """Times for frames that have none: before the first known one and after it, in steps of the frame's length."""
    known = np.flatnonzero(times != NO_TIME)
    if len(known) == len(times):
        return times
    if len(known) == 0:
        return np.arange(len(times), dtype=np.int64) * frame_ticks
    step = frame_ticks
    if len(known) > 1:
        gaps = np.diff(times[known]) // np.diff(known)
        step = max(1, int(np.median(gaps)))
    nearest = known[np.clip(np.searchsorted(known, np.arange(len(times)), side="right") - 1, 0, None)]
    guessed: npt.NDArray[np.int64] = times[nearest] + (np.arange(len(times)) - nearest) * step
    return np.where(times == NO_TIME, guessed, times)


def _frame_ticks(stream: VideoStream) -> int:
    """One frame's length in ticks at the stream's nominal rate."""
    rate = stream.average_rate or stream.base_rate or 25
    base = stream.time_base
    return max(1, round(1 / (rate * base))) if base else 1
