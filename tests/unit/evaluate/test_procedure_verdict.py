"""One sentence: what it says of a model that follows, one that does not, and one of which little is known."""

from __future__ import annotations

from typing import Any

from cineray.evaluate import Score
from cineray.evaluate.verdict import verdict


def direction(
    value: float, low: float, high: float, *, chance: tuple[float, float, float] = (0.12, 0.06, 0.2)
) -> Score:
    """Direction accuracy beside what permuted labels give."""
    controls = {"labels permuted": Score(**_told("direction_accuracy", *chance))}
    return Score(**_told("direction_accuracy", value, low, high)).with_controls(controls)


def _told(name: str, value: float, low: float, high: float) -> dict[str, Any]:
    return {
        "name": name,
        "group": "motion",
        "unit": "fraction",
        "better": "higher",
        "value": value,
        "low": low,
        "high": high,
        "n": 64,
    }


def test_a_model_whose_clips_go_where_they_were_told_follows_its_conditioning() -> None:
    assert verdict([direction(0.98, 0.92, 1.0)], {}, {}, clips=64) == (
        "The model follows its conditioning: 98% [92%, 100%] of the clips move in the direction that they were told "
        "(by chance 12%)."
    )


def test_a_model_that_often_goes_wrong_is_said_to() -> None:
    assert verdict([direction(0.7, 0.58, 0.8)], {}, {}, clips=64).startswith(
        "The model follows, but not always, its conditioning: 70%"
    )


def test_what_overlaps_with_chance_is_not_called_following() -> None:
    sentence = verdict([direction(0.22, 0.13, 0.34)], {}, {}, clips=64)
    assert sentence.startswith("The model does not follow its conditioning: 22% [13%, 34%]")


def test_without_truth_the_losses_with_wrong_words_decide() -> None:
    heeds = verdict([], {"wrong_over_right": 1.41}, {}, clips=64)
    assert heeds.startswith("The model uses its conditioning: with wrong words")
    assert "1.41 times" in heeds
    ignores = verdict([], {"wrong_over_right": 1.0}, {}, clips=64)
    assert ignores.startswith("The model pays its conditioning no heed")


def test_nothing_known_is_said_to_be_nothing() -> None:
    assert verdict([], {"skipped": "no clips"}, {}, clips=64) == (
        "Nothing says what the clips should show, so only their quality is judged."
    )


def test_combinations_never_seen_that_go_worse_are_named() -> None:
    part = {"held_out": {"metrics": [direction(0.4, 0.2, 0.6).to_dict()]}}
    parts = part | {"seen": {"metrics": [direction(0.98, 0.92, 1.0).to_dict()]}}
    assert "on combinations that it has never seen it is worse (40% against 98%)" in verdict(
        [direction(0.9, 0.8, 0.95)], {}, parts, clips=64
    )


def test_few_clips_are_said_to_be_few() -> None:
    assert verdict([direction(0.98, 0.5, 1.0)], {}, {}, clips=8).endswith("(8 clips are few: read it as a trend).")


def test_real_clips_that_are_training_clips_are_said_to_be() -> None:
    sentence = verdict([direction(0.98, 0.92, 1.0)], {}, {}, clips=64, real_from="training")
    assert sentence.endswith("; the run holds no clips out, so real clips are its training clips.")


def test_copies_are_told_only_where_clips_that_cannot_be_copies_are_fewer() -> None:
    """Frames in another order are no copy: where as many of those count as copies, the metric sees something else."""
    own = Score(**_told("copied_clips", 0.27, 0.16, 0.39))
    few, many = (Score(**_told("copied_clips", *told)) for told in ((0.02, 0.0, 0.08), (0.39, 0.27, 0.52)))
    said = "27% of the clips are copies of training clips"
    assert said in verdict([own.with_controls({"frames shuffled": few})], {}, {}, clips=64)
    assert said not in verdict([own.with_controls({"frames shuffled": many})], {}, {}, clips=64)
    assert said not in verdict([own], {}, {}, clips=64), "nothing to read it against"
