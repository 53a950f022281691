"""Who moves which weight, how fast, and how the average follows."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch
from torch import nn

from cineray.errors import CinerayError
from cineray.train.config import EmaConfig, OptimiserConfig
from cineray.train.diffusion_task import DiffusionTask
from cineray.train.ema import Ema
from cineray.train.optimisers import build_optimisers, clip_gradients, set_rates
from cineray.train.schedule import rate_at


class Mixed(nn.Module):
    """A matrix, a convolution, an embedding, a norm, and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 4)
        self.convolution = nn.Conv3d(2, 3, 3)
        self.table = nn.Embedding(5, 4)
        self.norm = nn.RMSNorm(4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def groups(model: nn.Module, optimisers: list[torch.optim.Optimizer]) -> dict[str, tuple[str, float]]:
    """Weight -> (its optimiser, its weight decay)."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    return {
        names[id(weight)]: (type(optimiser).__name__, group["weight_decay"])
        for optimiser in optimisers
        for group in optimiser.param_groups
        for weight in group["params"]
    }


def test_muon_has_the_named_matrices_and_adamw_all_else_that_is_trained() -> None:
    model = Mixed()
    made = build_optimisers(OptimiserConfig(weight_decay=0.1), model, [model.hidden.weight])
    assert groups(model, made) == {
        "hidden.weight": ("Muon", 0.1),
        "hidden.bias": ("AdamW", 0.0),
        "convolution.weight": ("AdamW", 0.1),
        "convolution.bias": ("AdamW", 0.0),
        "table.weight": ("AdamW", 0.1),
        "norm.weight": ("AdamW", 0.0),
    }


def test_adamw_alone_has_everything() -> None:
    model = Mixed()
    made = build_optimisers(OptimiserConfig(kind="adamw"), model, [model.hidden.weight])
    assert {kind for kind, _ in groups(model, made).values()} == {"AdamW"}
    assert groups(model, made).keys() == {n for n, w in model.named_parameters() if w.requires_grad}


def test_a_convolution_for_muon_and_a_model_that_learns_nothing_are_refused() -> None:
    model = Mixed()
    with pytest.raises(CinerayError, match=r"Muon moves matrices.*\(3, 2, 3, 3, 3\)"):
        build_optimisers(OptimiserConfig(), model, [model.convolution.weight])
    with pytest.raises(CinerayError, match="no weight that is trained"):
        build_optimisers(OptimiserConfig(), model.requires_grad_(False), [])


def test_every_trained_weight_of_a_real_model_moves_and_no_other(made: ModuleType) -> None:
    task = DiffusionTask(made.job_of())
    model = task.build()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimisers = build_optimisers(OptimiserConfig(), model, task.muon_parameters(model))
    assert [type(one).__name__ for one in optimisers] == ["Muon", "AdamW"]
    for _ in range(3):  # what starts at zero blocks the gradients behind it at first
        task.clip_losses(model, task.inputs(made.made_batch(0)), 0).sum().backward()
        for one in optimisers:
            one.step()
            one.zero_grad()
    assert [name for name, value in model.named_parameters() if torch.equal(value, before[name])] == []


def test_rates_rise_stay_and_fall() -> None:
    config = OptimiserConfig(warmup_steps=4, decay_fraction=0.5, final_fraction=0.1)
    rates = [rate_at(config, step, 20) for step in range(20)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4:11] == pytest.approx([1.0] * 7)
    assert rates[11:] == pytest.approx([0.1 + 0.9 * left / 10 for left in range(9, 0, -1)])


def test_cosine_and_constant() -> None:
    cosine = [rate_at(OptimiserConfig(warmup_steps=0, schedule="cosine"), step, 10) for step in range(10)]
    assert cosine == pytest.approx([(1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)])
    assert {rate_at(OptimiserConfig(warmup_steps=0, schedule="constant"), step, 10) for step in range(10)} == {1.0}


def test_a_run_shorter_than_its_warm_up_still_learns() -> None:
    assert all(0 < rate_at(OptimiserConfig(warmup_steps=100), step, 5) <= 1 for step in range(5))


def test_each_optimiser_has_its_own_rate() -> None:
    model, config = Mixed(), OptimiserConfig(muon_lr=4e-3, lr=2e-3)
    muon, adamw = build_optimisers(config, model, [model.hidden.weight])
    set_rates(config, [muon, adamw], 0.5)
    assert {group["lr"] for group in muon.param_groups} == {2e-3}
    assert {group["lr"] for group in adamw.param_groups} == {1e-3}


def test_long_gradients_are_shortened_and_short_ones_left() -> None:
    weight = nn.Parameter(torch.zeros(4))
    for length, limit, after in ((10.0, 1.0, 1.0), (0.5, 1.0, 0.5), (10.0, None, 10.0)):
        weight.grad = torch.full((4,), length / 2)
        assert float(clip_gradients([weight], limit)) == pytest.approx(length)
        assert float(weight.grad.norm()) == pytest.approx(after, rel=1e-4)


def test_the_average_follows_by_its_decay_and_forgets_first_weights_soon() -> None:
    model = nn.Linear(1, 1, bias=False)
    ema = Ema(model, EmaConfig(decay=0.5, ramp=False))
    start = model.weight.item()
    with torch.no_grad():
        model.weight.fill_(start + 8)
    ema.add(0)
    ema.add(1)
    with ema.in_place():
        assert model.weight.item() == pytest.approx(start + 6)
    assert model.weight.item() == pytest.approx(start + 8)
    ramped = Ema(model, EmaConfig(decay=0.999))
    assert [ramped.decay_at(step) for step in (0, 8, 10**6)] == pytest.approx([0.1, 0.5, 0.999])


def test_a_state_of_the_average_is_a_whole_model() -> None:
    model = Mixed()
    ema = Ema(model, EmaConfig(decay=0.9))
    with torch.no_grad():
        model.hidden.weight.add_(1)
    state = ema.state(dict(model.state_dict()), {weight: name for name, weight in model.named_parameters()})
    assert state.keys() == model.state_dict().keys()
    assert torch.allclose(state["hidden.weight"] + 1, model.hidden.weight)
    assert state["frozen.weight"].data_ptr() == model.frozen.weight.data_ptr()
