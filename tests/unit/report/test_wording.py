"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from cineray.report.values import pairs_of
from cineray.report.wording import UNKNOWN, bytes_text, interval, moment, number, percent, plural, seconds_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.0123"),
        (12.345, "12.3"),
        (999.6, "1000"),
        (1234.5, "1,234"),
        (1234567, "1,234,567"),
        (-0.5, "-0.5"),
        (3.0, "3"),
        (0, "0"),
        (0.0000123, "1.23e-05"),
        (None, UNKNOWN),
        (math.nan, UNKNOWN),
        (math.inf, UNKNOWN),
        (True, UNKNOWN),
        ("7", UNKNOWN),
    ],
)
def test_three_figures_count(value: object, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.953, "95 %"),
        (0.0312, "3.1 %"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.999, "99.9 %"),
        (1e-5, "< 0.1 %"),
        (None, UNKNOWN),
    ],
)
def test_a_share_is_in_percent_and_only_the_whole_is_100(fraction: float | None, text: str) -> None:
    assert percent(fraction) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.35, "0.35 s"), (59.4, "59.4 s"), (250, "4 min 10 s"), (11100, "3 h 05 min"), (216000, "2.5 days")],
)
def test_a_duration_has_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_sizes_intervals_and_counts() -> None:
    assert [bytes_text(n) for n in (12, 1500, 123_456_789, None)] == ["12 B", "1.5 kB", "123 MB", UNKNOWN]
    assert (interval(0.9, 0.95), interval(None, 1.0)) == ("0.9 to 0.95", "")
    assert (plural(1, "clip"), plural(1200, "clip"), plural(2, "file was", "files were")) == (
        "1 clip",
        "1,200 clips",
        "2 files were",
    )


def test_a_moment_is_told_in_utc_whatever_it_was_given_as() -> None:
    told = ("2026-11-21T06:14:08+02:00", 1_795_234_448.7, "soon", None)
    assert [moment(at) for at in told] == ["2026-11-21 04:14:08 UTC"] * 2 + [UNKNOWN] * 2


def test_nested_values_become_flat_names() -> None:
    told = {"sampler": {"method": "heun", "steps": 25}, "sizes": [1, 2], "seed": None, "made": True, "empty": {}}
    assert pairs_of(told) == (
        ("sampler method", "heun"),
        ("sampler steps", "25"),
        ("sizes", "1, 2"),
        ("seed", UNKNOWN),
        ("made", "yes"),
        ("empty", UNKNOWN),
    )
