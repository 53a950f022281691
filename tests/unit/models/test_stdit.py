"""The transformer's own ways: patches, first values, learnt positions, one graph per shape."""

from __future__ import annotations

import pytest
import torch

from cineray.errors import UsageError
from cineray.models import Conditioning, StDiTConfig, VideoModel, build_model
from cineray.models.patches import PatchIn, PatchOut
from cineray.models.transformer import hidden_width


def model_of(longest: tuple[int, int, int] = (4, 8, 8), **told: object) -> VideoModel:
    torch.manual_seed(0)
    config = StDiTConfig.model_validate(
        {"size": "custom", "width": 16, "depth": 2, "heads": 2, "patch": (1, 4, 4), **told}
    )
    return build_model(config, channels=3, num_classes=2, text_width=None, longest=longest)


def conditioning(clips: int, frames: int) -> Conditioning:
    real_BT = torch.ones(clips, frames, dtype=torch.bool)
    return Conditioning(seconds_BT=torch.arange(frames).repeat(clips, 1) / 24, frame_is_real_BT=real_BT)


def test_patches_out_are_patches_in_the_other_way_round() -> None:
    """With layers that change nothing, a clip comes back as it was."""
    clip = torch.randn(2, 3, 4, 8, 12)
    enter, leave = PatchIn(3, (2, 4, 2), 48, 0), PatchOut(3, (2, 4, 2), 48)
    for layer in (enter.project, leave.project):
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    tokens = enter(clip)
    assert tokens.shape == (2, 2, 2, 6, 48)
    assert torch.equal(leave(tokens.flatten(2, 3), rows=2), clip)


def test_a_model_fresh_from_its_seed_predicts_nothing() -> None:
    out = model_of()(torch.randn(2, 3, 4, 8, 8), torch.rand(2, 4), conditioning(2, 4))
    assert torch.equal(out, torch.zeros(2, 3, 4, 8, 8))


def test_blocks_begin_as_the_identity_unless_told_to_listen_at_once() -> None:
    """modulation_std spreads the shared modulation's first weights: gates are open from the first step."""
    for std, moved in ((0.0, False), (0.02, True)):
        model = model_of(modulation_std=std)
        seen: list[torch.Tensor] = []
        for block in model.blocks():
            block.register_forward_hook(lambda _, told, out, seen=seen: seen.extend((told[0], out)))
        model(torch.randn(1, 3, 4, 8, 8), torch.rand(1, 4), conditioning(1, 4))
        assert torch.equal(seen[0], seen[-1]) is not moved


def test_learnt_positions_serve_every_clip_within_the_longest_and_refuse_larger_ones() -> None:
    model = model_of(positions="rope+learned", longest=(4, 8, 8))
    model(torch.zeros(1, 3, 2, 4, 8), torch.zeros(1, 2), conditioning(1, 2))
    with pytest.raises(UsageError, match="5 x 2 x 2 tokens is larger than the learnt positions, 4 x 2 x 2"):
        model(torch.zeros(1, 3, 5, 8, 8), torch.zeros(1, 5), conditioning(1, 5))


def test_a_class_for_a_model_without_classes_is_refused() -> None:
    config = StDiTConfig(size="custom", width=16, depth=1, heads=2, patch=(1, 4, 4))
    model = build_model(config, channels=3, num_classes=0, text_width=None, longest=(2, 8, 8))
    cond = Conditioning(
        seconds_BT=torch.zeros(1, 2),
        frame_is_real_BT=torch.ones(1, 2, dtype=torch.bool),
        class_B=torch.zeros(1, dtype=torch.int64),
    )
    with pytest.raises(UsageError, match="built with num_classes=0"):
        model(torch.zeros(1, 3, 2, 8, 8), torch.zeros(1, 2), cond)


def test_the_hidden_width_is_whole_tiles_near_eight_thirds() -> None:
    assert [hidden_width(width) for width in (96, 256, 384, 768, 1024, 1152)] == [256, 704, 1024, 2048, 2752, 3072]


def test_all_blocks_share_one_graph_per_shape() -> None:
    """So a run with n buckets compiles n graphs for training, whatever the depth and however much is padding."""
    from torch._dynamo.testing import CompileCounterWithBackend

    torch.compiler.reset()
    model, counter = model_of(depth=3), CompileCounterWithBackend("aot_eager")
    for block in model.blocks():
        block.compile(fullgraph=True, dynamic=False, backend=counter)
    cond = conditioning(2, 4)
    for padded in (0, 1, 2):
        cond.frame_is_real_BT[:, 4 - padded :] = False
        model(torch.randn(2, 3, 4, 8, 8), torch.rand(2, 4), cond)
    assert counter.frame_count == 1
    model(torch.randn(2, 3, 2, 8, 8), torch.rand(2, 2), conditioning(2, 2))
    assert counter.frame_count == 2
