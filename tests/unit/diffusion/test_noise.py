"""Noise has an address: the same number wherever, whenever and in whatever company it is asked for."""

from __future__ import annotations

import pytest
import torch

from cineray.diffusion import Purpose, normal, uniform
from cineray.diffusion.noise import _words

SHAPE = (3, 4, 5, 7)


def noise(slots: list[int], *, seed: int = 3, step: int = 11, purpose: Purpose = Purpose.NOISE) -> torch.Tensor:
    return normal(SHAPE, seed=seed, step=step, slots_B=torch.tensor(slots), purpose=purpose)


@pytest.mark.parametrize(
    ("counter_and_key", "words"),
    [
        ((0, 0, 0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 6, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_words_are_those_that_the_authors_of_philox_publish(
    counter_and_key: tuple[int, ...], words: tuple[int, ...]
) -> None:
    assert tuple(int(word) for word in _words([torch.tensor([value]) for value in counter_and_key])) == words


def test_a_slot_has_the_same_noise_alone_and_in_any_company() -> None:
    whole = noise([0, 1, 2, 3, 4, 5, 6])
    for parts in ([[0], [1, 2, 3], [4, 5, 6]], [[6, 0, 3], [5, 1], [2, 4]]):
        for part in parts:
            assert torch.equal(noise(part), whole[part])


def test_step_seed_slot_and_purpose_each_give_other_noise() -> None:
    told = [
        noise([4]),
        noise([5]),
        noise([4], step=12),
        noise([4], step=11 + (1 << 32)),
        noise([4], seed=4),
        noise([4], seed=3 + (1 << 32)),
        noise([4], purpose=Purpose.SAMPLE),
    ]
    for number, one in enumerate(told):
        for other in told[number + 1 :]:
            correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
            assert correlation.abs() < 0.2  # 420 numbers: 0.05 is usual


def test_normal_numbers_are_normal() -> None:
    drawn = normal((50_000,), seed=0, step=0, slots_B=torch.arange(4), purpose=Purpose.NOISE).double()
    assert drawn.dtype == torch.float64
    assert torch.allclose(drawn.mean(1), torch.zeros(4, dtype=torch.float64), atol=0.02)
    assert torch.allclose(drawn.var(1), torch.ones(4, dtype=torch.float64), atol=0.03)
    levels = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    below = (drawn.flatten()[:, None] < levels).double().mean(0)
    assert torch.allclose(below, torch.special.ndtr(levels), atol=0.004)
    neighbours = torch.corrcoef(torch.stack([drawn.flatten()[:-1], drawn.flatten()[1:]]))[0, 1]
    assert abs(float(neighbours)) < 0.01


def test_uniform_numbers_fill_the_open_interval_evenly() -> None:
    drawn = uniform((100_000,), seed=9, step=0, slots_B=torch.tensor([0]), purpose=Purpose.DROP)
    assert 0 < float(drawn.min()) < 1e-4
    assert 1 - 1e-4 < float(drawn.max()) < 1
    assert torch.allclose(torch.histc(drawn, 10, 0, 1) / 100_000, torch.full((10,), 0.1, dtype=drawn.dtype), atol=0.005)


def test_a_clips_first_numbers_do_not_depend_on_how_many_are_asked_for() -> None:
    told = {"seed": 1, "step": 2, "slots_B": torch.tensor([7]), "purpose": Purpose.NOISE}
    assert torch.equal(normal((10,), **told)[:, :6], normal((6,), **told))


def test_the_default_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    noise([1, 2])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same_numbers() -> None:
    slots = torch.arange(8)
    told = {"seed": 5, "step": 77, "purpose": Purpose.NOISE}
    here, there = (normal((3, 8, 32, 32), slots_B=s, **told) for s in (slots, slots.cuda()))
    assert torch.allclose(here, there.cpu(), rtol=0, atol=1e-6)
    assert (here == there.cpu()).float().mean() > 0.999
