"""How far a video is looked at. A table and its bytes in; silence, or `Unfit` with the first thing that is wrong.

header    the container opens, names a video stream, and its frames have times
packets   and every packet lies inside the file, has bytes, and (where those are at hand) is framed as its codec says
decode    and every frame decodes, the frames are those of the table, and key frames found by seeking are the same
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from blake3 import blake3

from cineray.index.decoded import Decoding
from cineray.index.facts import video_stream
from cineray.index.identity import InOrderHash
from cineray.index.kept import why_rewrite
from cineray.index.looked import Looked
from cineray.index.reasons import Unfit
from cineray.records import FrameTable, IndexedVideo

OpenContainer = Callable[[], InputContainer]
LEVELS = ("header", "packets", "decode")
_MOST_KEY_FRAMES = 32


def check_packets(looked: Looked, table: FrameTable, size_bytes: int) -> None:
    """Every shown packet lies inside the file and has bytes."""
    known = table.position >= 0
    ends = table.position + table.size_bytes
    if bool(np.any(ends[known] > size_bytes)):
        frame = int(np.flatnonzero(known & (ends > size_bytes))[0])
        raise Unfit(
            "truncated",
            f"frame {frame} ends at byte {int(ends[frame])}, but the file has {size_bytes}; copy the file again",
        )
    if bool(np.any(table.size_bytes <= 0)):
        frame = int(np.flatnonzero(table.size_bytes <= 0)[0])
        raise Unfit(
            "corrupt", f"the packet of frame {frame} ({_at(table, frame, looked.time_base)}) is empty; repair the file"
        )
    if not bool(table.key.any()):
        raise Unfit(
            "corrupt", "no frame is a key frame, so none can be decoded; repair it: ffmpeg -i in -c:v libx264 out.mp4"
        )


def check_framing(looked: Looked, table: FrameTable, hashed: InOrderHash) -> None:
    """Follow the units of every H.264 or H.265 packet of an MP4: damaged or unfilled bytes show as a wrong length.

    The packets are read in the order in which they lie, through the hash that has to read them anyway.
    """
    length_bytes = _length_bytes(looked)
    if not length_bytes:
        return
    for frame in np.argsort(table.position, kind="stable").tolist():
        data = hashed.read_on(int(table.position[frame]), int(table.size_bytes[frame]))
        if not _well_framed(data, length_bytes):
            raise Unfit(
                "corrupt",
                f"the bytes of frame {frame} ({_at(table, frame, looked.time_base)}) are not "
                f"{looked.picture.codec}: the file was damaged, or never filled; "
                "copy it again, or repair it: ffmpeg -i in -c:v libx264 out.mp4",
            )


def _length_bytes(looked: Looked) -> int:
    """How many bytes tell a unit's length; 0 where the codec or the container frames its data in another way."""
    extra, codec = looked.extradata, looked.picture.codec
    if looked.container not in ("mp4", "mov") or not extra or extra[0] != 1:
        return 0
    if codec == "h264" and len(extra) > 4:
        return (extra[4] & 3) + 1
    if codec == "hevc" and len(extra) > 21:
        return (extra[21] & 3) + 1
    return 0


def _well_framed(data: bytes, length_bytes: int) -> bool:
    at = 0
    while at + 4 <= len(data):  # FFmpeg ignores up to three bytes at the end as well
        unit = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes + unit
        if unit == 0 or at > len(data):
            return False
    return at > 0


def check_decode(open_it: OpenContainer, looked: Looked, table: FrameTable) -> None:
    """Decode everything once, compare with the table, and compare key frames found by seeking with that decode."""
    with open_it() as container:
        run = _Run(
            container, looked.stream_index, table, looked.time_base, compare_times=looked.times_from == "packets"
        )
        pictures = run.in_order(set(_some_keys(table)))
    if why_rewrite(looked.container, looked.times_from) is None:  # else nobody will seek in it as it is
        check_seeking(open_it, looked.stream_index, table, looked.time_base, pictures)


def compare_pictures(
    open_original: OpenContainer, original: IndexedVideo, open_copy: OpenContainer, copy: IndexedVideo
) -> None:
    """Decode a video and its rewritten copy, and seek in the copy: every picture must be the same."""
    everything = set(range(original.num_frames))
    with open_original() as container:
        run = _Run(container, original.stream_index, original.frames, original.time_base, compare_times=False)
        before = run.in_order(everything)
    with open_copy() as container:
        after = _Run(container, copy.stream_index, copy.frames, copy.time_base, compare_times=True).in_order(everything)
    different = [frame for frame in before if before[frame] != after[frame]]
    if different:
        where = _at(original.frames, different[0], original.time_base)
        raise Unfit("decode_failed", f"{len(different)} pictures differ after rewriting, the first at {where}")
    keys = {frame: before[frame] for frame in _some_keys(copy.frames)}
    check_seeking(open_copy, copy.stream_index, copy.frames, copy.time_base, keys)


