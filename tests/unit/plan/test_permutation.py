"""The keyed permutation: a bijection of [0, n), in random access, alike in plain Python and in NumPy."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cineray.errors import UsageError
from cineray.plan.permutation import MAX_SIZE, Permutation, key_bytes


@given(n=st.integers(0, 3_000), seed=st.integers(0, 2**63))
@settings(max_examples=150, deadline=None)
def test_every_number_comes_exactly_once(n: int, seed: int) -> None:
    order = Permutation(n, key_bytes("test", seed))
    assert sorted(order.at(np.arange(n)).tolist()) == list(range(n))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 15, 16, 17, 1_000_003])
def test_sizes_at_the_edges_of_the_grid_are_bijections(n: int) -> None:
    shown = Permutation(n, key_bytes("edge")).at(np.arange(n))
    assert np.array_equal(np.sort(shown), np.arange(n))


@given(n=st.integers(1, MAX_SIZE), seed=st.integers(0, 9), data=st.data())
@settings(max_examples=150, deadline=None)
def test_one_position_and_many_positions_agree_at_any_size(n: int, seed: int, data: st.DataObject) -> None:
    order = Permutation(n, key_bytes(seed))
    positions = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20, unique=True))
    numbers = order.at(positions).tolist()
    assert numbers == [order[position] for position in positions]
    assert len(set(numbers)) == len(positions)
    assert all(0 <= number < n for number in numbers)


def test_another_key_is_another_order() -> None:
    orders = {tuple(Permutation(50, key_bytes("seed", seed)).at(np.arange(50)).tolist()) for seed in range(200)}
    assert len(orders) == 200


def test_keys_of_different_parts_differ() -> None:
    assert len({key_bytes(1, 2), key_bytes(12), key_bytes("1", 2), key_bytes("1,2"), key_bytes(2, 1)}) == 5


def test_all_orders_of_four_come_about_equally_often() -> None:
    counted = Counter(tuple(Permutation(4, key_bytes(seed)).at(np.arange(4)).tolist()) for seed in range(4_800))
    assert len(counted) == 24
    assert min(counted.values()) > 130  # 200 expected, standard deviation 14
    assert max(counted.values()) < 270


def test_neighbours_do_not_stay_neighbours() -> None:
    """Over a large order, the distance between the numbers at successive positions is that of random numbers."""
    n = 1_000_000
    shown = Permutation(n, key_bytes("spread")).at(np.arange(200_000))
    assert abs(np.abs(np.diff(shown)).mean() / (n / 3) - 1) < 0.01
    assert abs(np.corrcoef(np.arange(200_000), shown)[0, 1]) < 0.01


def test_pinned_numbers_do_not_change_with_platform_or_version() -> None:
    """These are what recorded runs were trained on; new values here mean a new PLAN_FORMAT."""
    assert Permutation(10, key_bytes("pinned", 1)).at(np.arange(10)).tolist() == PINNED_TEN
    assert Permutation(10**9, key_bytes("pinned", 2)).at([0, 1, 2, 999_999_999]).tolist() == PINNED_BILLION
    assert Permutation(MAX_SIZE, key_bytes("pinned", 3)).at([0, 1, MAX_SIZE - 1]).tolist() == PINNED_LARGEST


PINNED_TEN = [7, 8, 1, 5, 9, 2, 0, 4, 6, 3]
PINNED_BILLION = [291824208, 642739454, 8449058, 111551173]
PINNED_LARGEST = [20868337833, 378232243090, 685199726839]


def test_what_lies_outside_is_refused() -> None:
    order = Permutation(10, key_bytes("outside"))
    for position in (-1, 10):
        with pytest.raises(IndexError, match=f"position {position} is outside a permutation of 10"):
            order[position]
        with pytest.raises(IndexError):
            order.at([position])
    with pytest.raises(UsageError, match="wanted 0 to 2\\*\\*40"):
        Permutation(MAX_SIZE + 1, b"")


def test_one_call_costs_the_same_whatever_the_size() -> None:
    """How many microseconds it takes is in jobs/benchmarks; here only that nothing grows with the size."""

    def cpu_seconds(size: int) -> float:
        order, rounds = Permutation(size, key_bytes("speed")), []
        for _ in range(5):
            began = time.process_time()
            for position in range(1_000):
                order[position]
            rounds.append(time.process_time() - began)
        return min(rounds)

    assert cpu_seconds(10**12) < 5 * cpu_seconds(10**4) + 0.02
