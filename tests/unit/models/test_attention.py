"""Attention by the name of its back end: all agree on real tokens, and the record says which one ran."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor

from cineray.errors import UsageError
from cineray.models import Conditioning, StDiTConfig, build_model
from cineray.models.attention import Backend, attend, choose_flash, plan_attention

REAL = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] + [False] * 5])


def tokens(*, dtype: torch.dtype = torch.float32, device: str = "cpu", width: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 3, 6, 2, width, generator=draw).to(device, dtype)
    return q, k, v


def by_hand(q_BNHE: Tensor, k_BNHE: Tensor, v_BNHE: Tensor) -> Tensor:
    """Written as the formula is."""
    scores = torch.einsum("bnhe,bmhe->bhnm", q_BNHE, k_BNHE) / q_BNHE.shape[-1] ** 0.5
    scores = scores.masked_fill(~REAL[:, None, None], float("-inf"))
    return torch.einsum("bhnm,bmhe->bnhe", scores.softmax(-1), v_BNHE)


def ran(asked: Backend, *, has_padding: bool = True) -> Tensor:
    q, k, v = tokens()
    with torch.no_grad():
        plan = plan_attention(asked, REAL, has_padding=has_padding, dtype=q.dtype, differentiated=False)
        return attend(q, k, v, plan)


@pytest.mark.parametrize("asked", ["sdpa", "flex", "varlen"])
def test_real_tokens_see_real_tokens_and_nothing_else(asked: Backend) -> None:
    torch.testing.assert_close(ran(asked)[REAL], by_hand(*tokens())[REAL], rtol=1e-4, atol=1e-5)


def test_on_a_cpu_the_reference_stands_in_for_what_cannot_run_there() -> None:
    """varlen is not implemented on CPU, and flex has no backward pass there."""
    told = {"has_padding": True, "dtype": torch.float32}
    assert plan_attention("varlen", REAL, differentiated=False, **told).backend == "sdpa"  # type: ignore[arg-type]
    assert plan_attention("flex", REAL, differentiated=True, **told).backend == "sdpa"  # type: ignore[arg-type]
    assert plan_attention("flex", REAL, differentiated=False, **told).backend == "flex"  # type: ignore[arg-type]


def test_real_and_padded_tokens_of_a_clip_are_two_sequences_for_varlen() -> None:
    """Clips of 6 tokens with 6, 4 and 1 real ones; nothing here depends on a GPU."""
    from cineray.models.attention import _starts

    assert _starts(REAL, has_padding=True).tolist() == [0, 6, 6, 10, 12, 13, 18]
    assert _starts(REAL, has_padding=False).tolist() == [0, 6, 12, 18]


def test_a_clip_without_any_real_token_gives_numbers() -> None:
    q, k, v = tokens()
    plan = plan_attention("sdpa", torch.zeros_like(REAL), has_padding=True, dtype=q.dtype, differentiated=False)
    assert bool(attend(q, k, v, plan).isfinite().all())


def test_the_model_tells_which_kernel_ran() -> None:
    """Asked for varlen, trained on a CPU: the record says what it was, not what was asked."""
    names = {}
    for asked in ("sdpa", "varlen", "flex"):
        config = StDiTConfig.model_validate(
            {"size": "custom", "width": 16, "depth": 1, "heads": 2, "attention": asked, "patch": (1, 4, 4)}
        )
        model = build_model(config, channels=3, num_classes=0, text_width=None, longest=(2, 8, 8))
        assert model.attention == "none yet"
        cond = Conditioning(seconds_BT=torch.zeros(1, 2), frame_is_real_BT=torch.ones(1, 2, dtype=torch.bool))
        model(torch.zeros(1, 3, 2, 8, 8), torch.zeros(1, 2), cond)
        trained = model.attention
        with torch.no_grad():
            model(torch.zeros(1, 3, 2, 8, 8), torch.zeros(1, 2), cond)
        names[asked] = (trained, model.attention)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            model(torch.zeros(1, 3, 2, 8, 8), torch.zeros(1, 2), cond)
        assert model.attention == "sdpa-math"
    assert names == {
        "sdpa": ("sdpa-flash", "sdpa-flash"),
        "varlen": ("sdpa-flash", "sdpa-flash"),
        "flex": ("sdpa-flash", "flex"),
    }


def test_a_flash_kernel_that_is_not_installed_is_refused_in_words() -> None:
    if importlib.util.find_spec("flash_attn_interface"):
        pytest.skip("FA3 is installed here")
    with pytest.raises(UsageError, match=r"flash=FA3 cannot run here: .*install its package"):
        choose_flash("FA3")


@pytest.mark.gpu
@pytest.mark.parametrize("asked", ["sdpa", "varlen", "flex"])
def test_on_a_gpu_all_back_ends_agree_with_the_formula_and_have_gradients(asked: Backend) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    q, k, v = tokens(dtype=torch.bfloat16, device="cuda", width=64)
    q.requires_grad_()
    plan = plan_attention(asked, REAL.cuda(), has_padding=True, dtype=q.dtype, differentiated=True)
    assert plan.backend == asked
    out = attend(q, k, v, plan)
    wanted = by_hand(*(part.detach().float().cpu() for part in (q, k, v)))
    torch.testing.assert_close(out.detach().float().cpu()[REAL], wanted[REAL], rtol=3e-2, atol=3e-2)
    out[REAL.cuda()].float().square().sum().backward()
    assert q.grad is not None
    assert bool(q.grad.isfinite().all())
