"""One video seen and heard once, small: what curation measures. An indexed video goes in, plain arrays leave.

    decode, one thread, from the first frame to the last -> every frame as 36 x 64 grey
                                                         -> a few of them larger, in their own shape
                                                         -> a few in colour, square, where somebody asks for them
    decode the first audio stream                        -> mono, 16 kHz

In this process and without protection: for files from strangers it is called in a child (`curate/child.py`). Scaling is
by area and bit-exact, so the same bytes give the same arrays. A frame that cannot be decoded is left out of the arrays;
a video that loses more than a tenth of its frames is unfit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from av.filter import Graph
from av.video.frame import VideoFrame

from cineray.index.decoded import Decoding
from cineray.index.demux import open_container
from cineray.index.facts import video_stream
from cineray.index.looked import CountedReader
from cineray.index.packets import real_packets
from cineray.index.reasons import Unfit
from cineray.records import FrameTable, IndexedVideo, VideoFile
from cineray.storage import AccessPolicy, open_place

SMALL_HEIGHT, SMALL_WIDTH = 36, 64
DETAIL_FRAMES = 16
DETAIL_SHORT_SIDE = 256
DETAIL_LONG_SIDE = 2048
SAMPLE_RATE = 16_000
LONGEST_SOUND_SECONDS = 3600
"""Of longer sound only the first hour is heard: it would take more memory than the pictures."""
MOST_LOST = 0.1
_REPAIR = "repair it: ffmpeg -i in -c:v libx264 out.mp4"
_FLAGS = "area+accurate_rnd+full_chroma_inp+bitexact"

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Squares:
    """Square pictures in colour that somebody wants of a video, as networks do."""

    count: int
    """How many, evenly in time; a frame that is long on screen may be among them more than once."""
    side: int
    """Rows and columns, also of a video that is smaller."""
    stretched: bool = False
    """All of the picture, bent; else the middle of it, in its own shape."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """T frames small, N of them larger, and the sound; `curate.footage.Footage` says what each is."""

    gray_THW: Bytes
    pts_T: npt.NDArray[np.int64]
    detail_NHW: Bytes
    detail_pts_N: npt.NDArray[np.int64]
    audio: npt.NDArray[np.float32] | None
    audio_start_seconds: Fraction
    squares: tuple[Bytes, ...] = ()
    """For each that was asked for: count x side x side x RGB."""


def see(
    file: VideoFile,
    video: IndexedVideo,
    *,
    policy: AccessPolicy | None = None,
    sound: bool = True,
    squares: Sequence[Squares] = (),
) -> Seen:
    """Decode one video once. Raises `Unfit`, and `PlaceError` where its bytes cannot be had."""
    with open_place(file.place, policy=policy or AccessPolicy.from_env(), expect_tag=file.version_tag) as reader:
        try:
            return see_bytes(reader, video, sound=sound, squares=squares)
        except av.FFmpegError as error:
            raise Unfit("decode_failed", f"FFmpeg cannot decode this file ({error}); {_REPAIR}") from error


def see_bytes(
    reader: CountedReader, video: IndexedVideo, *, sound: bool = True, squares: Sequence[Squares] = ()
) -> Seen:
    """The same of what a reader reads."""
    if not video.num_frames:
        raise Unfit("no_frames", "only its header was read, which names no frame; ingest it again with --level packets")
    colours = [_Colours(video, asked) for asked in squares]
    with open_container(reader) as container:
        gray_THW, seen_T, detail = _pictures(container, video, colours)
    numbers = sorted(detail)
    audio, start = None, Fraction(0)
    if sound and video.audio:
        with open_container(reader) as container:
            audio, start = _sound(container, video.audio[0].stream_index)
    first = video.frames.start_pts * video.time_base
    return Seen(
        gray_THW=gray_THW[seen_T],
        pts_T=video.frames.pts[seen_T],
        detail_NHW=np.stack([detail[number] for number in numbers]),
        detail_pts_N=video.frames.pts[numbers],
        audio=audio,
        audio_start_seconds=start - first if audio is not None else Fraction(0),
        squares=tuple(colour.stacked() for colour in colours),
    )


# ---- pictures


def _pictures(
    container: InputContainer, video: IndexedVideo, colours: Sequence[_Colours]
) -> tuple[Bytes, npt.NDArray[np.bool_], dict[int, Bytes]]:
    """Every frame small, which of them were seen, and the larger ones by number."""
    table = video.frames
    decoding = Decoding(container, video_stream(container, video.stream_index))
    # An unseen frame is not written to, and takes no memory.
    gray_THW = np.zeros((len(table), SMALL_HEIGHT, SMALL_WIDTH), np.uint8)
    seen_T = np.zeros(len(table), np.bool_)
    small, large = _Pictures(video, small_size(video)), _Pictures(video, detail_size(video))
    wanted, detail = set(detail_numbers(table)), dict[int, Bytes]()
    for number, picture in _numbered(decoding, table):
        if seen_T[number]:
            continue
        seen_T[number] = True
        gray_THW[number] = small.upright(picture)
        if number in wanted:
            detail[number] = large.upright(picture)
        for colour in colours:
            colour.take(number, picture)
    _refuse_lost(seen_T, decoding.errors)
    if not detail:  # every one of the chosen was lost: the small pictures of the rest would mislead
        raise Unfit("decode_failed", "none of the frames chosen to be looked at decodes; leave the file out")
    return gray_THW, seen_T, detail


def _numbered(decoding: Decoding, table: FrameTable) -> Iterator[tuple[int, VideoFrame]]:
    """Each shown frame with its number in the table; the packet that it came from says which it is."""
    frame_of_packet = {packet: frame for frame, packet in enumerate(table.decode_order.tolist())}
    for packet, picture in decoding.frames():
        number = frame_of_packet.get(packet)
        if number is not None:
            yield number, picture


def _refuse_lost(seen_T: npt.NDArray[np.bool_], errors: list[tuple[int, str]]) -> None:
    lost = int(len(seen_T) - seen_T.sum())
    if lost > MOST_LOST * len(seen_T):
        said = f"; FFmpeg says of the first: {errors[0][1]}" if errors else ""
        raise Unfit(
            "decode_failed",
            f"{lost} of {len(seen_T)} frames cannot be decoded{said}; {_REPAIR}",
        )


def detail_numbers(table: FrameTable) -> list[int]:
    """The frames on screen in the middle of each of 16 equal parts of the time, each once."""
    return sorted(set(_in_the_middles(table, DETAIL_FRAMES)))


def _in_the_middles(table: FrameTable, parts: int) -> list[int]:
    """The frame on screen in the middle of each of so many equal parts of the time."""
    length = table.end_pts - table.start_pts
    middles = table.start_pts + (2 * np.arange(parts, dtype=np.int64) + 1) * length // (2 * parts)
    return [int(number) for number in np.clip(table.shown_at(middles), 0, None)]


def small_size(video: IndexedVideo) -> tuple[int, int]:
    """Width and height, before turning, that are 64 x 36 when upright."""
    size = (SMALL_WIDTH, SMALL_HEIGHT)
    return size if video.rotation_degrees % 180 == 0 else size[::-1]


def detail_size(video: IndexedVideo) -> tuple[int, int]:
    """Width and height, before turning, with square pixels and the short side at most 256; never enlarged."""
    return scaled_size(video, DETAIL_SHORT_SIDE)


def scaled_size(video: IndexedVideo, short_side: int) -> tuple[int, int]:
    """The same for any short side."""
    ratio = video.sample_aspect_ratio or Fraction(1)
    width, height = video.width * max(ratio, Fraction(1)), video.height * max(1 / ratio, Fraction(1))
    scale = min(Fraction(1), short_side / min(width, height), DETAIL_LONG_SIDE / max(width, height))
    if ratio != 1:  # one side was stretched above: no side may grow beyond its own samples
        scale = min(scale, video.width / width, video.height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


class _Pictures:
    """Pictures of one size, upright, grey or RGB; keeps FFmpeg's set-up for each kind of frame that comes."""

    def __init__(self, video: IndexedVideo, size: tuple[int, int], pixels: str = "gray") -> None:
        self.size, self.pixels, self.quarter_turns = size, pixels, -video.rotation_degrees // 90 % 4
        self.graphs: dict[tuple[Any, ...], Graph] = {}

    def upright(self, frame: VideoFrame) -> Bytes:
        """One picture, H x W, or H x W x 3."""
        key = (frame.format.name, frame.width, frame.height, int(frame.colorspace), int(frame.color_range))
        if key not in self.graphs:
            self.graphs = {key: _graph(frame, self.size, self.pixels)}  # videos that change in the middle are few
        graph = self.graphs[key]
        graph.vpush(frame)
        scaled = graph.vpull()
        plane = scaled.planes[0]
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        channels = 3 if self.pixels == "rgb24" else 1
        picture = lines[: scaled.height, : scaled.width * channels].reshape(scaled.height, scaled.width, channels)
        return np.rot90(picture[..., 0] if channels == 1 else picture, self.quarter_turns).copy()


