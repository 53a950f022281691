"""The endless line of shuffled epochs: each epoch whole, and no unit twice within a batch that reaches over its end."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cineray.plan.permutation import key_bytes
from cineray.plan.shuffle import Shuffle


@given(count=st.integers(1, 60), apart=st.integers(1, 70), seed=st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_each_epoch_shows_each_unit_exactly_once(count: int, apart: int, seed: int) -> None:
    epochs, units = Shuffle(count, key_bytes(seed), apart=apart).at(np.arange(4 * count))
    assert epochs.tolist() == [position // count for position in range(4 * count)]
    assert all(sorted(units[e * count : (e + 1) * count].tolist()) == list(range(count)) for e in range(4))


@given(count=st.integers(1, 80), apart=st.integers(1, 90), seed=st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_any_neighbours_are_different_units_as_far_as_there_are_so_many(count: int, apart: int, seed: int) -> None:
    _, units = Shuffle(count, key_bytes(seed), apart=apart).at(np.arange(5 * count))
    run = min(apart, count)
    shown = units.tolist()
    assert all(len(set(shown[at : at + run])) == run for at in range(len(shown) - run + 1))


@given(count=st.integers(1, 50), apart=st.integers(1, 20), data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_position_can_be_asked_for_alone(count: int, apart: int, data: st.DataObject) -> None:
    line = Shuffle(count, key_bytes("alone"), apart=apart)
    _, straight = line.at(np.arange(4 * count))
    position = data.draw(st.integers(0, 4 * count - 1))
    epochs, units = line.at(np.array([position]))
    assert (epochs[0], units[0]) == (position // count, straight[position])


def test_epochs_are_shuffled_anew() -> None:
    _, units = Shuffle(40, key_bytes("anew"), apart=4).at(np.arange(400))
    assert len({tuple(units[e * 40 : (e + 1) * 40].tolist()) for e in range(10)}) == 10


def test_few_units_are_shuffled_too_as_far_as_the_distance_allows() -> None:
    """Twenty units, sixteen apart: blocks of five, so 120 orders of each."""
    _, units = Shuffle(20, key_bytes("few"), apart=16).at(np.arange(200))
    epochs = [units[e * 20 : (e + 1) * 20].tolist() for e in range(10)]
    assert len({tuple(epoch) for epoch in epochs}) == 10
    assert len({tuple(sorted(epoch[:5])) for epoch in epochs}) == 1
