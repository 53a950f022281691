"""How a population moves: only what may change does, a little or anew, and never out of its range."""

from __future__ import annotations

from cineray.sweep import Choice, FloatRange, IntRange, Variants
from cineray.sweep.explore import moved

SPACE = {
    "lr": FloatRange(field="optimiser.lr", low=1e-4, high=1e-2, log=True),
    "warmup": IntRange(field="optimiser.warmup_steps", low=0, high=100, step=10),
    "batch": Choice(field="recipe.batch_size", values=(2, 4, 8)),
    "size": Variants(variants={"small": {"model.width": 24}, "large": {"model.width": 48}}),
}
BETTER = {"lr": 1e-3, "warmup": 50, "batch": 4, "size": "small"}
ALL = ("lr", "warmup", "batch")


def test_what_may_not_change_stays_the_better_trials() -> None:
    for key in range(50):
        values = moved(SPACE, BETTER, ("lr",), resample=0.5, key=str(key))
        assert {name: values[name] for name in ("warmup", "batch", "size")} == {
            "warmup": 50,
            "batch": 4,
            "size": "small",
        }
        assert values["lr"] != 1e-3


def test_without_drawing_anew_every_value_is_a_neighbour() -> None:
    found = [moved(SPACE, BETTER, ALL, resample=0.0, key=str(key)) for key in range(100)]
    assert {round(one["lr"], 9) for one in found} == {0.0008, 0.00125}
    assert {one["warmup"] for one in found} == {40, 60}
    assert {one["batch"] for one in found} == {2, 8}


def test_values_drawn_anew_are_anywhere_in_their_range() -> None:
    found = [moved(SPACE, BETTER, (*ALL, "size"), resample=1.0, key=str(key)) for key in range(300)]
    assert min(one["lr"] for one in found) < 2e-4
    assert max(one["lr"] for one in found) > 5e-3
    assert 0.4 < sum(one["lr"] < 1e-3 for one in found) / 300 < 0.6, "evenly by its logarithm"
    assert {one["warmup"] for one in found} == set(range(0, 101, 10))
    assert {one["batch"] for one in found} == {2, 4, 8}
    assert {one["size"] for one in found} == {"small", "large"}


def test_nothing_leaves_its_range() -> None:
    ends = {"lr": 1e-2, "warmup": 0, "batch": 8, "size": "small"}
    for key in range(100):
        values = moved(SPACE, ends, ALL, resample=0.0, key=str(key))
        assert 1e-4 <= values["lr"] <= 1e-2
        assert values["warmup"] in {0, 10}
        assert values["batch"] in {4, 8}


def test_the_same_trial_at_the_same_time_moves_the_same_way() -> None:
    first, again = (moved(SPACE, BETTER, ALL, resample=0.3, key="0/7/100") for _ in range(2))
    assert first == again
    assert any(moved(SPACE, BETTER, ALL, resample=0.3, key=f"0/7/{step}") != first for step in range(9))
