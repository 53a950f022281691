"""The named sizes are as large, and cost as much, as the budget that they were chosen for."""

from __future__ import annotations

import pytest
import torch

from cineray.models import StDiTConfig, UNet3dConfig, build_model
from cineray.models.stdit import StDiT

# Millions of weights in blocks, and GFLOPs of training (three times forward) on one clip of 1024 tokens, as computed
# from width and depth alone: 12 d^2 per block, 2 P N + 4 L N^2 d per forward pass.
BUDGET = {"XS": (6.3, 64), "S": (21, 188), "B": (85, 638), "L": (302, 2165), "XL": (446, 3146)}


def built(size: str) -> StDiT:
    with torch.device("meta"):
        model = build_model(
            StDiTConfig.model_validate({"size": size, "patch": (1, 2, 2)}),
            channels=4,
            num_classes=0,
            text_width=None,
            longest=(16, 16, 16),
        )
    assert isinstance(model, StDiT)
    return model


def weights_of_blocks(model: StDiT) -> int:
    """Without what modulates them."""
    return sum(
        value.numel()
        for block in model.blocks()
        for name, value in block.named_parameters()
        if not name.endswith("offset_6D")
    )


@pytest.mark.parametrize("size", BUDGET)
def test_a_size_has_the_weights_and_costs_of_its_budget(size: str) -> None:
    model = built(size)
    millions, gflops = weights_of_blocks(model) / 1e6, 3 * model.forward_flops((4, 16, 16, 16)) / 1e9
    whole = sum(value.numel() for value in model.parameters()) / 1e6
    print(f"{size:>2}: {millions:6.1f}M in blocks, {whole:6.1f}M in all; 1024 tokens cost {gflops:6.0f} GF to train on")
    wanted_millions, wanted_gflops = BUDGET[size]
    assert millions == pytest.approx(wanted_millions, rel=0.03)
    assert gflops == pytest.approx(wanted_gflops, rel=0.04)


def test_one_shared_modulation_is_cheap() -> None:
    """At B, a modulation per block would be 42 million weights on 85."""
    model = built("B")
    shared = sum(value.numel() for value in [*model.modulation.parameters(), *model.last_modulation.parameters()])
    offsets = sum(value.numel() for name, value in model.named_parameters() if name.endswith("offset_6D"))
    assert shared + offsets < 5e6


def test_the_unet_is_compact() -> None:
    with torch.device("meta"):
        model = build_model(UNet3dConfig(), channels=3, num_classes=0, text_width=None, longest=(16, 64, 64))
    assert 10e6 < sum(value.numel() for value in model.parameters()) < 25e6
