"""MP4 and MOV, from the header alone. A range reader in; every frame's time, place and size out, and no media byte
read.

FFmpeg's own demuxer does the arithmetic, over a file that is real only where the header is (`header_file.py`). What a
header does not say (for H.264: pixel format, depth, colour, profile) FFmpeg's decoder tells once it has seen a slice,
so it is given one: a slice of eight bytes that says nothing but "use the first parameter set", which stands in the
header. For codecs where that cannot work, the first key frame's packet is fetched for real.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from cineray.index.boxes import Header, find, read_header
from cineray.index.facts import audio_streams, choose_stream, picture_facts
from cineray.index.fragments import check_fragments
from cineray.index.header_file import HeaderFile
from cineray.index.looked import CountedReader, Looked, clockwise_degrees
from cineray.index.packets import Packets, collect, real_packets
from cineray.index.reasons import Unfit
from cineray.index.sniff import SELF_CONTAINED

# noparse: zeros are not to be parsed. -genpts: PyAV asks FFmpeg to invent missing times; we want to know that they
# miss.
_OPTIONS = {"fflags": "+noparse-genpts", **SELF_CONTAINED}
_LONGEST_FIRST_PACKET = 4 << 20
# The decoders that know everything about the picture from the header's extradata, before any packet.
_TOLD_BY_EXTRADATA = {"hevc", "av1"}


def look_at_mp4(reader: CountedReader, front: bytes) -> Looked:
    """Index one MP4 or MOV whose first bytes are `front`."""
    header = read_header(reader, front)
    refuse_encrypted(header)
    check_fragments(header)
    with av.open(
        HeaderFile(header), "r", metadata_errors="replace", buffer_size=1 << 16, options=_OPTIONS
    ) as container:
        stream = choose_stream(container)
        packets = _packets(container, stream, header)
        if len(packets) and not packets.encrypted:
            _show_the_decoder_something(stream, packets, reader)
        return Looked(
            container=_brand(front),
            stream_index=stream.index,
            picture=picture_facts(stream),
            rotation_degrees=rotation(header.moov, stream.id),
            time_base=stream.time_base or Fraction(1),
            average_rate=stream.average_rate,
            nominal_rate=stream.base_rate,
            packets=packets,
            audio=audio_streams(container),
            extradata=bytes(stream.codec_context.extradata or b""),
            header_bytes=b"".join(header.bytes_of(box) for box in header.boxes if box.kind in (b"moov", b"moof")),
        )


def _packets(container: InputContainer, stream: VideoStream, header: Header) -> Packets:
    for other in container.streams:
        if other.index != stream.index:
            other.discard = av.stream.Discard.all
    try:
        packets = collect(real_packets(container, stream))
    except av.FFmpegError as error:
        refuse_cut_short(stream, header.size_bytes)
        raise Unfit("corrupt", f"FFmpeg cannot follow the header of this file: {error}; copy the file again") from error
    if len(packets) < len(stream.index_entries) or _ends_outside(packets, header.size_bytes):
        refuse_cut_short(stream, header.size_bytes)
    return packets


def _ends_outside(packets: Packets, size_bytes: int) -> bool:
    return bool(len(packets)) and int((packets.position + packets.size).max()) >= size_bytes


def refuse_cut_short(stream: VideoStream, size_bytes: int) -> None:
    """Raise `Unfit` when the header declares packets beyond the end of the file."""
    entries = stream.index_entries
    outside = sum(1 for entry in entries if entry.pos + entry.size > size_bytes)
    if outside:
        last = max(entry.pos + entry.size for entry in entries)
        raise Unfit(
            "truncated",
            f"{outside} of {len(entries)} packets lie beyond the end of the file: it has {size_bytes} bytes "
            f"and its header declares {last}; copy the file again",
        )


def refuse_encrypted(header: Header) -> None:
    """Raise `Unfit` when a video track's samples are encrypted (common encryption, ISO 23001-7)."""
    for entry in find(header.moov, b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        if bytes(entry[20:24]) == b"encv":
            raise Unfit(
                "encrypted",
                "the video track is encrypted (its sample entry is 'encv'); decrypt it with its key: "
                "ffmpeg -decryption_key KEY -i in.mp4 -c copy out.mp4",
            )


def rotation(moov: bytes, track_id: int) -> int:
    """The clockwise turn that shows the track upright, from the matrices of the movie and the track."""
    movie = next((_matrix(box, 36) for box in find(moov, b"mvhd")), None)
    for tkhd in find(moov, b"trak", b"tkhd"):
        wide = bytes(tkhd[8:9]) == b"\x01"
        (found_id,) = struct.unpack_from(">I", tkhd, 28 if wide else 20) if len(tkhd) >= 32 else (None,)
        if found_id == track_id:
            return _turn(_matrix(tkhd, 40), movie)
    return 0


def _matrix(box: memoryview, at: int) -> tuple[float, float, float, float] | None:
    """The upper left quarter of the transformation matrix: its only part that turns."""
    at += 8 + (12 if bytes(box[8:9]) == b"\x01" else 0)
    if len(box) < at + 36:
        return None
    a, b, _, c, d = struct.unpack_from(">5i", box, at)
    return a / 65536, b / 65536, c / 65536, d / 65536


def _turn(track: tuple[float, ...] | None, movie: tuple[float, ...] | None) -> int:
    a, b, c, d = track or (1, 0, 0, 1)
    e, f, g, h = movie or (1, 0, 0, 1)
    a, b, c, d = a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h
    across, down = math.hypot(a, c), math.hypot(b, d)
    if across == 0 or down == 0:
        return 0
    return clockwise_degrees(-math.degrees(math.atan2(b / down, a / across)))


def _show_the_decoder_something(stream: VideoStream, packets: Packets, reader: CountedReader) -> None:
    """Make the decoder fill in what the header left open about the picture."""
    context: Any = stream.codec_context
    context.thread_count = 1
    if context.name == "h264":
        _decode_quietly(context, _empty_h264_slice(bytes(context.extradata or b"")))
    if context.pix_fmt and (context.name == "h264" or context.codec.canonical_name in _TOLD_BY_EXTRADATA):
        return
    first_key = int(packets.key.argmax())
    position, size = int(packets.position[first_key]), int(packets.size[first_key])
    if position >= 0:
        _decode_quietly(context, reader.read_at(position, min(size, _LONGEST_FIRST_PACKET)))


def _empty_h264_slice(extradata: bytes) -> bytes:
    """An IDR slice header that names parameter set 0, in the header's framing. Ones read as zeros in exp-Golomb code.

    0x65  IDR slice      1 first_mb 0      0001000 slice_type 7 (I)      1 pic_parameter_set 0      1111...
    """
    slice_unit = bytes([0x65, 0b1000_1000]) + b"\xff" * 30
    length_bytes = (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0
    prefix = len(slice_unit).to_bytes(length_bytes, "big") if length_bytes else b"\x00\x00\x00\x01"
    return prefix + slice_unit


def _decode_quietly(context: Any, data: bytes) -> None:
    """Decode for the sake of what the decoder learns; whether it can make a picture of it is judged elsewhere."""
    try:
        context.decode(av.Packet(data))
    except (av.FFmpegError, ValueError):
        return


def _brand(front: bytes) -> str:
    return "mp4" if front[4:8] == b"ftyp" and front[8:12] != b"qt  " else "mov"
