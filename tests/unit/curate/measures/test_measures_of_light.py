"""Black, brightness, borders, blur and flashes, on pictures drawn to have them and on pictures drawn not to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cineray.curate.measures.black import Black
from cineray.curate.measures.blur import Blur
from cineray.curate.measures.borders import Borders
from cineray.curate.measures.brightness import Brightness
from cineray.curate.measures.flashes import Flashes


def held(picture: Any, frames: int = 24) -> Any:
    return np.repeat(picture[None], frames, axis=0)


# ---- black -----------------------------------------------------------------------------------------------------------


def test_a_black_second_of_four_is_a_quarter_and_says_when(film: Any, landscape: Any) -> None:
    pictures = np.concatenate([held(landscape(1), 48), np.full((24, 144, 256), 12), held(landscape(2), 24)])
    assert Black()(film(pictures)) == {"black_fraction": 0.25, "black_spans": [(48, 72, "black")]}


def test_a_dark_room_is_not_black(film: Any, landscape: Any) -> None:
    lamp = np.full((144, 256), 12.0)
    lamp[40:80, 100:140] = 60
    assert Black()(film(held(lamp))) == {"black_fraction": 0.0, "black_spans": []}


def test_a_small_logo_does_not_make_black_light(film: Any) -> None:
    picture = np.full((144, 256), 12.0)
    picture[4:16, 4:24] = 200
    assert Black()(film(held(picture)))["black_fraction"] == 1.0


def test_black_is_counted_in_time_and_not_in_frames(film: Any, landscape: Any) -> None:
    pictures = np.concatenate([held(landscape(1), 3), np.zeros((1, 144, 256))])
    found = Black()(film(pictures, pts=[0, 1, 2, 3]))
    longer = Black()(film(pictures[[0, 1, 3, 2]], pts=[0, 1, 2, 8]))
    assert (found["black_fraction"], longer["black_fraction"]) == (0.25, 6 / 9)
    assert longer["black_spans"] == [(2, 8, "black")]


# ---- brightness ------------------------------------------------------------------------------------------------------


def test_brightness_contrast_and_what_is_clipped(film: Any) -> None:
    halves = np.zeros((144, 256))
    halves[:, 128:] = 200
    assert Brightness()(film(held(halves))) == {
        "brightness_mean": 100.0,
        "brightness_contrast": 100.0,
        "brightness_clipped": 0.5,
        "brightness_dim_spans": [],
        "brightness_flat_spans": [],
    }


def test_when_it_is_too_dim_or_too_flat_to_see_anything(film: Any, landscape: Any) -> None:
    """A picture, a second of almost black, a second of fog, and a dark room with a lamp."""
    room = np.full((144, 256), 8.0)
    room[40:80, 60:140] = 120
    parts = [held(landscape(1)), np.full((24, 144, 256), 6), np.full((24, 144, 256), 150), held(room)]
    found = Brightness()(film(np.concatenate(parts)))
    assert found["brightness_dim_spans"] == [(24, 48, "dim")]
    assert found["brightness_flat_spans"] == [(24, 72, "flat")]


def test_a_video_that_fades_has_no_contrast_by_that(film: Any) -> None:
    grey = np.arange(0, 240, 10)[:, None, None] * np.ones((1, 144, 256))
    assert Brightness()(film(grey))["brightness_contrast"] == 0.0


# ---- borders ---------------------------------------------------------------------------------------------------------


def test_a_letterbox_is_measured_to_the_row(film: Any, landscape: Any) -> None:
    picture = landscape(1)
    picture[:18], picture[-27:] = 16, 16
    assert Borders()(film(held(picture))) == {
        "borders_top": 18 / 144,
        "borders_bottom": pytest.approx(27 / 144),
        "borders_left": 0.0,
        "borders_right": 0.0,
        "borders_fraction": pytest.approx(45 / 144),
    }


def test_a_pillarbox_after_an_encoder_is_measured_to_a_pixel(shot: Any) -> None:
    found = Borders()(shot("-f", "lavfi", "-i", "testsrc2=s=192x144:d=1:r=24", "-vf", "pad=256:144:32:0", "-crf", 28))
    assert found["borders_left"] == pytest.approx(32 / 256, abs=1.01 / 256)
    assert found["borders_right"] == pytest.approx(32 / 256, abs=1.01 / 256)
    assert (found["borders_top"], found["borders_bottom"]) == (0.0, 0.0)


def test_a_picture_to_its_edges_has_no_borders(film: Any, landscape: Any) -> None:
    assert Borders()(film(held(landscape(3))))["borders_fraction"] == 0.0


def test_a_border_that_is_not_always_there_is_none(film: Any, landscape: Any) -> None:
    boxed = landscape(1)
    boxed[:18], boxed[-18:] = 16, 16
    assert Borders()(film(np.concatenate([held(boxed), held(landscape(1))])))["borders_fraction"] == 0.0


def test_a_black_part_of_the_video_makes_no_border(film: Any, landscape: Any) -> None:
    assert Borders()(film(np.concatenate([np.full((24, 144, 256), 16), held(landscape(1))])))["borders_fraction"] == 0.0
    assert Borders()(film(np.full((24, 144, 256), 16)))["borders_fraction"] == 0.0


def test_a_lamp_in_the_dark_has_no_borders(film: Any) -> None:
    night = np.full((144, 256), 14.0)
    night[60:80, 120:150] = 230
    assert Borders()(film(held(night)))["borders_fraction"] == 0.0


# ---- blur ------------------------------------------------------------------------------------------------------------


def test_the_same_picture_out_of_focus_is_more_blurred(film: Any, landscape: Any) -> None:
    sharp = np.where(landscape(1) > 128, 200.0, 60.0)
    values = [Blur()(film(held(gaussian_filter(sharp, soft) if soft else sharp)))["blur"] for soft in (0, 1, 2, 4)]
    assert values == sorted(values)
    assert values[0] < 0.2
    assert values[3] > 0.6


def test_blur_does_not_follow_contrast(film: Any, landscape: Any) -> None:
    sharp = np.where(landscape(1) > 128, 200.0, 60.0)
    pale = 120 + (sharp - 120) / 4
    one, other = (Blur()(film(held(picture)))["blur"] for picture in (sharp, pale))
    assert one == pytest.approx(other, abs=0.02)


def test_blur_grows_with_the_blur_however_strong_it_is_and_the_dark_is_not_blurred(
    shot: Any, landscape: Any, tmp_path: Any
) -> None:
    """A picture with edges, encoded: as it is, a little soft, and so soft that neighbours differ by less than a level.
    With a twelfth of the light its edges are of a dozen grey levels, and as sharp."""
    from PIL import Image

    picture = np.kron(np.where(landscape(1) > 128, 200.0, 60.0), np.ones((2, 2)))

    def blur_best(blurred: str, light: float = 1.0) -> float:
        Image.fromarray((picture * light).astype(np.uint8)).save(tmp_path / "picture.png")
        still = ("-loop", 1, "-t", 0.5, "-i", tmp_path / "picture.png")
        return float(Blur()(shot(*still, "-vf", f"scale=640:360,{blurred}"))["blur_best"])

    sharp, soft, lost = (blur_best(blurred) for blurred in ("null", "gblur=2", "gblur=20"))
    assert sharp < 0.4 < soft < 0.75 < 0.85 < lost
    assert blur_best("null", light=1 / 12) < 0.4


def test_contrast_without_any_edge_is_as_blurred_as_can_be(film: Any) -> None:
    """From dark to bright over the whole picture, less than a grey level from pixel to pixel."""
    assert Blur()(film(held(np.linspace(60, 200, 256) * np.ones((144, 1))))) == {"blur": 1.0, "blur_best": 1.0}


def test_a_flat_picture_is_neither_sharp_nor_blurred(film: Any) -> None:
    assert Blur()(film(np.full((24, 144, 256), 90))) == {"blur": None, "blur_best": None}


# ---- flashes ---------------------------------------------------------------------------------------------------------


def test_two_flashes_are_found_where_they_are(film: Any, landscape: Any) -> None:
    pictures = held(landscape(1) * 0.6, 48)
    pictures[10:12] += 80
    pictures[30] += 60
    assert Flashes()(film(pictures)) == {
        "flashes_count": 2,
        "flashes_per_second": 2,
        "flashes_spans": [(10, 12, "flash"), (30, 31, "flash")],
        "flashes_strobe_spans": [],
    }


def test_a_strobe_has_its_times_and_flashes_far_apart_are_none(film: Any, landscape: Any) -> None:
    """24 frames a second: one flash each second, then six within one."""
    pictures = held(landscape(1) * 0.6, 120)
    pictures[[2, 26, 50]] += 80
    pictures[72:96:4] += 80
    found = Flashes()(film(pictures))
    assert (found["flashes_count"], found["flashes_strobe_spans"]) == (9, [(72, 93, "strobe")])


def test_a_strobe_is_as_many_flashes_a_second_as_it_has(film: Any, landscape: Any) -> None:
    pictures = held(landscape(1) * 0.6, 72)
    pictures[24:48:4] += 80
    found = Flashes()(film(pictures))
    assert (found["flashes_count"], found["flashes_per_second"]) == (6, 6)


@pytest.mark.parametrize(
    "kind",
    [
        "a cut to a lighter scene",
        "a lamp that stays on",
        "a lamp for a second",
        "a slow fade",
        "one frame of another scene",
    ],
)
def test_what_is_not_a_flash(film: Any, landscape: Any, kind: str) -> None:
    pictures = held(landscape(1) * 0.6, 48)
    if kind == "a cut to a lighter scene":
        pictures[20:] = landscape(2) * 0.6 + 70
    elif kind == "a lamp that stays on":
        pictures[20:] += 60
    elif kind == "a lamp for a second":
        pictures[12:36] += 60
    elif kind == "a slow fade":
        pictures = pictures * (1 - np.abs(np.linspace(-1, 1, 48)))[:, None, None]
    else:
        pictures[20], pictures[21:] = landscape(2) * 0.6 + 60, landscape(3) * 0.6
    assert Flashes()(film(pictures))["flashes_count"] == 0