class _Colours:
    """The square pictures that are asked of one video; those of frames that do not decode are of the nearest."""

    def __init__(self, video: IndexedVideo, asked: Squares) -> None:
        self.asked, self.numbers = asked, _in_the_middles(video.frames, asked.count)
        size = (asked.side, asked.side) if asked.stretched else covering_size(video, asked.side)
        self.pictures = _Pictures(video, size, "rgb24")
        self.made: dict[int, Bytes] = {}
        self.wanted = set(self.numbers)

    def take(self, number: int, picture: VideoFrame) -> None:
        """Look at a frame that passes by."""
        if number in self.wanted:
            upright_HWC, side = self.pictures.upright(picture), self.asked.side
            top, left = ((length - side) // 2 for length in upright_HWC.shape[:2])
            self.made[number] = upright_HWC[top : top + side, left : left + side].copy()

    def stacked(self) -> Bytes:
        """All of them, in the order of time."""
        if not self.made:
            raise Unfit("decode_failed", "none of the frames chosen to be shown to networks decodes; leave it out")
        return np.stack([self.made[min(self.made, key=lambda have: abs(have - wanted))] for wanted in self.numbers])


def covering_size(video: IndexedVideo, side: int) -> tuple[int, int]:
    """Width and height, before turning, with square pixels, that just cover a square of this side."""
    ratio = video.sample_aspect_ratio or Fraction(1)
    width, height = video.width * ratio, Fraction(video.height)
    scale = side / min(width, height)
    longest = max(side, DETAIL_LONG_SIDE)  # of a picture of 1 x 10,000 no more is made
    return min(max(side, round(width * scale)), longest), min(max(side, round(height * scale)), longest)


def _graph(frame: VideoFrame, size: tuple[int, int], pixels: str) -> Graph:
    """FFmpeg's filters from one kind of frame to one size, full range."""
    graph = Graph()
    graph.threads = 1
    source = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base="1/1",
        pixel_aspect="1/1",
        colorspace=str(int(frame.colorspace)),
        range=str(int(frame.color_range)),
    )
    scale = graph.add("scale", f"{size[0]}:{size[1]}:flags={_FLAGS}:out_range=full")
    graph.link_nodes(source, scale, graph.add("format", f"pix_fmts={pixels}"), graph.add("buffersink"))
    graph.configure()
    return graph


