"""Every container but MP4: one pass over the bytes by FFmpeg's demuxer, hashed on the way. A reader in, `Looked` out.

Where packets carry no times (AVI, bare streams, some MPEG programs), only a decoder knows when a frame is shown: the
video is then decoded once, each frame tells which packet it came from, and its time is what ffprobe calls
`best_effort_timestamp`.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer

from cineray.index.declared import refuse_shorter_than_declared
from cineray.index.decoded import FirstFrame, decoded_times
from cineray.index.facts import audio_streams, choose_stream, picture_facts, video_stream
from cineray.index.identity import InOrderHash
from cineray.index.looked import CountedReader, Looked
from cineray.index.packets import collect, hide_repeats, real_packets
from cineray.index.reasons import Unfit
from cineray.index.sniff import SELF_CONTAINED
from cineray.index.table import times_are_missing

# skip_estimate...: do not jump to the end of an MPEG stream for its length; the pass will tell.
OPTIONS = {"fflags": "-genpts", "skip_estimate_duration_from_pts": "1", **SELF_CONTAINED}
_BLOCK_BYTES = 1 << 20
_IN_FIELDS = {"mpegts", "mpeg", "h264", "hevc", "mpegvideo", "vc1"}


class ReadThrough(io.RawIOBase):
    """A reader as the file that FFmpeg wants; what passes is shown to the hash."""

    def __init__(self, reader: CountedReader, hashed: InOrderHash | None = None) -> None:
        self.reader, self.hashed, self.at = reader, hashed, 0
        self.block_at, self.block = 0, b""

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        """As for any file."""
        self.at = max(0, offset + (0, self.at, self.reader.size_bytes)[whence])
        return self.at

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes from one block; blocks are what is asked of the place."""
        size = _BLOCK_BYTES if size < 0 else size
        inside = self.at - self.block_at
        if not 0 <= inside < len(self.block):
            self.block_at, self.block, inside = self.at, self.reader.read_at(self.at, max(size, _BLOCK_BYTES)), 0
            if self.hashed is not None:
                self.hashed.saw(self.block_at, self.block)
        data = self.block[inside : inside + size]
        self.at += len(data)
        return data


def open_container(reader: CountedReader, hashed: InOrderHash | None = None) -> InputContainer:
    """Open with FFmpeg, allowing only containers that hold their own bytes."""
    return av.open(ReadThrough(reader, hashed), "r", metadata_errors="replace", buffer_size=1 << 16, options=OPTIONS)


def look_by_demuxing(reader: CountedReader, front: bytes, hashed: InOrderHash) -> Looked:
    """Index one container by reading it from its beginning to its end."""
    refuse_shorter_than_declared(front, reader.size_bytes)
    with open_container(reader, hashed) as container:
        stream = choose_stream(container)
        name = _name(container, front)
        context: Any = stream.codec_context
        context.thread_count = 1
        picture = picture_facts(stream)
        codec, first = picture.codec, FirstFrame(container, stream)
        passing = real_packets(container, stream)
        if name in ("matroska", "webm"):
            passing = first.watch(passing)
        packets = collect(passing, vp8=codec == "vp8", vp9=codec == "vp9")
        if codec == "theora":
            hide_repeats(packets)
        # Two fields of one picture may be two packets in a bare or an MPEG stream; progressive is 1 in FFmpeg.
        fields = name in _IN_FIELDS and context.field_order > 1
        looked = Looked(
            container=name,
            stream_index=stream.index,
            picture=picture,
            rotation_degrees=first.rotation_degrees,
            time_base=stream.time_base or Fraction(1),
            average_rate=stream.average_rate,
            nominal_rate=stream.base_rate,
            packets=packets,
            audio=audio_streams(container),
            track=stream.id,
            extradata=bytes(context.extradata or b""),
        )
        locked = packets.encrypted or "enc_key_id" in stream.metadata  # FFmpeg's name for Matroska's ContentEncKeyID
    if locked:
        raise Unfit("encrypted", f"the packets of this {name} file are encrypted; decrypt it with its key first")
    if len(packets) and (times_are_missing(packets) or fields):
        with open_container(reader) as container:
            looked.shown, looked.pts = decoded_times(container, video_stream(container, looked.stream_index))
    return looked


def _name(container: InputContainer, front: bytes) -> str:
    """One short name: FFmpeg's own, but `webm` and `matroska` told apart by their document type."""
    name = container.format.name.split(",")[0]
    return "webm" if name == "matroska" and b"webm" in front[:64] else name
