"""Motion, still parts and laid-over marks, on pictures drawn to have them and on pictures drawn not to."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import shift

from cineray.curate.measures.motion import Motion
from cineray.curate.measures.overlay import Overlay
from cineray.curate.measures.still import Still

FRAMES = 48


def pan(picture: Any, pixels_per_frame: float, frames: int = FRAMES) -> Any:
    """The camera turns: the picture runs through the frame, and comes round."""
    return np.stack([shift(picture, (0, pixels_per_frame * at), order=1, mode="grid-wrap") for at in range(frames)])


def held(picture: Any, frames: int = FRAMES) -> Any:
    return np.repeat(picture[None], frames, axis=0)


# ---- motion ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths_per_second", [0.1, 0.25, 0.4])
def test_a_pan_moves_everywhere_with_its_speed(film: Any, landscape: Any, widths_per_second: float) -> None:
    found = Motion()(film(pan(landscape(1), widths_per_second * 256 / 24)))
    assert found["motion_fraction"] > 0.8
    assert found["motion_camera_speed"] == pytest.approx(widths_per_second, rel=0.1)
    assert found["motion_speed"] == pytest.approx(widths_per_second, rel=0.15)


def test_one_thing_that_moves_is_a_small_part_and_the_camera_stands(film: Any, landscape: Any) -> None:
    pictures, thing = held(landscape(1)), landscape(9, 32, 32, 3.0)
    for at in range(FRAMES):
        pictures[at, 60:92, 20 + 3 * at : 52 + 3 * at] = thing
    found = Motion()(film(pictures))
    assert 0.02 < found["motion_fraction"] < 0.2
    assert found["motion_camera_speed"] == 0.0


@pytest.mark.parametrize("kind", ["flicker", "a fade", "flashes", "grain", "a lamp that sweeps"])
def test_light_and_grain_are_no_motion(film: Any, landscape: Any, kind: str) -> None:
    pictures, rng, at = held(landscape(1)), np.random.default_rng(0), np.arange(FRAMES)[:, None, None]
    if kind == "flicker":
        pictures = pictures * rng.uniform(0.6, 1.1, (FRAMES, 1, 1))
    elif kind == "a fade":
        pictures = pictures * np.linspace(1, 0.2, FRAMES)[:, None, None]
    elif kind == "flashes":
        pictures[::5] += 60
    elif kind == "grain":
        pictures = pictures + rng.normal(0, 12, pictures.shape)
    else:
        pictures = pictures * (0.7 + 0.3 * np.cos(np.linspace(0, 2, 256)[None, None] + at / 8))
    found = Motion()(film(pictures))
    assert found["motion_fraction"] < 0.02
    assert found["motion_camera_speed"] == 0.0


def test_speed_does_not_depend_on_the_frame_rate(film: Any, landscape: Any) -> None:
    pictures = pan(landscape(1), 2.0)
    full, half = Motion()(film(pictures)), Motion()(film(pictures[::2], pts=range(0, FRAMES, 2)))
    assert full["motion_camera_speed"] == pytest.approx(half["motion_camera_speed"], rel=0.1)


def test_noise_is_not_matched_and_a_flat_picture_is_not_known(film: Any) -> None:
    noise = np.random.default_rng(0).uniform(0, 255, (FRAMES, 36, 64)).repeat(4, axis=1).repeat(4, axis=2)
    assert Motion()(film(noise))["motion_unmatched"] > 0.9
    flat = Motion()(film(np.full((FRAMES, 144, 256), 90)))
    assert (flat.pop("motion_none_spans"), set(flat.values())) == ([], {None})


def test_where_nothing_moves_is_said_in_time(film: Any, landscape: Any) -> None:
    """A second without motion, a second of it, and again one without; told to half the distance of two looks."""
    still = np.repeat(landscape(1)[None], 24, axis=0)
    found = Motion()(film(np.concatenate([still, pan(landscape(2), 2.0)[:24], still])))
    (first, second) = found["motion_none_spans"]
    assert (first.start_pts, second.end_pts) == (0, 72)
    assert first.end_pts == pytest.approx(24, abs=3)
    assert second.start_pts == pytest.approx(48, abs=3)


def test_of_a_long_video_every_scene_is_looked_at(film: Any, landscape: Any) -> None:
    """Four minutes: in the third, three seconds move. 150 looks would be one in 1.6 s."""
    small = landscape(1).reshape(36, 4, 64, 4).mean(axis=(1, 3))
    pictures = np.repeat(small[None].astype(np.uint8), 2400, axis=0)
    pictures[1500:1530] = pan(landscape(2), 4.0)[:30].reshape(30, 36, 4, 64, 4).mean(axis=(2, 4))
    found = Motion()(film(pictures, pts=range(2400), time_base=Fraction(1, 10)))
    (before, after) = found["motion_none_spans"]
    assert (before.start_pts, after.end_pts) == (0, 2400)
    assert before.end_pts == pytest.approx(1500, abs=5)
    assert after.start_pts == pytest.approx(1530, abs=5)


# ---- still -----------------------------------------------------------------------------------------------------------


def test_a_video_that_freezes_says_when(film: Any, landscape: Any) -> None:
    pictures = pan(landscape(1), 2.0)
    pictures[24:] = pictures[24]
    assert Still()(film(pictures)) == {
        "still_frozen_fraction": 0.5,
        "still_frozen_spans": [(24, 48, "frozen")],
        "still_repeated_fraction": 0.0,
    }


def test_frozen_is_still_frozen_after_an_encoder_and_a_slow_pan_is_not(film: Any, landscape: Any, shot: Any) -> None:
    slide = shot("-f", "lavfi", "-i", "testsrc2=s=256x144:d=2:r=24", "-vf", "select='eq(n,0)',loop=47:1,setpts=N/24/TB")
    assert Still()(slide)["still_frozen_fraction"] == 1.0
    assert Still()(film(pan(landscape(1), 0.1)))["still_frozen_fraction"] == 0.0


def test_a_small_thing_that_moves_is_enough_not_to_be_frozen(film: Any, landscape: Any) -> None:
    pictures = held(landscape(1))
    for at in range(FRAMES):
        pictures[at, 60:76, 20 + 2 * at : 36 + 2 * at] = 250
    assert Still()(film(pictures))["still_frozen_fraction"] == 0.0


def test_every_fifth_frame_shown_twice_is_a_fifth_repeated(film: Any, landscape: Any) -> None:
    pictures = pan(landscape(1), 2.0, 40)[[at - at // 5 for at in range(45)]]
    found = Still()(film(pictures))
    assert found["still_repeated_fraction"] == pytest.approx(8 / 45)
    assert found["still_frozen_fraction"] == 0.0


def test_what_hardly_moves_repeats_nothing(film: Any, landscape: Any) -> None:
    assert Still()(film(pan(landscape(1), 0.03)))["still_repeated_fraction"] == 0.0


# ---- overlay ---------------------------------------------------------------------------------------------------------


def logo(pictures: Any) -> Any:
    """Five white bars in the upper right corner."""
    marked = pictures.copy()
    for at in range(5):
        marked[:, 8 + 4 * at : 10 + 4 * at, 220:250] = 235
    return marked


def test_a_logo_in_a_corner_is_seen_and_a_bare_pan_has_none(film: Any, landscape: Any) -> None:
    bare = pan(landscape(1), 3.0)
    assert Overlay()(film(bare)) == {"overlay_share": 0.0, "overlay_corners": 0}
    found = Overlay()(film(logo(bare)))
    assert found["overlay_corners"] == 1
    assert 0 < found["overlay_share"] < 0.1


def test_a_subtitle_bar_is_seen_though_it_is_in_no_corner(film: Any, landscape: Any) -> None:
    pictures = pan(landscape(1), 3.0)
    for at in range(12):
        pictures[:, 118:130, 80 + 8 * at : 84 + 8 * at] = 240
    found = Overlay()(film(pictures))
    assert found["overlay_share"] >= 2 / 64
    assert found["overlay_corners"] == 0


def test_where_the_camera_stands_nothing_can_be_said(film: Any, landscape: Any) -> None:
    assert Overlay()(film(logo(held(landscape(1, softness=2.0))))) == {"overlay_share": None, "overlay_corners": None}


def test_the_edge_of_a_letterbox_is_no_mark(film: Any, landscape: Any) -> None:
    pictures = pan(landscape(1), 3.0)
    pictures[:, :18], pictures[:, -18:] = 16, 16
    assert Overlay()(film(pictures)) == {"overlay_share": 0.0, "overlay_corners": 0}
