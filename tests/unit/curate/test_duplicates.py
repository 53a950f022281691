"""Copies and strangers: real encodes of drawn scenes, and signatures of numbers where many are wanted."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from cineray.curate.duplicates import NEIGHBOURS, best_copy, candidates, duplicate_sets
from cineray.curate.likeness import Alike, likeness
from cineray.curate.signatures import LONGEST, MIRROR_D, Signature, Signatures, signature_of
from cineray.errors import CinerayError

FRAMES = 128  # a signature of them has 22 periods of a quarter of a second, six frames each


@pytest.fixture
def scene(landscape: Callable[..., Any]) -> Callable[..., Any]:
    """`scene(place, happening)`: a still background of that seed, and three things that move as the other seed says."""

    def draw(place: int, happening: int) -> Any:
        pictures = np.repeat(landscape(place, softness=12.0)[None], FRAMES, axis=0)
        rng = np.random.default_rng(happening)
        for _ in range(3):
            path = gaussian_filter(rng.standard_normal((FRAMES, 2)), (8, 0), mode="wrap")
            path = (path / np.abs(path).max() * [45, 90] + [72, 128]).astype(int)
            tone = rng.choice([60, 200])
            for at, (y, x) in enumerate(path):
                pictures[at, max(y - 16, 0) : y + 16, max(x - 20, 0) : x + 20] = tone
        return pictures

    return draw


def text(footage: Any) -> str:
    signature = signature_of(footage)
    assert signature is not None
    return signature.to_text()


# ---- copies ----------------------------------------------------------------------------------------------------------


def letterboxed(pictures: Any) -> Any:
    boxed = np.full_like(pictures, 16)
    boxed[:, 18:-18] = pictures[:, np.linspace(0, 143, 108).round().astype(int)]
    return boxed


COPIES: dict[str, Callable[[Any], Any]] = {
    "mirrored": lambda pictures: pictures[:, :, ::-1],
    "brighter and paler": lambda pictures: pictures * 0.7 + 50,
    "letterboxed": letterboxed,
    "grain": lambda pictures: pictures + np.random.default_rng(0).normal(0, 15, pictures.shape),
    "cropped by a tenth": lambda pictures: pictures[:, 7:137, 12:244][:, np.linspace(0, 129, 144).round().astype(int)][
        :, :, np.linspace(0, 231, 256).round().astype(int)
    ],
    "half a second cut off each end": lambda pictures: pictures[12:-12],
    "cut off by half a period": lambda pictures: pictures[3:],
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found(film: Any, scene: Any, kind: str) -> None:
    pictures = scene(1, 1)
    signatures = {"original": text(film(pictures)), "copy": text(film(COPIES[kind](pictures)))}
    assert duplicate_sets(signatures) == [("copy", "original")]


def test_a_cut_of_half_a_period_costs_little(film: Any, scene: Any) -> None:
    pictures = scene(1, 1)
    one, other = (signature_of(film(part)) for part in (pictures, pictures[3:]))
    assert Alike(change=0.8).holds(likeness(one, other, Alike(change=0.8)))


def test_half_of_the_frames_and_unequal_times_make_a_copy(film: Any, scene: Any) -> None:
    pictures = scene(1, 1)
    kept = [at for at in range(FRAMES) if at % 3 != 1]
    fewer = film(pictures[kept], pts=kept)
    assert duplicate_sets({"a": text(film(pictures)), "b": text(fewer)}) == [("a", "b")]


def test_encoded_hard_at_half_the_size_and_another_rate_it_is_a_copy(shot: Any) -> None:
    words = ("-f", "lavfi", "-i", "mandelbrot=s=320x180:rate=25", "-t", 3)
    one, other = shot(*words), shot(*words, "-vf", "scale=160:90,fps=15", "-crf", 40)
    assert duplicate_sets({"one": text(one), "other": text(other)}) == [("one", "other")]


# ---- strangers -------------------------------------------------------------------------------------------------------


def test_two_clips_of_one_place_look_alike_and_are_no_copies(film: Any, scene: Any) -> None:
    one, other = (signature_of(film(scene(1, happening))) for happening in (1, 2))
    found = likeness(one, other)
    assert found.look > 0.6  # a rule that looked at pictures alone could not tell
    assert duplicate_sets({"one": one.to_text(), "other": other.to_text()}) == []


def test_the_same_happening_at_another_place_is_no_copy(film: Any, landscape: Any, scene: Any) -> None:
    signatures = {f"{place}": text(film(scene(place, 1))) for place in range(1, 4)}
    assert duplicate_sets(signatures) == []
    one, other = (Signature.from_text(signatures[place]) for place in "12")
    assert not Alike().holds(likeness(one, other))


def test_twenty_scenes_and_a_copy_of_each_are_twenty_sets(film: Any, scene: Any) -> None:
    signatures = {}
    for number in range(20):
        pictures = scene(number // 2, number)  # always two of one place
        signatures[f"{number:02d}"] = text(film(pictures))
        signatures[f"{number:02d} copy"] = text(film(COPIES["grain"](pictures[5:])))
    assert duplicate_sets(signatures) == [(f"{number:02d}", f"{number:02d} copy") for number in range(20)]


def test_a_blink_of_a_place_is_no_copy_of_what_was_filmed_there(film: Any, scene: Any) -> None:
    signatures = {"long": text(film(scene(1, 1)[:96])), "blink": text(film(scene(1, 1)[42:45]))}
    assert duplicate_sets(signatures) == []
    assert duplicate_sets(signatures | {"again": signatures["blink"]}) == [("again", "blink")]


# ---- still videos ----------------------------------------------------------------------------------------------------


def test_the_same_still_picture_is_a_copy_and_a_slightly_other_one_is_not(film: Any, landscape: Any) -> None:
    slide = np.repeat(landscape(1)[None], FRAMES, axis=0)
    other = slide.copy()
    other[:, 70:95, 60:90] = 220
    found = likeness(*(signature_of(film(pictures)) for pictures in (slide, other)))
    assert 0.7 < found.look < 0.97
    assert found.change is None
    assert not Alike().holds(found)
    signatures = {
        "slide": text(film(slide)),
        "again": text(film(COPIES["grain"](slide[:48]))),
        "other": text(film(other)),
    }
    assert duplicate_sets(signatures) == [("again", "slide")]


def test_black_videos_have_no_signature_and_are_nobodys_copies(film: Any) -> None:
    assert Signatures()(film(np.full((FRAMES, 144, 256), 16))) == {"signatures_text": None}


# ---- sets ------------------------------------------------------------------------------------------------------------


def test_who_is_alike_to_one_of_a_set_belongs_to_it_whatever_the_order(film: Any, scene: Any) -> None:
    pictures = scene(1, 1)
    parts = {"whole": pictures, "begin": pictures[:80], "end": pictures[48:], "stranger": scene(2, 2)}
    signatures = {name: text(film(part)) for name, part in parts.items()}
    expected = [("begin", "end", "whole")]
    assert duplicate_sets(signatures) == expected
    assert duplicate_sets(dict(reversed(signatures.items()))) == expected


def drawn(seed: int, still: Any) -> Signature:
    """A signature of numbers: something still, and something that goes its way."""
    walk = np.cumsum(np.random.default_rng(seed).normal(0, 3, (20, len(MIRROR_D))), axis=0)
    look_KD = still + walk
    scale = float(np.abs(look_KD).max() / 32_000)
    return Signature(octave=2, scale=scale, look_KD=np.round(look_KD / scale).astype(np.int16))


def test_strangers_hardly_meet(film: Any) -> None:
    rng = np.random.default_rng(0)
    many = [drawn(seed, rng.normal(0, 20, len(MIRROR_D))) for seed in range(400)]
    assert len(candidates(many)) < 0.01 * 400 * 399 / 2


def test_a_crowd_under_one_key_is_one_set_and_not_all_pairs() -> None:
    same = drawn(1, np.full(len(MIRROR_D), 10.0))
    count = 20 * NEIGHBOURS
    assert len({(a, b) for a, b, _ in candidates([same] * count)}) <= NEIGHBOURS * count
    (members,) = duplicate_sets({f"{number:03d}": same.to_text() for number in range(count)})
    assert len(members) == count


# ---- which copy is kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"width": 1280, "height": 720}, {"width": 640, "height": 360}),
        ({"width": 1280, "height": 720}, {"width": 1280, "height": 960, "borders_fraction": 0.3}),
        ({"width": 640, "height": 360}, {"width": 1280, "height": 720, "overlay_corners": 1}),
        ({"duration_seconds": 9.0}, {"duration_seconds": 8.0, "size_bytes": 9_000_000}),
        ({"blur": 0.2}, {"blur": 0.5}),
        ({"size_bytes": 2_000_000}, {"size_bytes": 1_000_000}),
    ],
)
def test_the_better_copy_is_kept(better: Any, worse: Any) -> None:
    whole = {"width": 640, "height": 360, "duration_seconds": 9.0, "blur": 0.3, "size_bytes": 1_500_000}
    for names in (("a", "b"), ("b", "a")):
        quality = dict(zip(names, (whole | better, whole | worse), strict=True))
        assert best_copy(("a", "b"), quality) == names[0]


def test_of_equal_copies_the_first_by_name_is_kept() -> None:
    assert best_copy(("b", "c", "a"), {}) == "a"


# ---- signatures ------------------------------------------------------------------------------------------------------


def test_a_signature_goes_through_json_and_is_small(film: Any, scene: Any) -> None:
    signature = signature_of(film(scene(1, 1)))
    again = Signature.from_text(json.loads(json.dumps(signature.to_text())))
    assert (again.octave, again.look_KD.tolist()) == (signature.octave, signature.look_KD.tolist())
    assert again.period_seconds == Fraction(1, 4)
    assert len(signature.to_text()) < 4500


def test_longer_videos_have_longer_periods_and_no_more_of_them(film: Any, landscape: Any) -> None:
    pictures = np.stack([shift(landscape(1), (0, at), order=1, mode="grid-wrap") for at in range(100)])
    for step, octave in [(1, 1), (10, 4), (100, 7)]:
        signature = signature_of(film(pictures, pts=range(0, 100 * step, step)))
        assert signature.octave == octave
        assert len(signature.look_KD) <= LONGEST


def test_what_is_no_signature_is_refused() -> None:
    with pytest.raises(CinerayError, match="not a signature of this format"):
        Signature.from_text("0000000000000000000000000")
