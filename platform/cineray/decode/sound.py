"""A video's first sound, on its way into the new file beside the pictures. Packets of the source in; the same packets,
moved by the same span of time as the pictures, out.

    pictures   start ........ end         what lies wholly outside is left out; a packet that lies across the start
    sound    |--|--|--|--|--|--|--|--|    keeps its time before 0, which MP4 writes as a cut of its edit list

Sound that MP4 holds is copied; any other is encoded as AAC.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream as AvAudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from cineray.decode.pyav_decoder import CONTAINER_OPTIONS
from cineray.records import AudioStream
from cineray.storage import PlaceFile, RangeReader

COPIED = ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac")
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 8: "7.1"}
"""By number of channels, because a stream may not name its layout; any other number is mixed down to stereo."""


class Sound:
    """Writes packets as far as the pictures have come, so that neither waits for the other in memory."""

    def __init__(
        self, told: AudioStream, reader: RangeReader, target: OutputContainer, start: Fraction, end: Fraction
    ) -> None:
        self.target, self.start, self.end = target, start, end
        file: Any = PlaceFile(reader)
        self.source = av.open(file, "r", metadata_errors="replace", options=CONTAINER_OPTIONS)
        stream = self.source.streams[told.stream_index]
        assert isinstance(stream, AvAudioStream)
        self.stream = stream
        self.packets = self._copied() if told.codec in COPIED else self._encoded()
        self.waiting: Packet[Any] | None = None

    def write_until(self, seconds: Fraction | None) -> None:
        """All packets that begin no later than this instant of the source; None: all that are left."""
        while (packet := self.waiting or next(self.packets, None)) is not None:
            self.waiting = packet
            if seconds is not None and self.start + (packet.pts or 0) * packet.time_base > seconds:
                return
            self.waiting = None
            self.target.mux_one(packet)
        if seconds is None:
            self.source.close()

    def _copied(self) -> Iterator[Packet[Any]]:
        copy = self.target.add_stream_from_template(self.stream)

        def packets() -> Iterator[Packet[Any]]:
            base = self.stream.time_base or Fraction(1)
            moved = round(self.start / base)
            for packet in _real_packets(self.source, self.stream):
                begin = packet.pts if packet.pts is not None else packet.dts
                if begin is None or (begin + (packet.duration or 0)) * base <= self.start:
                    continue
                if begin * base >= self.end:
                    break
                packet.stream = copy
                packet.pts = packet.dts = begin - moved
                yield packet

        return packets()

    def _encoded(self) -> Iterator[Packet[Any]]:
        context: Any = self.stream.codec_context
        rate, layout = context.sample_rate, _LAYOUTS.get(context.layout.nb_channels, "stereo")
        made = self.target.add_stream("aac", rate=rate, layout=layout)
        made.codec_context.time_base = Fraction(1, rate)

        def packets() -> Iterator[Packet[Any]]:
            evenly = AudioResampler(format="fltp", layout=layout, rate=rate)
            for frame in self.source.decode(self.stream):
                at = (frame.time_base or Fraction(1, rate)) * (frame.pts or 0)
                if at + Fraction(frame.samples, frame.sample_rate) <= self.start:
                    continue
                if at >= self.end:
                    break
                frame.pts, frame.time_base = round((at - self.start) * rate), Fraction(1, rate)
                for even in evenly.resample(frame):
                    yield from made.encode(even)
            for even in evenly.resample(None):
                yield from made.encode(even)
            yield from made.encode(None)

        return packets()


def _real_packets(container: InputContainer, stream: AvAudioStream) -> Iterator[Packet[Any]]:
    """Without the empty ones with which PyAV tells decoders to finish."""
    return (packet for packet in container.demux(stream) if packet.size)
