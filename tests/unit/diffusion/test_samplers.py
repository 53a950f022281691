"""Samplers follow a velocity whose end is known, and baselines are as good as arithmetic says."""

from __future__ import annotations

import pytest
import torch

from cineray.diffusion import LinearDenoiser, MeanDenoiser, SamplerConfig, guided, sample

SHAPE = (2, 3, 4, 5, 6)


def towards(target: torch.Tensor) -> object:
    """The velocity of a model that knows the data: the straight line from z to it."""

    def velocity(z: torch.Tensor, t_BT: torch.Tensor) -> torch.Tensor:
        left = (1 - t_BT).clamp(min=1e-4)[:, None, :, None, None]
        return (target - z) / left

    return velocity


@pytest.mark.parametrize("method", ["euler", "heun"])
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_who_knows_the_data_arrives_there(method: str, steps: int, shift: float) -> None:
    target, noise = torch.randn(2, *SHAPE)
    made = sample(towards(target), noise, SamplerConfig(method=method, steps=steps, shift=shift))  # type: ignore[arg-type]
    assert torch.allclose(made, target, atol=1e-4)


def test_heun_follows_a_bent_path_more_closely_than_euler() -> None:
    """dz/dt = -z ends at z0 / e, and there is nothing to make the error vanish by itself."""
    noise = torch.ones(SHAPE)
    errors = {
        method: float(
            (sample(lambda z, t: -z, noise, SamplerConfig(method=method, steps=10)) - torch.exp(torch.tensor(-1.0)))
            .abs()
            .max()
        )
        for method in ("euler", "heun")
    }
    assert errors["heun"] < errors["euler"] / 5


def test_a_given_first_frame_stays_and_is_shown_as_data() -> None:
    first = torch.randn(2, 3, 5, 6)
    seen = []

    def velocity(z: torch.Tensor, t_BT: torch.Tensor) -> torch.Tensor:
        seen.append((z[:, :, 0].clone(), t_BT.clone()))
        return torch.ones_like(z)

    made = sample(velocity, torch.zeros(SHAPE), SamplerConfig(method="heun", steps=3), first_frame_BCHW=first)
    assert torch.equal(made[:, :, 0], first)
    assert all(torch.equal(frame, first) and bool((t_BT[:, 0] == 1).all()) for frame, t_BT in seen)
    assert all(bool((t_BT[:, 1:] < 1).all()) for _, t_BT in seen)
    assert torch.allclose(made[:, :, 1:], torch.ones(1))


def test_guidance_goes_beyond_what_is_conditioned_and_asks_no_more_than_needed() -> None:
    asked = []

    def always(name: str, value: float) -> object:
        def velocity(z: torch.Tensor, t_BT: torch.Tensor) -> torch.Tensor:
            asked.append(name)
            return torch.full_like(z, value)

        return velocity

    with_it, without = always("with", 3.0), always("without", 1.0)
    z, t_BT = torch.zeros(SHAPE), torch.zeros(2, 4)
    for guidance, wanted, calls in ((0.0, 1.0, 1), (1.0, 3.0, 1), (1.5, 4.0, 2)):
        asked.clear()
        v = guided(with_it, without, guidance)(z, t_BT)  # type: ignore[arg-type]
        assert (float(v.mean()), len(asked)) == (wanted, calls)


def test_the_mean_denoiser_answers_the_mean() -> None:
    clips = torch.randn(5, 3, 2, 4, 4)
    assert torch.allclose(MeanDenoiser(clips).clean(torch.randn(2, 3, 2, 4, 4), torch.rand(2))[1], clips.mean(0))


def test_the_linear_denoiser_is_the_best_of_all_linear_ones() -> None:
    """Against the least-squares fit over so many Gaussian clips that it has nothing left to choose."""
    torch.manual_seed(0)
    basis = torch.randn(3, 8)
    data = (torch.randn(1500, 3) @ basis + 0.5).double()
    noise = torch.randn(1500, 8).double()
    t = 0.4
    z = t * data + (1 - t) * noise
    with_one = torch.cat([z, torch.ones(1500, 1)], 1)
    fitted = with_one @ torch.linalg.lstsq(with_one, data).solution
    linear = LinearDenoiser(data.view(1500, 1, 1, 2, 4).float())
    ours = linear.clean(z.view(1500, 1, 1, 2, 4).float(), torch.full((1500,), t)).flatten(1)
    best, found = (float((guess - data).square().mean()) for guess in (fitted, ours))
    mean = float((data.mean(0) - data).square().mean())
    assert best <= found < 1.02 * best < 0.5 * mean


def test_the_linear_denoiser_knows_nothing_in_noise_and_all_in_data() -> None:
    clips = torch.randn(20, 1, 2, 3, 3)
    linear = LinearDenoiser(clips)
    assert torch.allclose(linear.clean(torch.randn(1, 1, 2, 3, 3), torch.tensor([0.0]))[0], clips.mean(0), atol=1e-5)
    assert torch.allclose(linear.clean(clips[:4], torch.ones(4)), clips[:4], atol=1e-4)
