"""Buckets of different sizes end their epochs together, exactly, in an order that is a function of the step."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from cineray.plan.windows import Natural, Weighted

BUCKETS = st.lists(st.tuples(st.integers(1, 90), st.integers(1, 25)), min_size=1, max_size=4)


@given(buckets=BUCKETS)
@settings(max_examples=200, deadline=None)
def test_each_bucket_has_every_window_once_and_enough_for_its_epochs(buckets: list[tuple[int, int]]) -> None:
    units, sizes = zip(*buckets, strict=True)
    windows = Natural(units, sizes, b"key")
    seen = defaultdict(list)
    for number in range(windows.first_window(5)):
        bucket, ordinal = windows.at(number)
        seen[bucket].append(ordinal)
    for bucket, (count, size) in enumerate(buckets):
        needed = -(-5 * count // size)  # so many windows hold five epochs, and one fewer does not
        assert sorted(seen[bucket]) == list(range(needed))


@given(buckets=BUCKETS)
@settings(max_examples=200, deadline=None)
def test_an_epochs_windows_hold_only_that_epochs_units_but_for_those_that_reach_over(
    buckets: list[tuple[int, int]],
) -> None:
    units, sizes = zip(*buckets, strict=True)
    windows = Natural(units, sizes, b"key")
    for number in range(windows.first_window(4)):
        epoch = windows.epoch_of(number)
        assert windows.first_window(epoch) <= number < windows.first_window(epoch + 1)
        bucket, ordinal = windows.at(number)
        first, last = ordinal * sizes[bucket], (ordinal + 1) * sizes[bucket] - 1
        assert first // units[bucket] == epoch
        if last // units[bucket] > epoch:  # reaches over: then nothing but such windows follows in this epoch
            rest = [windows.at(later) for later in range(number, windows.first_window(epoch + 1))]
            assert all((o + 1) * sizes[b] - 1 >= (epoch + 1) * units[b] for b, o in rest)


def test_buckets_are_mixed_not_one_after_the_other() -> None:
    windows = Natural((600, 300), (10, 10), b"key")
    buckets = [windows.at(number)[0] for number in range(90)]
    assert buckets.count(0) == 60
    assert 20 < sum(one != other for one, other in pairwise(buckets)) < 60


def test_chosen_shares_are_kept() -> None:
    windows = Weighted([Fraction(3), Fraction(0), Fraction(1)], (8, 8, 16), units=400)
    buckets = [windows.at(number)[0] for number in range(40)]
    assert [buckets.count(bucket) for bucket in range(3)] == [30, 0, 10]
    assert windows.first_window(1) == 40  # 30 windows of 8 and 10 of 16 are 400 clips
    assert [windows.epoch_of(39), windows.epoch_of(40)] == [0, 1]