@dataclass(slots=True)
class _Run:
    """One decode from the first frame to the last, held against the table."""

    container: InputContainer
    stream_index: int
    table: FrameTable
    time_base: Fraction
    compare_times: bool

    def in_order(self, wanted: set[int]) -> dict[int, bytes]:
        """The picture hashes of the wanted frames by number, after all frames were found to be those of the table."""
        decoding = Decoding(self.container, video_stream(self.container, self.stream_index))
        frame_of_packet = {packet: frame for frame, packet in enumerate(self.table.decode_order.tolist())}
        seen: set[int] = set()
        hashes: dict[int, bytes] = {}
        for packet, picture in decoding.frames():
            frame = frame_of_packet.get(packet, -1)
            if frame < 0 or frame in seen:
                continue
            self.check_time(frame, picture.pts)
            seen.add(frame)
            if frame in wanted:
                hashes[frame] = picture_hash(picture)
        self.refuse_errors(decoding, frame_of_packet)
        self.refuse_missing(seen)
        return hashes

    def check_time(self, frame: int, pts: int | None) -> None:
        expected = int(self.table.pts[frame])
        if self.compare_times and pts is not None and pts != expected:
            raise Unfit(
                "decode_failed",
                f"frame {frame} is shown at {pts} by the decoder and at {expected} by the container (in units of "
                f"{self.time_base} s); remux it: ffmpeg -i in -c copy out.mp4",
            )

    def refuse_errors(self, decoding: Decoding, frame_of_packet: dict[int, int]) -> None:
        """Packets that are not shown may fail: those before the first key frame of a cut recording do."""
        failed = [(frame_of_packet[packet], said) for packet, said in decoding.errors if packet in frame_of_packet]
        if not failed:
            return
        frame, said = failed[0]
        raise Unfit(
            "decode_failed",
            f"{len(failed)} of {len(self.table)} frames cannot be decoded, the first at "
            f"{_at(self.table, frame, self.time_base)}: {said}; repair the file: ffmpeg -i in -c:v libx264 out.mp4",
        )

    def refuse_missing(self, seen: set[int]) -> None:
        if len(seen) == len(self.table):
            return
        lost = next(frame for frame in range(len(self.table)) if frame not in seen)
        raise Unfit(
            "decode_failed",
            f"the decoder shows {len(seen)} frames and the container declares {len(self.table)}; "
            f"the first that is missing is at {_at(self.table, lost, self.time_base)}; "
            "write the file again: ffmpeg -i in -c:v libx264 out.mp4",
        )


def check_seeking(
    open_it: OpenContainer, stream_index: int, table: FrameTable, time_base: Fraction, pictures: dict[int, bytes]
) -> None:
    """Seek to each of the frames: the picture there must be the one that decoding from the start gave."""
    with open_it() as container:
        stream = video_stream(container, stream_index)
        for frame, expected in sorted(pictures.items()):
            pts = int(table.pts[frame])
            container.seek(pts, stream=stream)
            found = next(
                (f for _, f in Decoding(container, stream).frames() if f.pts is not None and f.pts >= pts), None
            )
            if found is None or found.pts != pts or picture_hash(found) != expected:
                raise Unfit(
                    "decode_failed",
                    f"seeking to the key frame at {_at(table, frame, time_base)} does not give the picture "
                    "that decoding from the start gives; write the file again: ffmpeg -i in -c:v libx264 out.mp4",
                )


def _some_keys(table: FrameTable) -> list[int]:
    return _spread(np.flatnonzero(table.key).tolist(), _MOST_KEY_FRAMES)


def picture_hash(frame: VideoFrame) -> bytes:
    """The hash of a picture's samples without the padding between its lines."""
    digest = blake3()
    digest.update(f"{frame.format.name} {frame.width}x{frame.height}".encode())
    for plane, component in zip(frame.planes, _line_bytes(frame), strict=True):
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, :component]
        digest.update(lines.tobytes())
    return digest.digest()


def _line_bytes(frame: VideoFrame) -> list[int]:
    """Bytes per line and plane that hold samples."""
    return [plane.width * _sample_bytes(frame, i) for i, plane in enumerate(frame.planes)]


def _sample_bytes(frame: VideoFrame, plane: int) -> int:
    components = [c for c in frame.format.components if c.plane == plane]
    return sum((c.bits + 7) // 8 for c in components) or 1


def _spread(items: list[int], most: int) -> list[int]:
    """At most that many of the items, evenly spread, with the first and the last."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _at(table: FrameTable, frame: int, time_base: Fraction) -> str:
    return f"{float(int(table.pts[frame]) * time_base):.3f} s"
