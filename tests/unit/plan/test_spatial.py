"""Crop boxes: in the upright picture, in the shape that is seen, inside the picture, at even pixels."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cineray.plan import Draws, FrameSpec, display_size, made_video
from cineray.plan.spatial import crop_of
from cineray.records import Crop


def crop(
    width: int,
    height: int,
    out: tuple[int, int],
    *,
    clip: int = 0,
    turn: int = 0,
    pixel: Fraction = Fraction(1),
    **how: Any,
) -> Crop:
    video = made_video(2, width=width, height=height, rotation_degrees=turn, sample_aspect_ratio=pixel)
    draws = Draws(1, dataset=0, clip_number=clip, epoch=0, draw=0)
    return crop_of(video, FrameSpec(**how), *out, draws)


def box(shown: Crop) -> tuple[int, int, int, int]:
    return shown.left, shown.top, shown.width, shown.height


@pytest.mark.parametrize(
    ("width", "height", "out", "expected"),
    [
        (320, 240, (128, 128), (40, 0, 240, 240)),
        (240, 320, (128, 128), (0, 40, 240, 240)),
        (320, 240, (96, 128), (0, 0, 320, 240)),
        (1920, 1080, (240, 320), (240, 0, 1440, 1080)),
        (321, 241, (128, 128), (40, 0, 240, 241)),
        (3, 3, (8, 8), (0, 0, 3, 3)),
        (1, 400, (8, 8), (0, 198, 1, 2)),
    ],
)
def test_the_middle_is_kept_in_shape(width: int, height: int, out: tuple[int, int], expected: tuple[int, ...]) -> None:
    assert box(crop(width, height, out)) == expected


def test_a_quarter_turn_swaps_width_and_height() -> None:
    assert box(crop(320, 240, (128, 128), turn=90)) == box(crop(240, 320, (128, 128))) == (0, 40, 240, 240)
    assert box(crop(320, 240, (128, 128), turn=180)) == box(crop(320, 240, (128, 128)))


def test_pixels_that_are_not_square_are_seen_as_they_are() -> None:
    """720x576 at 16:11 is seen as 1047 wide: a square of it is 396 pixels wide; turned, so is its pixel."""
    assert display_size(made_video(2, width=720, height=576, sample_aspect_ratio=Fraction(16, 11))) == (1047, 576)
    assert box(crop(720, 576, (128, 128), pixel=Fraction(16, 11))) == (162, 0, 396, 576)
    assert box(crop(720, 576, (128, 128), pixel=Fraction(16, 11), turn=90)) == (0, 162, 576, 396)
    assert box(crop(720, 576, (128, 128), pixel=Fraction(0))) == (72, 0, 576, 576)  # unknown: square


def test_stretch_takes_the_whole_picture() -> None:
    assert box(crop(320, 240, (64, 200), aspect="stretch")) == (0, 0, 320, 240)


@pytest.mark.parametrize(
    ("width", "height", "pixel", "out", "pads"),
    [
        (320, 240, 1, (128, 128), (16, 16, 0, 0)),
        (240, 320, 1, (128, 128), (0, 0, 16, 16)),
        (320, 240, 1, (96, 128), (0, 0, 0, 0)),
        (320, 240, 2, (128, 128), (40, 40, 0, 0)),
        (640, 481, 1, (128, 128), (16, 16, 0, 0)),
        (10_000, 2, 1, (16, 16), (7, 8, 0, 0)),
    ],
)
def test_padding_shows_all_between_borders(
    width: int, height: int, pixel: int, out: tuple[int, int], pads: tuple[int, ...]
) -> None:
    shown = crop(width, height, out, pixel=Fraction(pixel), pad=True)
    assert box(shown) == (0, 0, width, height)
    assert (shown.pad_top, shown.pad_bottom, shown.pad_left, shown.pad_right) == pads


@given(
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    out=st.tuples(st.integers(1, 512), st.integers(1, 512)),
    turn=st.sampled_from([0, 90, 180, 270]),
    pixel=st.fractions(Fraction(1, 4), 4, max_denominator=40),
    where=st.sampled_from(["center", "random"]),
)
@settings(max_examples=300, deadline=None)
def test_boxes_lie_in_the_picture_and_look_like_the_output(
    width: int, height: int, out: tuple[int, int], turn: int, pixel: Fraction, where: str
) -> None:
    shown = crop(width, height, out, turn=turn, pixel=pixel, crop=where)
    wide, high = (height, width) if turn % 180 else (width, height)
    seen = 1 / pixel if turn % 180 else pixel
    assert 0 <= shown.left <= shown.left + shown.width <= wide
    assert 0 <= shown.top <= shown.top + shown.height <= high
    assert shown.width in (wide, shown.width // 2 * 2)
    assert shown.height in (high, shown.height // 2 * 2)
    assert shown.left % 2 == shown.top % 2 == 0
    # All of one side, and the other within two pixels of the output's shape (or as near as the picture goes).
    assert shown.width == wide or shown.height == high
    exact = Fraction(out[1] * shown.height, out[0]) / seen if shown.height == high else None
    if exact is not None and shown.width < wide and exact >= 2:
        assert abs(shown.width - exact) <= 1


def test_a_random_crop_goes_everywhere_and_a_flip_as_often_as_asked() -> None:
    lefts = {crop(320, 240, (128, 128), clip=clip, crop="random").left for clip in range(500)}
    assert lefts == set(range(0, 81, 2))
    flips = [crop(320, 240, (128, 128), clip=clip, flip=0.25).flip for clip in range(2_000)]
    assert 430 < sum(flips) < 570
    assert not any(crop(320, 240, (128, 128), clip=clip, flip=0.0).flip for clip in range(100))
    assert all(crop(320, 240, (128, 128), clip=clip, flip=1.0).flip for clip in range(100))
