"""What transformers here are made of: attention, gated feed-forward, and the block of both under per-frame modulation.

Tokens lie as (B, F, S, D): B clips, F rows in time, S places per row, D values, so that a frame's modulation meets its
tokens by broadcasting. H heads of E values, L text tokens. Each part tells its matrix products by `flops`, whose sum a
test compares with torch's own counter.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cineray.models.attention import AttentionPlan, attend
from cineray.models.positions import Rotation, rotate

EPS = 1e-6

Axes = Literal["all", "within frames", "across frames"]
"""What a block's tokens attend to."""


def hidden_width(width: int) -> int:
    """8/3 of the width, as SwiGLU wants, at the nearest multiple of 64 (of 32 below 256): whole tiles of a GPU."""
    tile = 64 if width >= 256 else 32
    return max(tile, round(width * 8 / 3 / tile) * tile)


class Norm(nn.RMSNorm):
    """RMS normalisation in its input's type: with float32 weights on bfloat16 values torch has no fused kernel."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Over the last axis."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class SelfAttention(nn.Module):
    """Attention among tokens, with normalised and rotated queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.q_norm = Norm(width // heads)
        self.k_norm = Norm(width // heads)

    def init_weights(self, *, silent: bool = False) -> None:
        """Draw anew; `silent` adds nothing at first."""
        _draw(self.qkv)
        _draw(self.out, silent=silent)
        nn.init.ones_(self.q_norm.weight)
        nn.init.ones_(self.k_norm.weight)

    def forward(self, x_BND: Tensor, rotation: Rotation | None, plan: AttentionPlan) -> Tensor:
        """Same shape; sequences are rows of the first axis."""
        q, k, v = rearrange(self.qkv(x_BND), "B N (three H E) -> three B N H E", three=3, H=self.heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        # Under autocast normalisation leaves float32 behind; attention wants one type.
        mixed = attend(q.to(v.dtype), k.to(v.dtype), v, plan)
        return cast("Tensor", self.out(mixed.flatten(2)))

    def flops(self, tokens: int, keys: int) -> int:
        """`tokens` tokens, each of which sees `keys`."""
        return 8 * tokens * self.width**2 + 4 * tokens * keys * self.width


class CrossAttention(nn.Module):
    """Attention from tokens to a caption; adds nothing at first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.norm = nn.RMSNorm(width, eps=EPS, elementwise_affine=False)
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.q_norm = Norm(width // heads)
        self.k_norm = Norm(width // heads)

    def init_weights(self) -> None:
        """Draw anew."""
        _draw(self.q)
        _draw(self.kv)
        _draw(self.out, silent=True)
        nn.init.ones_(self.q_norm.weight)
        nn.init.ones_(self.k_norm.weight)

    def forward(self, x_BND: Tensor, text_BLD: Tensor, text_mask_B11L: Tensor) -> Tensor:
        """What the caption adds to each token."""
        q = rearrange(self.q(self.norm(x_BND).to(self.q.weight.dtype)), "B N (H E) -> B N H E", H=self.heads)
        k, v = rearrange(self.kv(text_BLD), "B L (two H E) -> two B L H E", two=2, H=self.heads)
        plan = AttentionPlan("sdpa", mask_B11N=text_mask_B11L)
        mixed = attend(self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype), v, plan)
        return cast("Tensor", self.out(mixed.flatten(2)))

    def flops(self, tokens: int, text_tokens: int) -> int:
        """`text_tokens` counts the learnt one."""
        project = 4 * tokens * self.width**2 + 4 * text_tokens * self.width**2
        return project + 4 * tokens * text_tokens * self.width


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.hidden = width, hidden_width(width)
        self.gate_and_value = nn.Linear(width, 2 * self.hidden, bias=False)
        self.out = nn.Linear(self.hidden, width, bias=False)

    def init_weights(self) -> None:
        """Draw anew."""
        _draw(self.gate_and_value)
        _draw(self.out)

    def forward(self, x: Tensor) -> Tensor:
        """Token by token."""
        gate, value = self.gate_and_value(x).chunk(2, dim=-1)
        return cast("Tensor", self.out(F.silu(gate) * value))

    def flops(self, tokens: int) -> int:
        """Both projections."""
        return 6 * tokens * self.width * self.hidden


class Block(nn.Module):
    """Attention, the caption if there are captions, feed-forward; each modulated by its frame's conditions.

    The modulation comes from one layer that all blocks share (adaLN-single); a block owns only an offset to it.
    """

    def __init__(self, width: int, heads: int, *, axes: Axes, with_text: bool) -> None:
        super().__init__()
        self.axes: Axes = axes
        self.attention = SelfAttention(width, heads)
        self.cross = CrossAttention(width, heads) if with_text else None
        self.feed_forward = FeedForward(width)
        self.norm = nn.RMSNorm(width, eps=EPS, elementwise_affine=False)
        self.offset_6D = nn.Parameter(torch.empty(6, width))

    def init_weights(self) -> None:
        """Draw anew."""
        nn.init.zeros_(self.offset_6D)
        self.attention.init_weights()
        self.feed_forward.init_weights()
        if self.cross is not None:
            self.cross.init_weights()

    def forward(
        self,
        x_BFSD: Tensor,
        modulation_BF6D: Tensor,
        rotation: Rotation,
        plan: AttentionPlan,
        *,
        text_BLD: Tensor | None = None,
        text_mask_B11L: Tensor | None = None,
    ) -> Tensor:
        """Same shape and type as the tokens that came."""
        told = (modulation_BF6D + self.offset_6D).to(x_BFSD.dtype)[:, :, None]
        scale, shift, gate, scale_ff, shift_ff, gate_ff = told.unbind(3)
        x_BFSD = x_BFSD + gate * self._attend(modulate(self.norm(x_BFSD), scale, shift), rotation, plan)
        if self.cross is not None and text_BLD is not None and text_mask_B11L is not None:
            added = self.cross(x_BFSD.flatten(1, 2), text_BLD, text_mask_B11L)
            x_BFSD = x_BFSD + added.view_as(x_BFSD)
        out: Tensor = x_BFSD + gate_ff * self.feed_forward(modulate(self.norm(x_BFSD), scale_ff, shift_ff))
        return out

    def _attend(self, x_BFSD: Tensor, rotation: Rotation, plan: AttentionPlan) -> Tensor:
        clips, steps, places, _ = x_BFSD.shape
        order = {"all": "B (F S)", "within frames": "(B F) S", "across frames": "(B S) F"}[self.axes]
        lengths = {"B": clips, "F": steps, "S": places}
        x = rearrange(x_BFSD, f"B F S D -> {order} D")
        turned = Rotation(*(rearrange(part, f"B (F S) one P -> {order} one P", F=steps) for part in rotation))
        out: Tensor = rearrange(self.attention(x, turned, plan), f"{order} D -> B F S D", **lengths)
        return out

    def flops(self, steps: int, places: int, text_tokens: int) -> int:
        """Of one clip; `text_tokens` counts the learnt one."""
        tokens = steps * places
        seen = {"all": tokens, "within frames": places, "across frames": steps}[self.axes]
        cross = self.cross.flops(tokens, text_tokens) if self.cross is not None else 0
        return self.attention.flops(tokens, seen) + cross + self.feed_forward.flops(tokens)

    def input_gradient_flops(self, steps: int, places: int, text_tokens: int) -> int:
        """Of the way back through a frozen block: each matrix once, but attention's products of two activations twice;
        a frozen caption has no gradient, so its keys and values have none."""
        tokens = steps * places
        seen = {"all": tokens, "within frames": places, "across frames": steps}[self.axes]
        width = self.attention.width
        captions = 4 * text_tokens * width**2 if self.cross is not None else 0
        return self.flops(steps, places, text_tokens) + 4 * tokens * seen * width - captions


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Scale and shift about "as it is"."""
    return x * (1 + scale) + shift


def _draw(layer: nn.Linear, *, silent: bool = False) -> None:
    if silent:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
