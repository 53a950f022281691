"""Attention by the name of its back end: queries, keys, values go in, mixed values come out, and what ran has a name.

    sdpa      torch's scaled_dot_product_attention; padding as a mask over keys. The reference, and the only one on CPU.
    varlen    torch's varlen_attn: real and padded tokens of a clip are two sequences, so padding costs no mask.
    flex      torch's flex_attention with a block mask: whole blocks of padding are skipped.

A plan is made once per forward pass, outside the compiled blocks, from shapes and the padding alone; shapes do not
depend on how much is padding. All three agree on real tokens; what a padded token gets is never read.
B clips, N tokens, H heads, E values per head.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.nn.attention import SDPBackend, activate_flash_attention_impl, current_flash_attention_impl

from cineray.errors import UsageError

Backend = Literal["sdpa", "varlen", "flex"]


class AttentionPlan(NamedTuple):
    """How the tokens of one forward pass see each other: a tuple of tensors, which compile and FSDP can look into."""

    backend: Backend
    mask_B11N: Tensor | None = None
    """sdpa: which keys may be seen; None when all may."""
    starts: Tensor | None = None
    """varlen: int32, where each sequence of the packed tokens begins, and the end."""
    longest: int = 0
    """varlen: tokens of the longest sequence there can be."""
    block_mask: Any = None
    """flex: a BlockMask; None when all may be seen."""


def plan_attention(
    asked: Backend, token_is_real_BN: Tensor, *, has_padding: bool, dtype: torch.dtype, differentiated: bool
) -> AttentionPlan:
    """The back end asked for where it can run, else the reference."""
    device, tokens = token_is_real_BN.device, token_is_real_BN.shape[1]
    if asked == "varlen" and device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        return AttentionPlan("varlen", starts=_starts(token_is_real_BN, has_padding), longest=tokens)
    # On CPU flex has no backward pass.
    if asked == "flex" and (device.type == "cuda" or not differentiated):
        return AttentionPlan("flex", block_mask=_block_mask(visible(token_is_real_BN)) if has_padding else None)
    return AttentionPlan("sdpa", mask_B11N=visible(token_is_real_BN)[:, None, None] if has_padding else None)


def visible(is_real_BN: Tensor) -> Tensor:
    """Which keys may be seen: the real ones; all where none is, for an empty row gives NaN on some kernels."""
    return is_real_BN | ~is_real_BN.any(1, keepdim=True)


def _starts(token_is_real_BN: Tensor, has_padding: bool) -> Tensor:
    """Real tokens come first, so a clip of N tokens with r real ones is a sequence of r and one of N - r (maybe 0)."""
    clips, tokens = token_is_real_BN.shape
    if not has_padding:
        return torch.arange(0, clips * tokens + 1, tokens, dtype=torch.int32, device=token_is_real_BN.device)
    real_B = token_is_real_BN.sum(1, dtype=torch.int32)
    lengths = torch.stack([real_B, tokens - real_B], dim=1).flatten()
    return F.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))


def _block_mask(may_be_seen_BN: Tensor) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def may_see(clip: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
        return may_be_seen_BN[clip, key]

    clips, tokens = may_be_seen_BN.shape
    # Uncompiled it would write down all clips x tokens x tokens entries first.
    make = _compiled(create_block_mask) if may_be_seen_BN.is_cuda else create_block_mask
    return make(may_see, clips, None, tokens, tokens, device=may_be_seen_BN.device)


@lru_cache(maxsize=4)
def _compiled(function: Any) -> Any:
    return torch.compile(function)


def attend(q_BNHE: Tensor, k_BMHE: Tensor, v_BMHE: Tensor, plan: AttentionPlan) -> Tensor:
    """softmax(q k / sqrt(E)) v over the keys that the plan lets be seen; shape of q."""
    if plan.backend == "varlen":
        return _attend_varlen(q_BNHE, k_BMHE, v_BMHE, plan)
    q, k, v = (part.transpose(1, 2) for part in (q_BNHE, k_BMHE, v_BMHE))
    if plan.backend == "flex":
        from torch.nn.attention.flex_attention import flex_attention

        run = _compiled(flex_attention) if q.is_cuda else flex_attention
        out: Tensor = run(q, k, v, block_mask=plan.block_mask)
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=plan.mask_B11N)
    return out.transpose(1, 2)


def _attend_varlen(q_BNHE: Tensor, k_BNHE: Tensor, v_BNHE: Tensor, plan: AttentionPlan) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    assert plan.starts is not None
    q, k, v = (rearrange(part, "B N H E -> (B N) H E") for part in (q_BNHE, k_BNHE, v_BNHE))
    out = varlen_attn(q, k, v, plan.starts, plan.starts, plan.longest, plan.longest)
    assert isinstance(out, Tensor)
    return rearrange(out, "(B N) H E -> B N H E", B=q_BNHE.shape[0])


class AttentionShape(NamedTuple):
    """What decides which kernel runs."""

    tokens: int
    heads: int
    head_width: int
    dtype: torch.dtype
    device: torch.device


def name_of_kernel(plan: AttentionPlan, shape: AttentionShape) -> str:
    """Which kernel such an attention runs: the plan's back end, and for sdpa the one that torch chooses."""
    if torch.compiler.is_compiling():  # a whole model in one graph: asking would break it
        return plan.backend
    chosen: str = plan.backend
    if plan.backend == "sdpa":
        asked = torch.empty(1, shape.tokens, shape.heads, shape.head_width, dtype=shape.dtype, device=shape.device)
        asked = asked.transpose(1, 2).requires_grad_(torch.is_grad_enabled())
        mask = None if plan.mask_B11N is None else plan.mask_B11N[:1]
        # torch decides by shapes, types, hardware and `sdpa_kernel`; never by values, so nothing is waited for.
        choice: int = torch._fused_sdp_choice(asked, asked, asked, attn_mask=mask)
        chosen = f"sdpa-{SDPBackend(choice).name.lower().removesuffix('_attention')}"
    flash = current_flash_attention_impl()
    return f"{chosen}-{flash}" if flash and chosen in ("sdpa-flash", "varlen") else chosen


def choose_flash(name: str) -> None:
    """Put another flash kernel behind sdpa and varlen, for the whole process."""
    if name == "default":
        return
    try:
        activate_flash_attention_impl(name)
    except (ImportError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"flash={name} cannot run here: {error}; install its package on the machines that train, "
            "or set flash=default"
        ) from error
