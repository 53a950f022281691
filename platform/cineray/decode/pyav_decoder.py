"""The decoder that knows the index: FFmpeg through PyAV, fed by runs. Frame numbers go in, pictures come out.

It seeks to the key frames that the index names, hands the decoder the packets of each run and nothing else, and leaves
out packets that no other refers to and whose frames nobody wants. Each packet carries its number through the decoder:
a frame is known by its packet and never by counting. FFmpeg's habit of decoding a few frames when a file is opened
(26 ms of CPU for one in HD) is switched off: what it would find out is in the index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from cineray.decode.colour import colour_of
from cineray.decode.disposable import disposable_test
from cineray.decode.geometry import Pixels, between_borders, coded_crop, turned
from cineray.decode.options import DecodeOptions
from cineray.decode.packets import PacketTable, real_packets
from cineray.decode.reasons import Deadline, DecodeFault
from cineray.decode.runs import Run, runs_for
from cineray.decode.scale import Scaler
from cineray.decode.true_keys import true_key_test
from cineray.decode.visit_file import VisitFile
from cineray.records import Crop, IndexedVideo

# No demuxer that opens other files; -genpts: times are those that the index saw.
CONTAINER_OPTIONS = {
    "fflags": "-genpts",
    "skip_estimate_duration_from_pts": "1",
    "protocol_whitelist": "none",
    "format_whitelist": (
        "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,ogg,mpegts,mpeg,mxf,nut,ivf,gxf,rm,wtv,dv,yuv4mpegpipe,"
        "h264,hevc,m4v,mpegvideo,obu,av1,vc1,vvc"
    ),
}
_UNPROBED = {**CONTAINER_OPTIONS, "codec_whitelist": "none"}
"""With no codec allowed while opening, FFmpeg decodes nothing then; the decoder proper is opened afterwards, by us."""
SEEKABLE = ("mp4", "mov", "matroska", "webm")
"""Containers in which a key frame is found by its time; others are walked through from their beginning."""
_MOST_SEEKS = 3


class _NoKeyFrame(Exception):
    """A run began at a packet that is called a key frame and is none."""


class PyavDecoder:
    """One open video, read through PyAV."""

    def __init__(self, video: IndexedVideo, file: VisitFile) -> None:
        self.video, self._file = video, file
        self.decoded = 0
        self.faults: dict[int, DecodeFault] = {}
        self._table = PacketTable(video.frames)
        self._scaler = Scaler(colour_of(video))
        self._seekable = video.container in SEEKABLE and video.times_from == "packets"
        self._packets: Iterator[Packet[VideoStream]] = iter(())
        self._container: InputContainer | None = None
        self._no_keys: set[int] = set()
        self._next = 0  # the number of the packet that comes next; -1 when that is not known

    def pictures(
        self, frames: Sequence[int], deadline: Deadline, options: DecodeOptions
    ) -> Iterator[tuple[int, _PyavPicture]]:
        """See `seam.FrameDecoder`. A frame that does not come is tried once more from the key frame before."""
        self.faults = {}
        yield from self._frames(frames, deadline, options, keys_back=0)
        yield from self._frames(self._worth_a_second_try(), deadline, options, keys_back=1)

    def close(self) -> None:
        """Let go of FFmpeg's objects."""
        if self._container is not None:
            self._container.close()
        self._container, self._packets, self._next = None, iter(()), -1

    def _frames(
        self, frames: Sequence[int], deadline: Deadline, options: DecodeOptions, *, keys_back: int
    ) -> Iterator[tuple[int, _PyavPicture]]:
        """Run by run; a run that begins at what turns out to be no key frame gives way to one that begins earlier."""
        runs = runs_for(self.video.frames, frames, keys_back=keys_back, no_keys=self._no_keys)
        while runs:
            run = runs.pop(0)
            try:
                yield from self._run(run, deadline, options)
            except _NoKeyFrame:
                self._no_keys.add(run.key_frame)
                left = [frame for coming in (run, *runs) for frame in coming.wanted]
                runs = runs_for(self.video.frames, left, keys_back=keys_back, no_keys=self._no_keys)

    def _worth_a_second_try(self) -> list[int]:
        """Frames that the decoder kept back, as after a key frame from which a picture only builds up by and by."""
        again = [frame for frame, fault in self.faults.items() if fault.reason == "decode_failed"]
        for frame in again:
            del self.faults[frame]
        return again

    def _run(self, run: Run, deadline: Deadline, options: DecodeOptions) -> Iterator[tuple[int, _PyavPicture]]:
        waiting = set(run.wanted)
        try:
            for number, packet in self._packets_of(run, deadline, check=options.verify != "none"):
                for frame, picture in self._decode(packet, number, waiting):
                    yield frame, picture
            for frame, picture in self._decode(None, -1, waiting):
                yield frame, picture
        except DecodeFault as fault:
            self._next = -1
            self._blame(waiting, fault)
        except av.FFmpegError as error:
            self._next = -1
            self._blame(waiting, self._explained(error))
        for frame in waiting - self.faults.keys():
            self.faults[frame] = DecodeFault("decode_failed", f"the decoder shows no picture for frame {frame}")

    def _blame(self, frames: set[int], fault: DecodeFault) -> None:
        for frame in frames:
            self.faults[frame] = fault

    def _explained(self, error: av.FFmpegError) -> DecodeFault:
        if self._file.failure is not None:
            raise self._file.failure
        return DecodeFault("decode_failed", f"FFmpeg: {error.strerror or error}")

    # ---- packets ---------------------------------------------------------------------------------------------------

    def _packets_of(self, run: Run, deadline: Deadline, *, check: bool) -> Iterator[tuple[int, Packet[VideoStream]]]:
        """The packets of a run that must be decoded, each with its number."""
        wanted = {int(self.video.frames.decode_order[frame]) for frame in run.wanted}
        for number, packet in self._from(run, deadline):
            deadline.check(self.decoded)
            if number == run.first and run.key_frame >= 0:
                self._refuse_false_key(packet)
            if check:
                self._table.check(number, packet, exactly=number in wanted or number == run.first)
            if number in wanted or not self._disposable(number, packet):
                yield number, packet
            if number == run.last:
                return
        if self._file.failure is not None:
            raise self._file.failure
        raise DecodeFault("truncated", f"the packets end before packet {run.last}; copy the file again")

    def _from(self, run: Run, deadline: Deadline) -> Iterator[tuple[int, Packet[VideoStream]]]:
        """All packets from the run's first on."""
        self._opened()
        if self._next == run.first:
            self._restart_decoder()
        elif self._seekable and run.key_frame >= 0 and (first := self._sought(run, deadline)) is not None:
            self._next = run.first + 1
            yield run.first, first
        else:
            self._rewind_to(run.first)
        for packet in self._packets:
            number, self._next = self._next, self._next + 1
            deadline.check(self.decoded)
            if number >= run.first:
                yield number, packet

    def _sought(self, run: Run, deadline: Deadline) -> Packet[VideoStream] | None:
        """The key frame's packet, by seeking; None when it is not found there and one must go from the beginning."""
        container, stream = self._opened()
        pts = int(self.video.frames.pts[run.key_frame])
        target = pts
        for _ in range(_MOST_SEEKS):
            container.seek(target, stream=stream)
            self._packets = real_packets(container, stream)
            for packet in self._packets:
                deadline.check(self.decoded)
                if packet.is_keyframe and packet.pts == pts and not packet.is_discard:
                    self._restart_decoder()
                    return packet
                if packet.is_keyframe and packet.pts is not None and packet.pts > pts:
                    break  # FFmpeg's table goes by decoding times, and led us to the key frame after
            target = self._table.key_pts_before(target)
        return None

    def _rewind_to(self, first: int) -> None:
        """Go to the stream's first packet, by opening again where needed; packets are then counted up to `first`."""
        if not 0 <= self._next <= first:
            self.close()
        self._opened()
        self._restart_decoder()

    def _opened(self) -> tuple[InputContainer, VideoStream]:
        if self._container is None:
            self._file.seek(0)
            try:
                self._container = av.open(
                    self._file,
                    "r",
                    metadata_errors="replace",
                    buffer_size=1 << 16,
                    options=_UNPROBED if self._seekable else CONTAINER_OPTIONS,
                )
            except av.FFmpegError as error:
                raise self._explained(error) from error
            stream = self._stream(self._container)
            self._packets, self._next = real_packets(self._container, stream), 0
            extradata = bytes(stream.codec_context.extradata or b"")
            self._disposable_data = disposable_test(self.video.codec, extradata)
            self._true_key = true_key_test(self.video.codec, extradata)
        return self._container, self._stream(self._container)

    def _stream(self, container: InputContainer) -> VideoStream:
        index = self.video.stream_index
        stream = container.streams[index] if index < len(container.streams) else None
        if not isinstance(stream, VideoStream):
            raise DecodeFault("wrong_frame", f"stream {index} is no video stream; ingest the video again")
        if self._seekable:
            for other in container.streams:
                if other.index != index:
                    other.discard = Discard.all
        return stream

    def _refuse_false_key(self, packet: Packet[VideoStream]) -> None:
        if self._true_key is not None and not self._true_key(memoryview(packet)):
            self._next = -1
            raise _NoKeyFrame

    def _disposable(self, number: int, packet: Packet[VideoStream]) -> bool:
        if self._disposable_data is None:
            return self._table.disposable(number)
        return self._disposable_data(memoryview(packet))

    # ---- pictures --------------------------------------------------------------------------------------------------

    def _restart_decoder(self) -> None:
        """Make the decoder forget what it held, and tell it how far frames are reordered: it would have to guess."""
        context: Any = self._stream(self._container_now()).codec_context
        if not context.is_open:
            context.thread_count = 1
            context.copy_opaque = True  # what we hang on a packet comes out on its frame
            context.open(strict=False)
        context.flush_buffers()
        context.reorder_depth = max(context.reorder_depth, self._table.reorder_depth)

    def _decode(
        self, packet: Packet[VideoStream] | None, number: int, waiting: set[int]
    ) -> Iterator[tuple[int, _PyavPicture]]:
        """The wanted pictures that the decoder gives for one more packet, or (None) for the last time."""
        context: Any = self._stream(self._container_now()).codec_context
        if packet is not None:
            packet.opaque = [number]  # PyAV tells these apart by their addresses, and small numbers share theirs
            self.decoded += 1
        for picture in context.decode(packet):
            frame = self._table.frame_of((picture.opaque or [-1])[0])
            if frame in waiting:
                self._check_picture(frame, picture)
                if frame in self.faults:
                    continue
                waiting.discard(frame)
                yield frame, _PyavPicture(picture, self.video, self._scaler)

    def _check_picture(self, frame: int, picture: VideoFrame) -> None:
        if picture.is_corrupt:
            self.faults[frame] = DecodeFault("corrupt", f"the decoder marks frame {frame} as damaged")
        elif (picture.width, picture.height) != (self.video.width, self.video.height):
            self.faults[frame] = DecodeFault(
                "decode_failed",
                f"frame {frame} has {picture.width}x{picture.height} pixels and the index says "
                f"{self.video.width}x{self.video.height}; videos that change their size are not decoded",
            )

    def _container_now(self) -> InputContainer:
        return self._opened()[0]


class _PyavPicture:
    """A decoded frame, scaled on demand; `frame` is FFmpeg's own, for who encodes it again."""

    def __init__(self, frame: VideoFrame, video: IndexedVideo, scaler: Scaler) -> None:
        self.frame, self._video, self._scaler = frame, video, scaler

    def write(self, crop: Crop, into_HWC: Pixels) -> None:
        """See `seam.Picture`."""
        pixels = self._scaler.pixels(self.frame, coded_crop(crop, self._video))
        np.copyto(between_borders(crop, into_HWC), turned(pixels, self._video.rotation_degrees, flip=crop.flip))
