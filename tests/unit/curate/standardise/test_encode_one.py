"""What was written is looked at again: each way in which it can be wrong is a reject, and leaves no file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cineray.curate.standardise import encode_one as proving
from cineray.curate.standardise.encode_one import Standardised, encode_one, psnr_db
from cineray.curate.standardise.times import times_of
from cineray.decode.encoding import Encoding
from cineray.decode.reencode import Encoded, reencode
from cineray.index import index_video
from cineray.records import IndexedVideo, Place, Reject, VideoFile
from cineray.storage import AccessPolicy
from cineray.testing.stamped import stamp_video

Made = Standardised | Reject


@pytest.fixture
def encode(tmp_path: Path) -> Callable[..., Made]:
    """`encode()`: twelve stamped frames, into groups of four."""

    def do() -> Made:
        stamp_video(tmp_path / "raw.mp4", frames=12, size_px=(128, 96))
        place = Place(uri=str(tmp_path / "raw.mp4"))
        video = index_video(VideoFile(name="raw", place=place))
        assert isinstance(video, IndexedVideo)
        out, policy = str(tmp_path / "out.mp4"), AccessPolicy()
        return encode_one(video, place, out, Encoding(gop=4), times_of(video, None), policy=policy)

    return do


def wrong_by(change: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the encoder write something else than it was asked for."""

    def wrong(video: IndexedVideo, place: Place, out: str, encoding: Encoding, times: Any, **told: Any) -> Any:
        changed = {"encoding": encoding, "times": times} | change(encoding, times)
        return reencode(video, place, out, changed["encoding"], changed["times"], **told)

    monkeypatch.setattr(proving, "reencode", wrong)


def test_a_good_one_comes_with_its_index_and_how_much_was_lost(encode: Callable[..., Made], tmp_path: Path) -> None:
    made = encode()
    assert isinstance(made, Standardised)
    assert (made.video.num_frames, made.video.validated) == (12, "decode")
    assert made.worst_psnr_db <= made.psnr_db
    assert made.psnr_db > 40
    assert (tmp_path / "out.mp4").stat().st_size == made.video.size_bytes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e, t: {"encoding": replace(e, gop=8)}, "8 frames lie between key frames and at most 4 should"),
        (lambda e, t: {"encoding": replace(e, codec="hevc")}, "codec is hevc and should be h264"),
        (lambda e, t: {"times": replace(t, end_pts=t.end_pts + 1)}, "end is"),
        (
            lambda e, t: {"times": replace(t, pts_T=t.pts_T + (np.arange(12) == 5))},
            "its timestamps are not those that were asked for",
        ),
        (
            lambda e, t: {"times": replace(t, frame_numbers_T=t.frame_numbers_T[:9], pts_T=t.pts_T[:9])},
            "frames is 9 and should be 12",
        ),
    ],
)
def test_what_is_not_what_was_asked_for_is_rejected(
    encode: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, said: str
) -> None:
    wrong_by(change, monkeypatch)
    made = encode()
    assert isinstance(made, Reject)
    assert (made.stage, made.reason) == ("standardise", "encode_failed")
    assert said in made.detail
    assert not (tmp_path / "out.mp4").exists()


def test_other_pictures_than_went_in_show_as_few_decibels(
    encode: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(*arguments: Any, **told: Any) -> Any:
        made = reencode(*arguments, **told)
        assert isinstance(made, Encoded)
        return replace(made, luma_NHW={number: 255 - luma for number, luma in made.luma_NHW.items()})

    monkeypatch.setattr(proving, "reencode", swapped)
    made = encode()
    assert isinstance(made, Standardised)
    assert made.worst_psnr_db < 10


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_what_the_numbers_mean_as_colours_stays_said(tmp_path: Path, ffmpeg: Callable[..., None], codec: str) -> None:
    """HDR10: cut to eight bits, but still told to be PQ in BT.2020."""
    tags = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    words = ["-f", "lavfi", "-i", "testsrc2=size=128x96:rate=10:duration=1", "-c:v", "libx265", "-pix_fmt"]
    ffmpeg(*words, "yuv420p10le", "-x265-params", f"log-level=none:{tags}", tmp_path / "raw.mp4")
    place = Place(uri=str(tmp_path / "raw.mp4"))
    video = index_video(VideoFile(name="raw", place=place))
    assert isinstance(video, IndexedVideo)
    out, encoding = str(tmp_path / "out.mp4"), Encoding(codec=codec)
    made = encode_one(video, place, out, encoding, times_of(video, None), policy=AccessPolicy())
    assert isinstance(made, Standardised), made
    got = (made.video.color_primaries, made.video.color_transfer, made.video.color_space, made.video.bit_depth)
    assert got == ("bt2020", "smpte2084", "bt2020nc", 8)


def test_decibels_of_a_known_error() -> None:
    black, grey = np.zeros((4, 4), np.uint8), np.full((4, 4), 51, np.uint8)
    assert psnr_db(black, grey) == pytest.approx(13.979, abs=0.001)
    assert psnr_db(black, black) == 100.0
