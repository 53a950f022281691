"""What a stream says of itself, in plain values: geometry, colour, sound. FFmpeg's open container in, facts out."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.audio.stream import AudioStream as AvAudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.format import VideoFormat
from av.video.stream import VideoStream

from cineray.index.reasons import Unfit
from cineray.records import AudioStream

# Code points of ITU-T H.273, in FFmpeg's names. 2 is "unspecified", and so is what is not listed.
COLOR_SPACES = {
    0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc",
    10: "bt2020c", 11: "smpte2085", 12: "chroma-derived-nc", 13: "chroma-derived-c", 14: "ictcp", 15: "ipt-c2",
    16: "ycgco-re", 17: "ycgco-ro",
}  # fmt: skip
COLOR_PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020", 10: "smpte428",
    11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
COLOR_TRANSFERS = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100", 10: "log316",
    11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084",
    17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
COLOR_RANGES = {1: "limited", 2: "full"}
_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """What the decoder of a video stream knows before, or after, its first frame."""

    codec: str
    profile: str
    width: int
    height: int
    sample_aspect_ratio: Fraction
    pixel_format: str
    bit_depth: int
    color_range: str
    color_space: str
    color_primaries: str
    color_transfer: str


def choose_stream(container: InputContainer) -> VideoStream:
    """The first moving-picture stream that the container marks as default, else the first; never a cover picture."""
    streams = [s for s in container.streams.video if not s.disposition & _NOT_MOVING]
    if not streams:
        sound = len(container.streams.audio)
        covers = len(container.streams.video)
        raise Unfit(
            "no_video_stream",
            f"{container.format.name.split(',')[0]} with {sound} audio streams and {covers} cover "
            "pictures, but no moving "
            "picture; leave it out of the source, or keep it as a sidecar",
        )
    chosen = next((s for s in streams if s.disposition & Disposition.default), streams[0])
    if getattr(chosen, "codec_context", None) is None:
        raise Unfit(
            "decode_failed", "FFmpeg has no decoder for this video's codec; convert it with the program that made it"
        )
    return chosen


def video_stream(container: InputContainer, index: int) -> VideoStream:
    """The stream that was chosen when the container was first opened."""
    stream = container.streams[index] if index < len(container.streams) else None
    if not isinstance(stream, VideoStream):
        raise Unfit("corrupt", f"stream {index} is no video stream when the file is opened again; copy the file again")
    return stream


def picture_facts(stream: VideoStream) -> PictureFacts:
    """The facts as the stream's decoder has them now."""
    context: Any = stream.codec_context
    pixel_format = context.pix_fmt or ""
    return PictureFacts(
        codec=context.codec.canonical_name,
        profile=context.profile or "",
        width=context.width,
        height=context.height,
        sample_aspect_ratio=_ratio(context.sample_aspect_ratio or stream.sample_aspect_ratio),
        pixel_format=pixel_format,
        bit_depth=VideoFormat(pixel_format).components[0].bits if pixel_format else 0,
        color_range=COLOR_RANGES.get(context.color_range, "unknown"),
        color_space=COLOR_SPACES.get(context.colorspace, "unknown"),
        color_primaries=COLOR_PRIMARIES.get(context.color_primaries, "unknown"),
        color_transfer=COLOR_TRANSFERS.get(context.color_trc, "unknown"),
    )


def audio_streams(container: InputContainer) -> tuple[AudioStream, ...]:
    """Every audio stream, with its offset in its own time base."""
    return tuple(_audio(stream) for stream in container.streams.audio)


def _audio(stream: AvAudioStream) -> AudioStream:
    context = getattr(stream, "codec_context", None)
    return AudioStream(
        stream_index=stream.index,
        codec=context.codec.canonical_name if context else "unknown",
        sample_rate=context.sample_rate if context else 0,
        channels=context.channels if context else 0,
        time_base=stream.time_base or Fraction(1, 1),
        start_pts=stream.start_time,
        duration_pts=stream.duration,
    )


def _ratio(ratio: Fraction | None) -> Fraction:
    return ratio if ratio else Fraction(1)
