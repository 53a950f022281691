"""What a packet says of itself in its first bytes, against what FFmpeg finds when it decodes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from cineray.decode import decode_visit
from cineray.decode.disposable import disposable_test
from cineray.decode.true_keys import slice_type, true_key_test
from cineray.records import Clip, ClipSpec, IndexedVideo, Place

TEST = ["-f", "lavfi", "-i", "testsrc2=size=160x96:rate=25:duration=4"]
REFRESH = ["-c:v", "libx264", "-preset", "fast", "-pix_fmt", "yuv420p", "-x264-params", "intra-refresh=1:keyint=20"]


def kinds(path: Path) -> tuple[list[str], list[bool], list[bool]]:
    """For each packet: FFmpeg's picture type, whether it is disposable, whether it is a true key frame."""
    types, disposable, keys = {}, [], []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.copy_opaque = True
        extradata = bytes(stream.codec_context.extradata or b"")
        is_disposable = disposable_test(stream.codec_context.codec.canonical_name, extradata)
        is_key = true_key_test(stream.codec_context.codec.canonical_name, extradata)
        for number, packet in enumerate(container.demux(stream)):
            if packet.size:
                disposable.append(is_disposable(memoryview(packet)))
                keys.append(is_key(memoryview(packet)))
                packet.opaque = [number]
            for frame in stream.codec_context.decode(packet if packet.size else None):
                types[frame.opaque[0]] = av.video.frame.PictureType(frame.pict_type).name
    return [types[n] for n in range(len(keys))], disposable, keys


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv", "b.ts", "h265.mp4", "h265.mkv", "pyramid.mp4", "open_gop.mp4"])
def test_only_b_pictures_are_disposable_and_only_i_pictures_are_keys(name: str, made: Callable[[str], Path]) -> None:
    types, disposable, keys = kinds(made(name))
    assert {kind for kind, one in zip(types, disposable, strict=True) if one} == {"B"}
    assert {kind for kind, one in zip(types, keys, strict=True) if one} == {"I"}
    assert sum(disposable) >= 10
    assert sum(keys) >= 2 or name == "pyramid.mp4"


def test_without_b_pictures_nothing_is_disposable(made: Callable[[str], Path]) -> None:
    assert not any(kinds(made("no_b.mp4"))[1])


def test_half_of_the_b_pictures_of_a_pyramid_are_kept(made: Callable[[str], Path]) -> None:
    """Pictures that refer to B-pictures need them: these are B and not disposable."""
    types, disposable, _ = kinds(made("pyramid.mp4"))
    assert sum(kind == "B" and not one for kind, one in zip(types, disposable, strict=True)) >= 3


def test_the_slice_type_is_read_from_the_header() -> None:
    """first_mb 0 is `1`; types 2 and 7 are I: `011` and `0001000`; type 5 is P: `00110`."""
    assert slice_type(bytes([0x65, 0b1_011_0000])) == 2
    assert slice_type(bytes([0x65, 0b1_0001000])) == 7
    assert slice_type(bytes([0x41, 0b1_00110_00])) == 5
    assert slice_type(bytes([0x41, 0x00, 0x00, 0x03, 0x00])) == -1


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_gradual_refresh_is_no_key_frame_and_its_frames_are_those_of_a_plain_decode(
    suffix: str,
    ffmpeg: Callable[..., None],
    tmp_path: Path,
    index_of: Callable[[Path], IndexedVideo],
    spec_of: Callable[..., ClipSpec],
    in_sequence: Callable[..., dict[int, np.ndarray]],
) -> None:
    """FFmpeg calls five packets of this video key frames; only the first is one."""
    ffmpeg(*TEST, *REFRESH, tmp_path / "plain.mp4")
    path = tmp_path / f"refresh.{suffix}"
    ffmpeg("-i", tmp_path / "plain.mp4", "-c", "copy", path)
    video = index_of(path)
    frames = list(range(99, 0, -7))
    expected = in_sequence(path, video, set(frames), spec_of(video, [0]).crop)
    for number in frames:
        (clip,) = decode_visit(video, Place(uri=str(path)), [spec_of(video, [number])])
        assert isinstance(clip, Clip), clip
        assert np.array_equal(clip.frames_THWC[0], expected[number]), number
    _, _, keys = kinds(path)
    assert sum(keys) == 1
