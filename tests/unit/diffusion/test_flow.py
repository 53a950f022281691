"""The straight path: what is learnt on it, where there is no loss, and which noise levels it is learnt at."""

from __future__ import annotations

import math

import pytest
import torch

from cineray.config import check
from cineray.diffusion import DiffusionConfig, Flow, TimestepConfig, draw, shifted
from cineray.errors import UsageError

B, C, T, H, W = 3, 2, 4, 5, 6


def flow(predict: str = "x", least_noise: float = 0.05) -> Flow:
    return Flow(predict, torch.tensor([0.5, -0.5]), torch.tensor([2.0, 0.1]), least_noise)  # type: ignore[arg-type]


@pytest.fixture
def posed() -> tuple[torch.Tensor, ...]:
    """x, e, t per frame, and which frames are real (all)."""
    torch.manual_seed(0)
    x, e = torch.randn(2, B, C, T, H, W)
    return x, e, torch.rand(B, T) * 0.8 + 0.1, torch.ones(B, T, dtype=torch.bool)


def right_answer(predict: str, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    scale = torch.tensor([2.0, 0.1]).view(1, 2, 1, 1, 1)
    return (x - torch.tensor([0.5, -0.5]).view(1, 2, 1, 1, 1)) / scale if predict == "x" else x - e


@pytest.mark.parametrize("predict", ["x", "v"])
def test_the_right_answer_has_no_loss_and_leads_to_the_data(predict: str, posed: tuple[torch.Tensor, ...]) -> None:
    x, e, t, real = posed
    z = flow(predict).noised(x, e, t)
    out = right_answer(predict, x, e)
    assert torch.allclose(flow(predict).losses(out, x, e, t, real), torch.zeros(B), atol=1e-10)
    assert torch.allclose(flow(predict).clean(out, z, t), x, atol=1e-5)
    assert torch.allclose(flow(predict).velocity(out, z, t), x - e, atol=1e-4)


@pytest.mark.parametrize("predict", ["x", "v"])
def test_the_loss_is_the_squared_error_of_the_velocity(predict: str, posed: tuple[torch.Tensor, ...]) -> None:
    x, e, t, real = posed
    out = torch.randn(B, C, T, H, W)
    z = flow(predict).noised(x, e, t)
    by_hand = (flow(predict).velocity(out, z, t) - (x - e)).square().mean((1, 2, 3, 4))
    assert torch.allclose(flow(predict).losses(out, x, e, t, real), by_hand, rtol=1e-3)


def test_near_the_data_the_loss_of_x_is_bounded() -> None:
    x = torch.zeros(1, C, T, H, W)
    clean = x + 0.1
    nearly_done = torch.full((1, T), 0.99)
    real = torch.ones(1, T, dtype=torch.bool)
    assert float(flow(least_noise=0.2).losses_of_clean(clean, x, nearly_done, real)) == pytest.approx(0.01 / 0.04)


def test_padded_and_given_frames_have_no_loss_whatever_they_hold(posed: tuple[torch.Tensor, ...]) -> None:
    x, e, t, real = posed
    out = torch.randn(B, C, T, H, W)
    t[:, 0] = 1.0
    real[1, 2:] = False
    before = flow().losses(out, x, e, t, real)
    out[:, :, 0] = math.nan
    out[1, :, 2:] = math.inf
    after = flow().losses(out, x, e, t, real)
    assert torch.equal(before, after)
    only_frame_one = flow().losses(out[1:2, :, 1:2], x[1:2, :, 1:2], e[1:2, :, 1:2], t[1:2, 1:2], real[1:2, 1:2])
    assert torch.allclose(after[1:2], only_frame_one)


def test_a_clip_without_a_frame_to_learn_costs_nothing(posed: tuple[torch.Tensor, ...]) -> None:
    x, e, _, real = posed
    assert torch.equal(flow().losses(torch.randn_like(x), x, e, torch.ones(B, T), real), torch.zeros(B))


def test_a_clips_loss_does_not_depend_on_the_others(posed: tuple[torch.Tensor, ...]) -> None:
    x, e, t, real = posed
    out = torch.randn_like(x)
    whole = flow().losses(out, x, e, t, real)
    alone = torch.cat([flow().losses(*(part[b : b + 1] for part in (out, x, e, t, real))) for b in range(B)])
    assert torch.allclose(whole, alone, rtol=1e-6)


def test_noise_levels_lean_where_they_are_told() -> None:
    slots = torch.arange(20_000)
    told = {"seed": 0, "step": 0, "slots_B": slots}
    leaning = draw(TimestepConfig(mean=-1.2, sd=1.2, uniform_share=0), (8, 32, 32), **told).double()
    assert float(torch.logit(leaning).mean()) == pytest.approx(-1.2, abs=0.03)
    assert float(torch.logit(leaning).std()) == pytest.approx(1.2, abs=0.03)
    even = draw(TimestepConfig(uniform_share=1), (8, 32, 32), **told)
    assert torch.allclose(torch.histc(even, 4, 0, 1) / 20_000, torch.full((4,), 0.25), atol=0.02)
    mixed = draw(TimestepConfig(mean=-5, sd=0.1, uniform_share=0.1), (8, 32, 32), **told)
    assert float((mixed > 0.5).float().mean()) == pytest.approx(0.05, abs=0.01)


def test_larger_clips_are_shifted_towards_noise() -> None:
    told = {"seed": 0, "step": 0, "slots_B": torch.arange(2000)}
    config = TimestepConfig(shift_from=(8, 32, 32))
    small, large = (draw(config, shape, **told).double() for shape in ((8, 32, 32), (8, 64, 64)))
    odds = (1 - large) / large / ((1 - small) / small)
    assert torch.allclose(odds, torch.full_like(odds, 2.0), rtol=1e-4)
    assert shifted(0.5, 3.0) == 0.25


def test_contradictions_are_refused_by_the_fields_names() -> None:
    with pytest.raises(UsageError, match=r"data_sd is given but diffusion\.data_mean is not"):
        check(DiffusionConfig, {"data_sd": [1.0]})
    with pytest.raises(UsageError, match="each channel's spread must be above 0"):
        check(DiffusionConfig, {"data_mean": [0.0], "data_sd": [0.0]})
