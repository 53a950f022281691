"""How far a video is looked at: what `decode` finds that `packets` does not, and that good files pass all levels."""

from __future__ import annotations

import shlex
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cineray.errors import UsageError
from cineray.index import index_video
from cineray.index.reasons import Unfit
from cineray.index.video import index_bytes
from cineray.records import Place, Reject, VideoFile

Made = Callable[[str], Path]


def test_every_good_video_passes_the_decode_level(any_video: Path, indexed: Any) -> None:
    if any_video.name.startswith("sam2_0") and "juggle" not in any_video.name:
        pytest.skip("three of four videos of the same kind")
    by_packets, by_decode = indexed(any_video), indexed(any_video, level="decode")
    assert by_decode.frames == by_packets.frames
    assert (by_packets.validated, by_decode.validated) == ("packets", "decode")


def test_damage_inside_a_frame_is_found_by_decoding(made: Made, as_file: Any, indexed: Any, rejected: Any) -> None:
    path = made("h265.mp4")
    data, frames = bytearray(path.read_bytes()), indexed(path).frames
    at = int(frames.position[30])
    data[at + 4 : at + 6] = b"\x7f\xff"  # the unit's type: one that no frame has
    damaged = as_file(bytes(data))
    assert indexed(damaged).num_frames == 50
    result = rejected(damaged, level="decode")
    assert result.reason == "decode_failed"
    assert "1.200 s" in result.detail


def test_a_lying_time_is_found_by_decoding(made: Made, in_memory: Any, monkeypatch: Any) -> None:
    """The decoder is the witness: if the table had one frame at another time, the video would be rejected."""
    from dataclasses import replace

    from cineray.index import video

    honest = video.frame_table

    def one_tick_late(*arguments: Any, **options: Any) -> Any:
        table = honest(*arguments, **options)
        pts = table.pts.copy()
        pts[7] += 1
        return replace(table, pts=pts)

    monkeypatch.setattr(video, "frame_table", one_tick_late)
    with pytest.raises(Unfit, match="frame 7 is shown at 3584 by the decoder and at 3585 by the container"):
        index_bytes(in_memory(made("b.mp4").read_bytes()), level="decode")


@pytest.mark.parametrize("name", ["no_b.mp4", "mpeg4_no_b.mp4"])
def test_a_lying_key_frame_is_found_by_seeking_to_it(
    name: str, made: Made, as_file: Any, indexed: Any, rejected: Any
) -> None:
    """Decoding from the start does not care. After seeking, H.264 shows a later frame and MPEG-4 a wrong picture."""
    data = bytearray(made(name).read_bytes())
    count_at = data.index(b"stss") + 8
    assert struct.unpack_from(">III", data, count_at) == (5, 1, 11)
    struct.pack_into(">I", data, count_at + 8, 15)
    lying = as_file(bytes(data))
    assert indexed(lying).frames.key.nonzero()[0].tolist() == [0, 14, 20, 30, 40]
    result = rejected(lying, level="decode")
    assert result.reason == "decode_failed"
    assert "seeking to the key frame at 0.560 s" in result.detail


def test_interlaced_transport_streams_take_their_times_from_a_decoder(made: Made, indexed: Any) -> None:
    """Two fields of one picture may be two packets there, and only a decoder tells."""
    assert indexed(made("interlaced.ts")).times_from == "decoder"
    assert indexed(made("interlaced.mp4")).times_from == "packets"


def test_a_missing_frame_is_found_by_decoding(made: Made, in_memory: Any, monkeypatch: Any) -> None:
    from cineray.index import video

    monkeypatch.setattr(video, "hide_what_cannot_be_shown", lambda *arguments: None)
    data = made("b.ts").read_bytes()
    middle = data[188 * 50 :]  # begins between two key frames
    with pytest.raises(Unfit, match="the first that is missing is at"):
        index_bytes(in_memory(middle), level="decode")


def test_an_unknown_level_is_the_callers_mistake(made: Made) -> None:
    file = VideoFile(name="b", place=Place(uri=str(made("b.mp4"))))
    with pytest.raises(UsageError, match="'all'; wanted one of header, packets, decode"):
        index_video(file, level="all")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="hash_mode is 'md5'"):
        index_video(file, hash_mode="md5")  # type: ignore[arg-type]


def test_a_recording_cut_between_key_frames_begins_where_a_decoder_can_show_it(
    made: Made, as_file: Any, indexed: Any, ffprobe: Any
) -> None:
    for name in ("b.ts", "mpeg2.ts"):
        data = made(name).read_bytes()
        path = as_file(data[188 * 50 :])
        video = indexed(path, level="decode")
        shown = [int(f["best_effort_timestamp"]) for f in ffprobe(path)["packets_and_frames"] if f["type"] == "frame"]
        assert video.frames.pts.tolist() == shown
        assert video.frames.hidden_packets > 0


def test_a_cut_at_an_open_group_leaves_out_what_refers_before_it(made: Made, indexed: Any) -> None:
    video = indexed(made("cut_open_gop.mkv"), level="decode")
    assert not isinstance(video, Reject)


def test_hidden_reference_frames_of_vp8_are_no_frames(tmp_path: Path, ffmpeg: Any, indexed: Any, ffprobe: Any) -> None:
    path, log = tmp_path / "hidden.webm", tmp_path / "log"
    for number in (1, 2):
        words = (
            "-f lavfi -i mandelbrot=size=64x48:rate=25,trim=duration=3 -c:v libvpx -b:v 100k -auto-alt-ref 1 "
            f"-lag-in-frames 25 -deadline good -cpu-used 4 -pass {number} -passlogfile {log}"
        )
        ffmpeg(*shlex.split(words), path)
    video = indexed(path, level="decode")
    said = ffprobe(path)["packets_and_frames"]
    assert video.frames.pts.tolist() == [int(x["best_effort_timestamp"]) for x in said if x["type"] == "frame"]
    assert video.frames.hidden_packets == sum(x["type"] == "packet" for x in said) - video.num_frames > 0
