"""A video encoded anew for training. A video at its place, which of its frames and at which times in; an MP4 whose
frames are these, and a few of the pictures that went into it, out.

    frames wanted   0 . 2 . 4 .       from the index, decoded in one pass forward
    times           0 . 40 . 80 .     given, in a time base of the caller's: written as they are
    the file        K P P ...         upright, 4:2:0, a key frame every `gop` frames, header in front

The resize is the one that batches get (`scale.py`). A video of which one wanted frame cannot be had is a `Reject` and
leaves no file. Whether the file holds what it should is for the caller to see: index it, and compare.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from cineray.decode.colour import LIMITED, MATRICES, PRIMARIES, TRANSFERS, UNSPECIFIED, Colour, colour_of
from cineray.decode.encoding import ENCODERS, Encoding, codec_options, encoded_size
from cineray.decode.filters import chain_of
from cineray.decode.opened import OpenVideo
from cineray.decode.options import DecodeOptions
from cineray.decode.pyav_decoder import PyavDecoder
from cineray.decode.ranges import ranges_for
from cineray.decode.reasons import Deadline, DecodeFault
from cineray.decode.scale import FLAGS
from cineray.decode.sound import Sound
from cineray.errors import PlaceError, UsageError
from cineray.records import IndexedVideo, Place, Reject

Luma = npt.NDArray[np.uint8]
_TURNS = {0: (), 90: (("transpose", "clock"),), 180: (("hflip", ""), ("vflip", "")), 270: (("transpose", "cclock"),)}
_BT709 = MATRICES["bt709"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Times:
    """Which frames of a video are written, in display order, and when each is shown: T entries."""

    frame_numbers_T: npt.NDArray[np.int64]
    pts_T: npt.NDArray[np.int64]
    """Strictly increasing, from 0, in `time_base`; one frame may be shown several times."""
    end_pts: int
    """When the last one is no longer shown."""
    time_base: Fraction
    start_seconds: Fraction
    """The instant of the video that becomes 0; sound is moved by it."""

    def __post_init__(self) -> None:
        ends = np.append(self.pts_T, self.end_pts)
        if len(self.pts_T) == 0 or self.pts_T[0] != 0 or bool(np.any(np.diff(ends) <= 0)):
            raise UsageError("the times of an encoding must begin at 0 and increase strictly up to their end")
        if self.time_base.numerator != 1 or len(self.frame_numbers_T) != len(self.pts_T):
            raise UsageError(
                f"{len(self.frame_numbers_T)} frames have {len(self.pts_T)} times in units of {self.time_base} s; "
                "wanted one each, in units of 1/n s"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """What was written, for comparing."""

    width: int
    height: int
    luma_NHW: dict[int, Luma]
    """Of some of the new frames, by number: the brightness that went into the encoder."""


def reencode(
    video: IndexedVideo,
    place: Place,
    out_path: str,
    encoding: Encoding,
    times: Times,
    *,
    keep: Sequence[int] = (),
    options: DecodeOptions | None = None,
) -> Encoded | Reject:
    """Write the frames of `video` that `times` names to `out_path`; `keep`: new frames whose brightness is returned."""
    options = options or DecodeOptions()
    try:
        opened = OpenVideo(video, place, "pyav", options)
        try:
            return _Writing(video, encoding, times, frozenset(keep), options).write(opened, out_path)
        finally:
            opened.close()
    except (DecodeFault, PlaceError) as fault:
        said = fault.detail if isinstance(fault, DecodeFault) else str(fault)
        return _rejected(video, out_path, fault.reason, said)
    except av.FFmpegError as error:
        return _rejected(video, out_path, "decode_failed", f"FFmpeg cannot encode it: {error.strerror or error}")


def _rejected(video: IndexedVideo, out_path: str, reason: str, detail: str) -> Reject:
    if os.path.exists(out_path):
        os.unlink(out_path)
    return Reject(name=video.video_id, stage="standardise", reason=reason, detail=detail)


class _Writing:
    """One encoding on its way."""

    def __init__(
        self, video: IndexedVideo, encoding: Encoding, times: Times, keep: frozenset[int], options: DecodeOptions
    ) -> None:
        self.video, self.encoding, self.times, self.keep, self.options = video, encoding, times, keep, options
        self.width, self.height = encoded_size(video, encoding.short_side)
        self.source = colour_of(video)
        rgb = self.source.matrix == MATRICES["gbr"]
        self.colour = Colour(matrix=_BT709 if rgb else self.source.matrix, range=LIMITED)
        self.graphs: dict[tuple[str, int, int], Graph] = {}
        self.luma: dict[int, Luma] = {}

    def write(self, opened: OpenVideo, out_path: str) -> Encoded:
        """All frames, then the file is closed and its header put in front."""
        container = {"movflags": "+faststart", "fflags": "+bitexact"}
        container["video_track_timescale"] = str(self.times.time_base.denominator)
        with av.open(out_path, "w", format="mp4", options=container) as target:
            stream = self._stream(target)
            sound = self._sound(opened, target)
            for packet in self._packets(opened, stream):
                if sound is not None:
                    sound.write_until(self.times.start_seconds + (packet.pts or 0) * self.times.time_base)
                target.mux_one(packet)
            if sound is not None:
                sound.write_until(None)
        return Encoded(width=self.width, height=self.height, luma_NHW=self.luma)

    def _stream(self, target: OutputContainer) -> VideoStream:
        stream = target.add_stream(ENCODERS[self.encoding.codec].library, options=codec_options(self.encoding))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
        context: Any = stream.codec_context
        context.time_base = self.times.time_base
        context.thread_count = 1
        context.colorspace, context.color_range = self.colour.matrix, self.colour.range
        context.color_primaries = PRIMARIES.get(self.video.color_primaries, UNSPECIFIED)
        context.color_trc = TRANSFERS.get(self.video.color_transfer, UNSPECIFIED)
        if self.encoding.codec == "hevc":
            context.codec_tag = "hvc1"  # players of Apple's know it by this name alone
        return stream

    def _sound(self, opened: OpenVideo, target: OutputContainer) -> Sound | None:
        if self.encoding.audio == "drop" or not self.video.audio:
            return None
        end = self.times.start_seconds + self.times.end_pts * self.times.time_base
        return Sound(self.video.audio[0], opened.file.reader, target, self.times.start_seconds, end)

    def _packets(self, opened: OpenVideo, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
        """The encoder's packets, each with its frame's own length."""
        pts = self.times.pts_T.tolist()
        length = {at: until - at for at, until in pairwise([*pts, self.times.end_pts])}
        for frame in chain(self._timed(self._frames(opened), pts), [None]):
            for packet in stream.encode(frame):
                packet.duration = length[packet.pts]
                yield packet

    def _timed(self, frames: Iterator[VideoFrame], pts: list[int]) -> Iterator[VideoFrame]:
        for frame, at in zip(frames, pts, strict=True):
            frame.pts, frame.time_base = at, self.times.time_base
            frame.pict_type = PictureType.NONE  # else the encoder would put key frames where the source has them
            yield frame

    def _frames(self, opened: OpenVideo) -> Iterator[VideoFrame]:
        """The pictures in the order in which they are shown, scaled; a frame that does not come is a fault."""
        assert isinstance(opened.decoder, PyavDecoder)
        numbers = self.times.frame_numbers_T.tolist()
        distinct = np.unique(self.times.frame_numbers_T).tolist()
        deadline = Deadline(self.options.budget_seconds)
        ranges = ranges_for(self.video, distinct, gap_bytes=self.options.gap_bytes) if opened.file.remote else []
        opened.file.begin_visit(ranges, deadline)
        at = 0
        for expected, (number, picture) in zip(
            distinct, opened.decoder.pictures(distinct, deadline, self.options), strict=False
        ):
            if number != expected:
                break
            scaled = self._scaled(picture.frame)
            while at < len(numbers) and numbers[at] == number:
                if at in self.keep:
                    self.luma[at] = brightness(scaled)
                yield scaled
                at += 1
        if at < len(numbers):
            missing = numbers[at]
            raise opened.decoder.faults.get(missing, DecodeFault("decode_failed", f"frame {missing} does not come"))

    def _scaled(self, frame: VideoFrame) -> VideoFrame:
        if (frame.width, frame.height) != (self.video.width, self.video.height):
            raise DecodeFault("decode_failed", f"a frame has {frame.width}x{frame.height} pixels, unlike the others")
        key = (frame.format.name, frame.width, frame.height)
        if key not in self.graphs:
            self.graphs[key] = self._graph(frame)
        frame.colorspace, frame.color_range = self.source.matrix, self.source.range
        self.graphs[key].vpush(frame)
        return self.graphs[key].vpull()

    def _graph(self, frame: VideoFrame) -> Graph:
        """Turn, resize and convert, in FFmpeg's filters."""
        scale = f"{self.width}:{self.height}:flags={FLAGS}:out_range=limited"
        if self.source.matrix != self.colour.matrix:
            scale += ":out_color_matrix=bt709"
        steps = [*_TURNS[self.video.rotation_degrees], ("scale", scale), ("format", "pix_fmts=yuv420p")]
        return chain_of(frame, self.source, steps)


def luma_of(video: IndexedVideo, place: Place, numbers: Sequence[int], options: DecodeOptions) -> dict[int, Luma]:
    """The brightness of some frames of a video, each found by seeking; those that cannot be had are left out."""
    deadline = Deadline(options.budget_seconds)
    opened = OpenVideo(video, place, "pyav", options)
    try:
        assert isinstance(opened.decoder, PyavDecoder)
        opened.file.begin_visit([], deadline)
        found = opened.decoder.pictures(sorted(numbers), deadline, options)
        return {number: brightness(picture.frame) for number, picture in found}
    finally:
        opened.close()


def brightness(frame: VideoFrame) -> Luma:
    """A copy of the first plane of a planar picture, without the padding at the ends of lines."""
    plane = frame.planes[0]
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return lines[: frame.height, : frame.width].copy()
