"""The index says of every frame what ffprobe says, which decodes it; and the same of the stream and of the sound."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from cineray.records import IndexedVideo

Probe = Callable[[Path], dict[str, Any]]
Index = Callable[..., IndexedVideo]


def of_stream(said: dict[str, Any], kind: str, stream_index: int) -> list[dict[str, Any]]:
    everything = [x for x in said["packets_and_frames"] if x["type"] == kind]
    return [x for x in everything if x["stream_index"] == stream_index]


def test_every_frame_has_the_time_at_which_ffprobe_shows_it(any_video: Path, indexed: Index, ffprobe: Probe) -> None:
    video = indexed(any_video)
    frames = of_stream(ffprobe(any_video), "frame", video.stream_index)
    said = [int(f["best_effort_timestamp"]) if "best_effort_timestamp" in f else None for f in frames]
    known = [(ours, theirs) for ours, theirs in zip(video.frames.pts.tolist(), said, strict=True) if theirs is not None]
    assert [ours for ours, _ in known] == [theirs for _, theirs in known]


def test_every_packet_is_where_ffprobe_finds_it(any_video: Path, indexed: Index, ffprobe: Probe) -> None:
    video = indexed(any_video)
    packets = of_stream(ffprobe(any_video), "packet", video.stream_index)
    table = video.frames
    assert len(packets) == len(table) + table.hidden_packets
    for frame, number in enumerate(table.decode_order.tolist()):
        packet = packets[number]
        ours = (int(table.position[frame]), int(table.size_bytes[frame]), bool(table.key[frame]))
        assert ours == (int(packet.get("pos", -1)), int(packet["size"]), "K" in packet["flags"]), f"frame {frame}"
        if video.times_from == "packets":
            assert int(table.pts[frame]) == int(packet["pts"]), f"frame {frame}"
            assert int(table.duration[frame]) == int(packet.get("duration", table.duration[frame])), f"frame {frame}"
    shown = set(table.decode_order.tolist())
    for number, packet in enumerate(packets):
        if "D" in packet["flags"]:
            assert number not in shown


def test_the_stream_is_what_ffprobe_sees(any_video: Path, indexed: Index, ffprobe: Probe) -> None:
    video = indexed(any_video)
    said = next(s for s in ffprobe(any_video)["streams"] if s["index"] == video.stream_index)
    ranges = {"tv": "limited", "pc": "full"}
    known = {
        "codec": said["codec_name"],
        "width": said["width"],
        "height": said["height"],
        "pixel_format": said["pix_fmt"],
        "color_range": ranges.get(said.get("color_range", ""), "unknown"),
        "color_space": said.get("color_space", "unknown"),
        "color_primaries": said.get("color_primaries", "unknown"),
        "color_transfer": said.get("color_transfer", "unknown"),
        "time_base": Fraction(said["time_base"]),
        "average_rate": Fraction(said["avg_frame_rate"]),
        "nominal_rate": Fraction(said["r_frame_rate"]),
        "sample_aspect_ratio": Fraction(said.get("sample_aspect_ratio", "1:1").replace(":", "/")),
        "rotation_degrees": -int(next((d["rotation"] for d in said.get("side_data_list", []) if "rotation" in d), 0))
        % 360,
    }
    if video.container == "h264":
        del known["nominal_rate"]  # of a bare stream FFmpeg 5 says 25 and FFmpeg 8 says 50: it is a guess
    assert {name: getattr(video, name) for name in known} == known


def test_the_sound_is_what_ffprobe_hears(any_video: Path, indexed: Index, ffprobe: Probe) -> None:
    video = indexed(any_video)
    said = [s for s in ffprobe(any_video)["streams"] if s["codec_type"] == "audio"]
    theirs = [
        (s["index"], s["codec_name"], int(s["sample_rate"]), s["channels"], s["time_base"], s.get("start_pts"))
        for s in said
    ]
    ours = [
        (
            a.stream_index,
            a.codec,
            a.sample_rate,
            a.channels,
            f"{a.time_base.numerator}/{a.time_base.denominator}",
            a.start_pts,
        )
        for a in video.audio
    ]
    assert ours == theirs
