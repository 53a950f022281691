"""One `VideoFile` in; an `IndexedVideo` or a `Reject` out, whatever the bytes are. In this process and without
protection: for files from strangers use `IndexPool`, which does the same in children that may crash, hang or eat
memory.
"""

from __future__ import annotations

from typing import Literal

import av

from cineray.errors import PlaceError, UsageError
from cineray.index.boxes import FRONT_BYTES, looks_like_mp4
from cineray.index.check import LEVELS, check_decode, check_framing, check_packets
from cineray.index.demux import look_by_demuxing, open_container
from cineray.index.follow import follower_of
from cineray.index.identity import InOrderHash, header_hash, video_id
from cineray.index.leading import hide_what_cannot_be_shown
from cineray.index.looked import CountedReader, Looked
from cineray.index.mp4 import look_at_mp4
from cineray.index.reasons import Unfit, reject
from cineray.index.sniff import refuse_what_is_no_video
from cineray.index.table import frame_table, rate_varies
from cineray.records import FrameTable, IndexedVideo, Reject, VideoFile
from cineray.storage import AccessPolicy, is_remote, open_place

Level = Literal["header", "packets", "decode"]
HashMode = Literal["auto", "full", "header"]
HASH_MODES = ("auto", "full", "header")


def index_video(
    file: VideoFile, *, level: Level = "packets", policy: AccessPolicy | None = None, hash_mode: HashMode = "auto"
) -> IndexedVideo | Reject:
    """Index one video. `level` says how far to look (`check.py`).

    `hash_mode` says what names the content: all bytes (`full`), an MP4's size and header (`header`), or `auto`: all
    bytes of local files and of what is read whole anyway, the header of remote MP4 files.
    """
    if level not in LEVELS:
        raise UsageError(f"level is {level!r}; wanted one of {', '.join(LEVELS)}")
    if hash_mode not in HASH_MODES:
        raise UsageError(f"hash_mode is {hash_mode!r}; wanted one of {', '.join(HASH_MODES)}")
    try:
        with open_place(file.place, policy=policy or AccessPolicy.from_env(), expect_tag=file.version_tag) as reader:
            remote = is_remote(file.place.uri)
            return index_bytes(reader, level=level, whole=hash_mode == "full" or (hash_mode == "auto" and not remote))
    except PlaceError as error:
        return reject(file, error.reason, str(error))
    except Unfit as unfit:
        return reject(file, unfit.reason, unfit.detail)


def index_bytes(reader: CountedReader, *, level: Level = "packets", whole: bool = True) -> IndexedVideo:
    """Index what a reader reads. `whole`: read and hash every byte, even where the header would do. Raises `Unfit`."""
    try:
        front = reader.read_at(0, FRONT_BYTES)
        refuse_what_is_no_video(front, reader.size_bytes)
        follower = follower_of(front, reader.size_bytes)
        hashed = InOrderHash(reader, follower)
        looked = look_at_mp4(reader, front) if looks_like_mp4(front) else look_by_demuxing(reader, front, hashed)
        if looked.times_from == "packets":
            hide_what_cannot_be_shown(looked.packets, lambda: open_container(reader), looked.stream_index)
        table = frame_table(looked.packets, shown=looked.shown, pts=looked.pts)
        _refuse_unusable(looked)
        if level != "header":
            check_packets(looked, table, reader.size_bytes)
            if whole:
                check_framing(looked, table, hashed)
        whole = whole or not looked.header_bytes
        content_hash = hashed.finish() if whole else header_hash(reader.size_bytes, looked.header_bytes)
        if follower is not None and level != "header":
            follower.refuse(looked.track)
        if level == "decode":
            check_decode(lambda: open_container(reader), looked, table)
    except av.FFmpegError as error:
        raise _ffmpeg_said(error) from error
    return _assemble(reader, looked, table, content_hash, level)


def _refuse_unusable(looked: Looked) -> None:
    picture = looked.picture
    if picture.width <= 0 or picture.height <= 0 or not picture.pixel_format:
        raise Unfit(
            "corrupt",
            f"the {picture.codec} stream tells neither size nor pixel format ({picture.width}x{picture.height}, "
            f"{picture.pixel_format or 'no format'}); repair it: ffmpeg -i in -c:v libx264 out.mp4",
        )
    if looked.time_base <= 0:
        raise Unfit(
            "bad_timestamps", f"the stream's time base is {looked.time_base}; remux it: ffmpeg -i in -c copy out.mp4"
        )


def _ffmpeg_said(error: av.FFmpegError) -> Unfit:
    if isinstance(error, av.error.EOFError):
        return Unfit("truncated", "the file ends inside its header, before its first frame; copy the file again")
    if isinstance(error, av.error.InvalidDataError):
        return Unfit(
            "not_video",
            f"FFmpeg finds no container that it knows in these bytes ({error.strerror}); leave the file out",
        )
    return Unfit(
        "corrupt", f"FFmpeg cannot read this file ({error}); copy it again, or repair it: ffmpeg -i in -c copy out.mkv"
    )


def _assemble(reader: CountedReader, looked: Looked, table: FrameTable, content_hash: str, level: str) -> IndexedVideo:
    picture = looked.picture
    return IndexedVideo(
        video_id=video_id(content_hash),
        content_hash=content_hash,
        size_bytes=reader.size_bytes,
        version_tag=reader.version_tag,
        container=looked.container,
        codec=picture.codec,
        profile=picture.profile,
        stream_index=looked.stream_index,
        width=picture.width,
        height=picture.height,
        rotation_degrees=looked.rotation_degrees,
        sample_aspect_ratio=picture.sample_aspect_ratio,
        pixel_format=picture.pixel_format,
        bit_depth=picture.bit_depth,
        color_range=picture.color_range,
        color_space=picture.color_space,
        color_primaries=picture.color_primaries,
        color_transfer=picture.color_transfer,
        time_base=looked.time_base,
        average_rate=looked.average_rate,
        nominal_rate=looked.nominal_rate,
        variable_rate=rate_varies(table.pts),
        frames=table,
        times_from=looked.times_from,
        audio=looked.audio,
        validated=level,
        bytes_read=reader.counter.bytes_read,
        requests=reader.counter.requests,
    )
