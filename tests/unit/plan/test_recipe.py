"""Recipes: one line switches a mode; contradictions are refused by the names of the fields, with the way out."""

from __future__ import annotations

from typing import Any

import pytest

from cineray.config import check
from cineray.errors import UsageError
from cineray.plan import Recipe

GOOD: dict[str, Any] = {"sampling": {"frames": 16}, "frame": {"height": 128, "width": 128}, "batch_size": 8}
BUCKETS = [{"frames": 16, "height": 64, "width": 64}]


def test_a_recipe_comes_back_from_its_own_record() -> None:
    recipe = check(Recipe, {**GOOD, "sampling": {"mode": "fps", "fps": 23.976, "frames": 16}})
    assert recipe.sampling.fps == "2997/125"
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"sampling": {"frames": 16, "mode": "fps"}}, "mode is fps but sampling.fps is not given"),
        ({"sampling": {"frames": 16, "fps": 8, "stride": 2}}, "fps and sampling.stride are both given"),
        ({"sampling": {"frames": 16, "mode": "stride", "fps": 8}}, "mode is stride, which does not use it"),
        ({"sampling": {"frames": 16, "mode": "uniform", "stride": 2}}, "mode is uniform, which does not use it"),
        ({"sampling": {"frames": 16, "mode": "fps", "fps": "eight"}}, "such as 8, 23.976 or 30000/1001"),
        ({"sampling": {"frames": 16, "mode": "fps", "fps": 0}}, "above 0 and at most 1000"),
        ({"sampling": {"frames": 16, "mode": "random", "start": "first"}}, "only stride and fps use it"),
        ({"sampling": {"frames": 16, "hop": 2}}, "only all_windows uses it"),
        ({"sampling": {"frames": 16, "mode": "all_windows", "hop": 17}}, "frames between would never be shown"),
        ({"sampling": {"frames": 16, "mode": "all_windows", "jitter": 0.5}}, "shows every window as it is"),
        ({"sampling": {"frames": 16, "mode": "all_windows"}, "clips_per_visit": 2}, "set clips_per_visit to 1"),
        ({"sampling": {"frames": 16, "mode": "sometimes"}}, "sampling.mode got 'sometimes'"),
        ({"sampling": {"frame": 16}}, "SamplingSpec has no field `frame`|no field `sampling.frame`"),
        ({"frame": {"height": 128, "width": 128, "flip": 1.5}}, "frame.flip got 1.5"),
        ({"frame": {"height": 128, "width": 128, "flip": -0.1}}, "frame.flip got -0.1"),
        ({"frame": {"height": 128, "width": 128, "pad": True, "aspect": "stretch"}}, "nothing to pad"),
        ({"frame": {"height": 128, "width": 128, "pad": True, "crop": "random"}}, "is not cropped"),
        ({"frame": {"height": 128}}, "frame.height is given but frame.width is not"),
        ({"buckets": BUCKETS}, "buckets and sampling.frames and frame.height and frame.width are both given"),
        ({"buckets": BUCKETS * 2, "sampling": {}, "frame": {}}, "buckets has 16x64x64 twice"),
        ({"batch_size": None}, "nothing says how many clips a step of 16x128x128 has"),
        ({"token_budget": 4096}, "batch_size and token_budget are both given"),
        ({"batch_size": None, "token_budget": 1000}, "token_budget is 1000 but one clip of 16x128x128 has 1024 tokens"),
        ({"token_shape": [0, 16, 16]}, "must be at least 1"),
        ({"datasets": [{"weight": 1.0}, {}]}, r"datasets\[1\].weight is not given, but others are"),
        ({"datasets": []}, "datasets got"),
    ],
)
def test_contradictions_are_refused_by_name(values: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        check(Recipe, {**GOOD, **values})


def test_what_is_not_said_is_sixteen_frames_of_128_by_128() -> None:
    assert [bucket.shape for bucket in check(Recipe, {"batch_size": 8}).shapes] == [(16, 128, 128)]
    assert [bucket.shape for bucket in check(Recipe, {"batch_size": 8, "buckets": BUCKETS}).shapes] == [(16, 64, 64)]


@pytest.mark.parametrize("mode", ["uniform", "random", "stride", "fps", "keyframes", "scene", "all_windows"])
def test_switching_a_mode_is_one_line(mode: str) -> None:
    needed = {"fps": 8} if mode == "fps" else {}
    assert check(Recipe, {**GOOD, "sampling": {"frames": 16, "mode": mode, **needed}}).sampling.mode == mode


def test_what_shapes_no_batch_is_not_part_of_the_plan() -> None:
    """A moved lake, or a run that gives up earlier, is still the same plan."""
    here = check(Recipe, {**GOOD, "datasets": [{"lake": "/a", "version": "7"}], "max_substituted_fraction": 0.5})
    there = check(Recipe, {**GOOD, "datasets": [{"lake": "s3://b/c", "version": "latest"}]})
    assert here.shaping() == there.shaping()
    assert here.shaping() != check(Recipe, {**GOOD, "batch_size": 9}).shaping()
