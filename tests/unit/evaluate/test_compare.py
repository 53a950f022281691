"""Two evaluations held against each other: made rows in, what is beyond noise out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cineray.evaluate import METRICS, Evaluation, Rows
from cineray.evaluate.compare import differences, verdict_of
from cineray.evaluate.evaluation import write_evaluation

N = 64
NAMES = tuple(f"prompt-{number:04d}" for number in range(N))
HARD = np.linspace(0, 10, N)
"""How hard each prompt is: the same for every model."""


def evaluation(
    folder: Path, name: str, rows: dict[str, np.ndarray], *, facts: dict[str, Any] | None = None, skipped: str = ""
) -> Evaluation:
    """A record of these rows, as an evaluation would write it; `skipped` names a metric that was not measured."""
    generated = {metric: Rows(NAMES, np.asarray(values, float).reshape(N, -1)) for metric, values in rows.items()}
    real = {metric: Rows(NAMES, np.zeros_like(of.values_ND)) for metric, of in generated.items()}
    scores = []
    for metric, of in generated.items():
        judge = METRICS[metric].__new__(METRICS[metric])
        told = judge.skip("its weights are not here") if metric == skipped else judge.score(of, real[metric])
        scores.append(told.to_dict() | {"facts": facts or {}})
    about = {"job": name, "checkpoint": 100, "key": name, "metrics": scores, "format": 1}
    return write_evaluation(str(folder / name), about, generated, real)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    made = evaluation(tmp_path, "a", {"trajectory_error": HARD, "direction_accuracy": HARD > 3})
    generated, real = made.rows()
    assert set(generated) == set(real) == {"trajectory_error", "direction_accuracy"}
    assert generated["trajectory_error"].names == NAMES
    assert np.array_equal(generated["trajectory_error"].values_ND[:, 0], HARD)


def test_a_small_difference_in_every_pair_is_beyond_noise_though_the_clips_differ_much(tmp_path: Path) -> None:
    """The intervals of the two overlap by far: only pairing shows that each clip is a little better."""
    a = evaluation(tmp_path, "a", {"trajectory_error": HARD + 1.0})
    b = evaluation(tmp_path, "b", {"trajectory_error": HARD + 0.5})
    [row] = differences(a, b)
    assert row["a"]["low"] < row["b"]["high"]
    assert (row["beyond_noise"], row["winner"]) == (True, "b")
    assert row["difference"] == pytest.approx(-0.5)
    assert row["low"] <= row["difference"] <= row["high"] < 0


def test_clips_that_differ_either_way_are_noise(tmp_path: Path) -> None:
    wobble = np.tile([0.5, -0.5], N // 2)
    a = evaluation(tmp_path, "a", {"trajectory_error": HARD})
    b = evaluation(tmp_path, "b", {"trajectory_error": HARD + wobble})
    [row] = differences(a, b)
    assert (row["beyond_noise"], row["winner"]) == (False, "")
    assert row["low"] < 0 < row["high"]


def test_which_is_better_follows_from_the_metric(tmp_path: Path) -> None:
    a = evaluation(tmp_path, "a", {"direction_accuracy": HARD > 6, "trajectory_error": HARD})
    b = evaluation(tmp_path, "b", {"direction_accuracy": HARD > 2, "trajectory_error": HARD + 1})
    rows = {row["name"]: row for row in differences(a, b)}
    assert rows["direction_accuracy"]["winner"] == "b", "more is better"
    assert rows["trajectory_error"]["winner"] == "a", "less is better"


def test_scores_of_two_networks_do_not_compare(tmp_path: Path) -> None:
    a = evaluation(tmp_path, "a", {"trajectory_error": HARD}, facts={"feature_net_sha256": "1"})
    b = evaluation(tmp_path, "b", {"trajectory_error": HARD + 1}, facts={"feature_net_sha256": "2"})
    [row] = differences(a, b)
    assert (row["difference"], row["beyond_noise"]) == (None, False)
    assert row["note"] == "measured in two ways (feature_net_sha256): values do not compare"


def test_what_one_of_them_lacks_is_said_with_its_reason(tmp_path: Path) -> None:
    a = evaluation(tmp_path, "a", {"trajectory_error": HARD})
    b = evaluation(tmp_path, "b", {"trajectory_error": HARD}, skipped="trajectory_error")
    [row] = differences(a, b)
    assert row["note"] == "not measured of the second: its weights are not here"
    assert row["difference"] is None


def test_the_verdict_counts_what_is_beyond_noise_and_names_chance(tmp_path: Path) -> None:
    a = evaluation(tmp_path, "a", {"direction_accuracy": HARD > 6, "trajectory_error": HARD})
    b = evaluation(tmp_path, "b", {"direction_accuracy": HARD > 2, "trajectory_error": HARD})
    assert verdict_of(differences(a, b), a.name, b.name) == (
        "Of 2 metrics, B is better in 1 beyond noise (A: a, 100 steps; B: b, 100 steps); direction accuracy 0.41 and "
        "0.80: +0.39 [+0.28, +0.52], beyond noise; about 1 would be so by chance, and these are two checkpoints, and a "
        "better recipe shows only over several seeds."
    )
    same = verdict_of(differences(a, a), a.name, a.name)
    assert same.startswith("No difference beyond noise between A (a, 100 steps) and B (a, 100 steps) in 2 metrics")
