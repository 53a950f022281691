"""Containers that decoders get wrong, rewritten without touching a picture. A video in; an MP4 with the same frames at
the same times out, proven by indexing it and by decoding both: every picture is the same, also when its key frames are
sought.

Seeking in MPEG-TS, AVI and bare streams is guesswork: decoders return frames that are up to a second off, without an
error. An MP4 with its header in front holds the same packets with exact times and places. What MP4 cannot hold goes
into MOV or Matroska.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from cineray.errors import PlaceError
from cineray.index.check import compare_pictures
from cineray.index.demux import open_container
from cineray.index.kept import why_rewrite
from cineray.index.looked import CountedReader
from cineray.index.packets import real_packets
from cineray.index.reasons import Unfit, reject
from cineray.index.video import index_video
from cineray.records import FrameTable, IndexedVideo, Place, Reject, VideoFile
from cineray.storage import AccessPolicy, open_place

_FORMATS = ("mp4", "mov", "matroska")


def needs_remux(video: IndexedVideo) -> str | None:
    """Why this video must be rewritten before frames are taken from it at random; None when it may stay as it is."""
    return why_rewrite(video.container, video.times_from)


def remux(
    file: VideoFile, video: IndexedVideo, out_path: str | os.PathLike[str], *, policy: AccessPolicy | None = None
) -> IndexedVideo | Reject:
    """Write the streams of `file`, indexed as `video`, to `out_path`, and index that. A `Reject` leaves no file."""
    path, refused = os.fspath(out_path), []
    try:
        with open_place(file.place, policy=policy or AccessPolicy.from_env(), expect_tag=video.version_tag) as reader:
            for name in _FORMATS:
                try:
                    return _remux_as(name, reader, video, path)
                except (Unfit, av.FFmpegError, ValueError) as error:
                    refused.append(f"{name}: {error}")
                    if os.path.exists(path):
                        os.unlink(path)
    except PlaceError as error:
        return reject(file, error.reason, str(error))
    detail = f"this {video.container} file cannot be rewritten without loss ({'; '.join(refused)}); convert it: "
    return reject(file, "decode_failed", detail + "ffmpeg -i in -c:v libx264 out.mp4")


def _remux_as(name: str, reader: CountedReader, video: IndexedVideo, path: str) -> IndexedVideo:
    with open_container(reader) as source:
        _write(source, video, name, path)
    result = index_video(VideoFile(name=path, place=Place(uri=os.path.abspath(path))))
    if isinstance(result, Reject):
        raise Unfit(result.reason, result.detail)
    _refuse_difference(video, result)
    with open_place(Place(uri=os.path.abspath(path))) as rewritten:
        compare_pictures(lambda: open_container(reader), video, lambda: open_container(rewritten), result)
    return result


def _write(source: InputContainer, video: IndexedVideo, name: str, path: str) -> None:
    streams: list[Stream] = [source.streams[video.stream_index], *source.streams.audio]
    options = (
        {}
        if name == "matroska"
        else {
            "movflags": "+faststart",  # the header in front: a reader over a network needs one read to know all
            "video_track_timescale": str(video.time_base.denominator),  # so that every time is exactly what it was
        }
    )
    with av.open(path, "w", format=name, options=options) as target:
        copies = {stream.index: target.add_stream_from_template(stream) for stream in streams}
        for packet in _timed_packets(source, streams, video):
            packet.stream = copies[packet.stream_index]
            target.mux_one(packet)


def _timed_packets(source: InputContainer, streams: list[Stream], video: IndexedVideo) -> Iterator[Packet[Any]]:
    """The packets of all streams, the video's with the times of its frame table."""
    pts_of, dts_of = _times(video.frames)
    unpacked = _unpacker(source.streams[video.stream_index], video)
    number = -1
    for packet in real_packets(source, *streams):
        if packet.stream_index != video.stream_index:
            if packet.pts is None:
                packet.pts = packet.dts
            yield packet
            continue
        for part in unpacked(packet):
            number += 1
            if number in pts_of:
                part.pts, part.dts = pts_of[number], dts_of[number]
                yield part


def _unpacker(stream: Stream, video: IndexedVideo) -> Callable[[Packet[Any]], list[Packet[Any]]]:
    """MPEG-4 in AVI may pack two pictures into one packet and follow it with an empty one; MP4 wants one in each."""
    if video.codec != "mpeg4" or video.container != "avi":
        return lambda packet: [packet]
    return BitStreamFilterContext("mpeg4_unpack_bframes", stream).filter


def _times(table: FrameTable) -> tuple[dict[int, int], dict[int, int]]:
    """pts and dts by packet number. dts are the sorted pts, moved back until none is later than its packet's pts.

    decode order   I  P  B  B        pts  0 3 1 2      sorted  0 1 2 3      dts  -1 0 1 2
    """
    in_decode_order = np.argsort(table.decode_order, kind="stable")
    numbers, pts = table.decode_order[in_decode_order], table.pts[in_decode_order]
    back = max(0, int((table.pts - pts).max()))
    dts: npt.NDArray[np.int64] = table.pts - back
    return dict(zip(numbers.tolist(), pts.tolist(), strict=True)), dict(
        zip(numbers.tolist(), dts.tolist(), strict=True)
    )


def _refuse_difference(before: IndexedVideo, after: IndexedVideo) -> None:
    """The rewritten file must say of its frames what the original says."""
    facts = ("width", "height", "rotation_degrees", "sample_aspect_ratio", "pixel_format", "codec")
    for name in facts:
        if getattr(before, name) != getattr(after, name):
            raise Unfit("corrupt", f"{name} was {getattr(before, name)} and became {getattr(after, name)}")
    if before.num_frames != after.num_frames:
        raise Unfit("corrupt", f"{before.num_frames} frames became {after.num_frames}")
    if _since_start(before) != _since_start(after):
        raise Unfit("bad_timestamps", f"the frames' times cannot be kept in a time base of {after.time_base}")
    if needs_remux(after) is not None:
        raise Unfit("bad_timestamps", str(needs_remux(after)))


def _since_start(video: IndexedVideo) -> list[Fraction]:
    """Each frame's time after the first one, as exact ratios of a second."""
    since = video.frames.pts - video.frames.start_pts
    return [ticks * video.time_base for ticks in since.tolist()]
