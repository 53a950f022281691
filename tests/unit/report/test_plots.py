"""Plots hold what was given, in a bounded number of points, as JSON that a browser reads."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from cineray.report.content import Figure
from cineray.report.plots import (
    MOST_POINTS,
    Axes,
    Estimate,
    Series,
    bars,
    counts,
    estimates,
    histogram,
    lines,
    marks,
    stack,
    thinned,
    words,
)


def told(figure: Figure) -> dict[str, Any]:
    """The figure as the browser will read it, which knows no NaN."""

    def refused(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found: dict[str, Any] = json.loads(figure.json, parse_constant=refused)
    return found


def test_a_line_of_few_points_holds_them_all_and_what_is_not_known_is_a_gap() -> None:
    figure = told(lines("t", "s", [Series(name="loss", x=[1, 2, 3], y=[0.5, math.nan, 0.25])], Axes(x="step")))

    assert figure["data"][0]["x"] == [1, 2, 3]
    assert figure["data"][0]["y"] == [0.5, None, 0.25]
    assert figure["layout"]["xaxis"]["title"]["text"] == "step"


def test_a_line_of_a_million_points_is_thinned_to_means_of_neighbours() -> None:
    x, y = thinned(range(1_000_000), [7.0] * 999_999 + [math.nan])

    assert len(x) == len(y) == MOST_POINTS
    assert (x[0], set(y)) == (pytest.approx(1249.5), {7.0})


def test_intervals_are_drawn_around_each_value() -> None:
    found = [Estimate(name="generated", value=0.9, low=0.8, high=0.95), Estimate(name="real", value=1.0)]
    first, second = told(estimates("t", "s", found))["data"]

    assert first["x"] == [0.9]
    assert first["error_x"]["array"] == [pytest.approx(0.05)]
    assert first["error_x"]["arrayminus"] == [pytest.approx(0.1)]
    assert (second["error_x"]["array"], second["error_x"]["arrayminus"]) == ([0], [0])


def test_a_stack_leaves_out_layers_that_are_nothing_and_keeps_colours() -> None:
    layers = {"computing": ([0.75, 1.0], "#123456"), "idle": ([0.0, 0.0], "#aaaaaa"), "data": ([0.25, 0.0], "#654321")}
    figure = told(stack("t", "s", [1, 2], layers, Axes(share=True)))

    assert [(one["name"], one["fillcolor"], one["y"]) for one in figure["data"]] == [
        ("computing", "#123456", [0.75, 1]),
        ("data", "#654321", [0.25, 0]),
    ]
    assert figure["layout"]["yaxis"]["range"] == [0, 1]


def test_a_histogram_holds_counts_and_not_values() -> None:
    figure = told(histogram("t", "s", [1.0] * 70_000 + [2.0] * 30_000, unit="seconds", bins=10))

    assert figure["data"][0]["y"] == [70_000, 0, 0, 0, 0, 0, 0, 0, 0, 30_000]
    assert len(json.dumps(figure)) < 4000


def test_bars_counts_and_marks_name_what_they_show() -> None:
    group = told(bars("t", "s", {"train": [3, 4], "test": [1, 2]}, ["up", "down"], Axes()))["data"]
    assert [(one["name"], one["x"], one["y"]) for one in group] == [
        ("train", ["up", "down"], [3, 4]),
        ("test", ["up", "down"], [1, 2]),
    ]
    assert told(counts("t", "s", {"h264": 5, "vp9": 2}, unit="videos"))["data"][0]["y"] == ["h264", "vp9"]
    points = told(marks("t", "s", {"frames": ([0.0, 0.1], ["slot 0", "slot 0"], "#123456")}, Axes()))["data"]
    assert (points[0]["x"], points[0]["y"]) == ([0, 0.1], ["slot 0", "slot 0"])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("<a href='javascript:x'>click</a>", "&lt;a href='javascript:x'&gt;click&lt;/a&gt;"),
        ("two\nlines\tand \x1b[31m", "two lines and [31m"),
        ("a" * 80, "a" * 59 + "…"),
        ("a \u202e b", "a b"),
    ],
)
def test_a_label_is_one_line_without_markup(text: str, label: str) -> None:
    assert words(text) == label
