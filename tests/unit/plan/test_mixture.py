"""Turns by weight: exact shares, evenly spread, and every member's turns counted without gaps."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cineray.plan.mixture import Cycle, quotas_of

WEIGHTS = st.lists(st.integers(1, 60), min_size=1, max_size=6)


def test_three_to_one_is_spread_evenly() -> None:
    members, turns = Cycle([3, 1]).at(np.arange(8))
    assert members.tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
    assert turns.tolist() == [0, 1, 0, 2, 3, 4, 1, 5]


@given(weights=WEIGHTS)
@settings(max_examples=150, deadline=None)
def test_turns_are_counted_one_by_one(weights: list[int]) -> None:
    cycle = Cycle(weights)
    members, turns = cycle.at(np.arange(3 * len(cycle)))
    for member in range(len(weights)):
        mine = turns[members == member]
        assert mine.tolist() == list(range(3 * cycle.quotas[member]))


@given(weights=WEIGHTS)
@settings(max_examples=150, deadline=None)
def test_whole_cycles_hold_exactly_the_weights(weights: list[int]) -> None:
    cycle = Cycle(weights)
    shares = [Fraction(quota, len(cycle)) for quota in cycle.quotas]
    assert shares == [Fraction(weight, sum(weights)) for weight in weights]


@given(weights=WEIGHTS, length=st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_most_is_the_most_that_any_run_holds(weights: list[int], length: int) -> None:
    cycle = Cycle(weights)
    members, _ = cycle.at(np.arange(2 * len(cycle) + length))
    runs = np.lib.stride_tricks.sliding_window_view(members, length)
    for member in range(len(weights)):
        assert cycle.most(member, length) == int((runs == member).sum(axis=1).max())


def test_odd_weights_are_rounded_and_nobody_is_left_out() -> None:
    quotas = quotas_of([Fraction(1), Fraction(10**9), Fraction(333_333_333)])
    assert sum(quotas) == 16_384
    assert quotas[0] == 1
    assert quotas[1] / quotas[2] == pytest.approx(3, rel=1e-3)
