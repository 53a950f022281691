"""Known colours come out as they are, whatever matrix, range and depth they were stored with.

The samples are computed here from the textbook (ITU-R BT.601, BT.709, BT.2020: Y = Kr R + Kg G + Kb B), stored without
loss, and decoded: what comes out must be the colour that was meant, within 2 of 255 levels.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cineray.decode import DecodeOptions, decode_visit
from cineray.records import Clip, ClipSpec, IndexedVideo, Place

Index = Callable[[Path], IndexedVideo]
SpecOf = Callable[..., ClipSpec]

COLOURS = np.array(
    [
        (0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0), (0, 255, 0), (0, 0, 255),
        (230, 40, 40), (50, 200, 70), (60, 90, 240), (240, 220, 60), (16, 16, 16), (235, 235, 235),
    ]
)  # fmt: skip
KR_KB = {"smpte170m": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020nc": (0.2627, 0.0593)}


def samples(rgb: np.ndarray, matrix: str, full: bool, bits: int) -> np.ndarray:
    """Y, Cb, Cr as integers of that depth."""
    kr, kb = KR_KB[matrix]
    red, green, blue = rgb / 255.0
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    step, top = 2 ** (bits - 8), 2**bits - 1
    if full:
        values = np.array([luma * top, cb * top + 128 * step, cr * top + 128 * step])
    else:
        values = np.array([16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr]) * step
    return np.clip(np.rint(values), 0, top).astype(np.uint16 if bits > 8 else np.uint8)


def store(path: Path, planes: list[np.ndarray], pixel_format: str, size: tuple[int, int], *words: str) -> None:
    """One frame per colour: raw planes through the lossless FFV1."""
    raw = b"".join(plane.tobytes() for plane in planes)
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", pixel_format, "-s", f"{size[0]}x{size[1]}"]
    subprocess.run([*command, "-r", "5", "-i", "-", *words, str(path)], input=raw, check=True)


def flat_pictures(matrix: str, full: bool, bits: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Y at full size, Cb and Cr at half, for each colour."""
    planes = []
    for rgb in COLOURS:
        luma, cb, cr = samples(rgb, matrix, full, bits)
        planes.append(np.full((size[1], size[0]), luma, luma.dtype))
        planes += [np.full((size[1] // 2, size[0] // 2), chroma, luma.dtype) for chroma in (cb, cr)]
    return planes


def colours_of(path: Path, index_of: Index, spec_of: SpecOf, decoder: str, size: tuple[int, int]) -> np.ndarray:
    """The decoded colours, after it was made sure that each picture has only one."""
    video = index_of(path)
    spec = spec_of(video, range(len(COLOURS)), size=size)
    (clip,) = decode_visit(video, Place(uri=str(path)), [spec], options=DecodeOptions(decoder=decoder))
    assert isinstance(clip, Clip), clip
    assert np.all(clip.frames_THWC == clip.frames_THWC[:, :1, :1])
    return clip.frames_THWC[:, 0, 0].astype(int)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", ["smpte170m", "bt709", "bt2020nc"])
def test_known_colours_come_out(
    matrix: str, full: bool, bits: int, tmp_path: Path, index_of: Index, spec_of: SpecOf
) -> None:
    path, size = tmp_path / "colours.mkv", (32, 24)
    kind = "yuv420p" if bits == 8 else "yuv420p10le"
    words = ["-color_range", "pc" if full else "tv", "-colorspace", matrix, "-c:v", "ffv1"]
    store(path, flat_pictures(matrix, full, bits, size), kind, size, *words)
    found = colours_of(path, index_of, spec_of, "pyav", (16, 16))
    assert np.abs(found - COLOURS).max() <= 2, np.c_[COLOURS, found]
    if not full:  # torchcodec's FFmpeg rounds a little more
        assert np.abs(colours_of(path, index_of, spec_of, "torchcodec", (16, 16)) - COLOURS).max() <= 3


def test_torchcodec_is_not_asked_for_full_range_that_only_a_flag_tells(
    tmp_path: Path, index_of: Index, spec_of: SpecOf
) -> None:
    """0.13 takes its black for 16 and its white for 235, up to 20 levels off; the old full-range formats it knows."""
    path, size = tmp_path / "full.mkv", (32, 24)
    store(path, flat_pictures("bt709", True, 8, size), "yuv420p", size, "-color_range", "pc", "-c:v", "ffv1")
    video, options = index_of(path), DecodeOptions(decoder="torchcodec")
    (result,) = decode_visit(video, Place(uri=str(path)), [spec_of(video, [0])], options=options)
    assert result.reason == "unsupported"
    path = tmp_path / "full.mp4"
    words = ["-color_range", "pc", "-colorspace", "smpte170m", "-c:v", "libx264", "-qp", "0"]
    store(path, flat_pictures("smpte170m", True, 8, size), "yuvj420p", size, *words)
    assert np.abs(colours_of(path, index_of, spec_of, "torchcodec", (16, 16)) - COLOURS).max() <= 3


@pytest.mark.parametrize("size", [(32, 24), (1280, 720)], ids=["small", "large"])
def test_a_stream_that_does_not_say_is_601_limited_whatever_its_size(
    size: tuple[int, int], tmp_path: Path, index_of: Index, spec_of: SpecOf
) -> None:
    path = tmp_path / "colours.mp4"
    words = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "0"]
    store(path, flat_pictures("smpte170m", False, 8, size), "yuv420p", size, *words)
    video = index_of(path)
    assert (video.color_space, video.color_range) == ("unknown", "unknown")
    found = colours_of(path, index_of, spec_of, "pyav", (16, 16))
    assert np.abs(found - COLOURS).max() <= 2, np.c_[COLOURS, found]


@pytest.mark.parametrize(("name", "most_off"), [("tv", 0.51), ("pc", 1.3)])
def test_ten_bits_are_rounded_to_the_nearest_level(
    name: str, most_off: float, tmp_path: Path, index_of: Index, spec_of: SpecOf
) -> None:
    """A gray ramp through all 1024 levels: half of a level off at most, and never a step back.

    In full range FFmpeg's scaler takes 4 * 255 for white instead of 1023, so bright grays come out one level brighter.
    """
    path, size = tmp_path / "ramp.mkv", (1024, 16)
    ramp = np.broadcast_to(np.arange(1024, dtype=np.uint16), (16, 1024))
    middle = np.full((8, 512), 512, np.uint16)
    store(
        path, [ramp, middle, middle], "yuv420p10le", size, "-color_range", name, "-colorspace", "bt709", "-c:v", "ffv1"
    )
    video = index_of(path)
    (clip,) = decode_visit(video, Place(uri=str(path)), [spec_of(video, [0])])
    found = clip.frames_THWC[0, 8].astype(float)
    levels = np.arange(1024)
    exact = levels * 255 / 1023 if name == "pc" else np.clip((levels / 4 - 16) * 255 / 219, 0, 255)
    assert np.abs(found - exact[:, None]).max() <= most_off
    assert np.all(np.diff(found, axis=0) >= 0)


def test_stored_rgb_comes_out_unchanged(tmp_path: Path, index_of: Index, spec_of: SpecOf) -> None:
    path, size = tmp_path / "rgb.mkv", (32, 24)
    planes = [np.full((24, 32), value, np.uint8) for rgb in COLOURS for value in (rgb[1], rgb[2], rgb[0])]
    store(path, planes, "gbrp", size, "-c:v", "ffv1")
    assert np.array_equal(colours_of(path, index_of, spec_of, "pyav", (16, 16)), COLOURS)


def test_gray_video_is_limited_unless_it_says_otherwise(tmp_path: Path, index_of: Index, spec_of: SpecOf) -> None:
    """Black at 16 and white at 235, as monochrome H.264 has it."""
    path, size = tmp_path / "gray.mkv", (32, 24)
    planes = [np.full((24, 32), value, np.uint8) for value in np.linspace(16, 235, len(COLOURS)).round()]
    store(path, planes, "gray", size, "-color_range", "tv", "-c:v", "libx264", "-qp", "0")
    found = colours_of(path, index_of, spec_of, "pyav", (16, 16))
    assert np.abs(found - np.linspace(0, 255, len(COLOURS))[:, None]).max() <= 1.5


def test_hdr_is_decoded_without_tone_mapping(made: Callable[[str], Path], index_of: Index, spec_of: SpecOf) -> None:
    """Its code values are taken as they are; the index says which videos that concerns."""
    video = index_of(made("hdr.mp4"))
    assert video.color_transfer == "smpte2084"
    (clip,) = decode_visit(video, Place(uri=str(made("hdr.mp4"))), [spec_of(video, [0, 10])])
    assert isinstance(clip, Clip)
    assert clip.frames_THWC.std() > 20


def test_a_colour_space_that_is_no_matrix_is_refused(tmp_path: Path, index_of: Index, spec_of: SpecOf) -> None:
    path, size = tmp_path / "odd.mp4", (32, 24)
    words = ["-c:v", "libx264", "-qp", "0", "-colorspace", "ycgco"]
    store(path, flat_pictures("bt709", False, 8, size), "yuv420p", size, *words)
    video = index_of(path)
    (result,) = decode_visit(video, Place(uri=str(path)), [spec_of(video, [0])])
    assert (result.reason, "ycgco" in result.detail) == ("unsupported", True)