def colour_pictures(
    file: VideoFile, video: IndexedVideo, numbers: Sequence[int], *, short_side: int, policy: AccessPolicy | None = None
) -> Bytes:
    """These frames in colour, to be looked at by people: N x H x W x 3, upright, each for the nearest that decodes.

    Decodes from the beginning to the last of them. Raises as `see` does.
    """
    wanted, last = sorted(set(numbers)), max(numbers)
    made: dict[int, Bytes] = {}
    with open_place(file.place, policy=policy or AccessPolicy.from_env(), expect_tag=file.version_tag) as reader:
        try:
            with open_container(reader) as container:
                decoding = Decoding(container, video_stream(container, video.stream_index))
                pictures = _Pictures(video, scaled_size(video, short_side), "rgb24")
                for number, picture in _numbered(decoding, video.frames):
                    if number in wanted:
                        made[number] = pictures.upright(picture)
                    if number >= last:
                        break
        except av.FFmpegError as error:
            raise Unfit("decode_failed", f"FFmpeg cannot decode this file ({error}); {_REPAIR}") from error
    if not made:
        raise Unfit("decode_failed", f"none of the frames {wanted} decodes; leave the file out")
    return np.stack([made[min(made, key=lambda have: abs(have - number))] for number in numbers])


# ---- sound


def _sound(container: InputContainer, index: int) -> tuple[npt.NDArray[np.float32] | None, Fraction]:
    """The samples of one audio stream, and when they begin; None where nothing of it decodes."""
    stream: Any = container.streams[index] if index < len(container.streams) else None
    if stream is None or stream.type != "audio" or stream.codec_context is None:
        return None, Fraction(0)
    stream.codec_context.thread_count = 1
    resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    parts: list[npt.NDArray[np.float32]] = []
    start, left = None, LONGEST_SOUND_SECONDS * SAMPLE_RATE
    for frame in _audio_frames(container, stream):
        if start is None:
            start = (frame.pts or 0) * (frame.time_base or Fraction(1))
        frame.pts = None  # a gap is heard as none: the measures are of what is said, not of when
        for piece in resampler.resample(frame):
            parts.append(piece.to_ndarray().astype(np.float32, copy=False).reshape(-1)[:left])
            left -= len(parts[-1])
        if left <= 0:
            break
    if start is None or not parts:
        return None, Fraction(0)
    return np.concatenate(parts), start


def _audio_frames(container: InputContainer, stream: Any) -> Iterator[Any]:
    """Decoded sound; a packet that cannot be decoded is passed over."""
    for packet in real_packets(container, stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            continue
