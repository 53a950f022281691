"""What the (2+1)D U-Net is made of: convolutions within frames, short ones across them, attention at low levels.

Frames lie in one row, (N, C, H, W) with N = B x T, since nearly everything happens within a frame; what crosses frames
unfolds them by `Seen`. B clips, T frames, C channels, S = H x W places, D values of a frame's conditions.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cineray.models.attention import AttentionPlan, visible
from cineray.models.base import Modulation
from cineray.models.positions import time_rotation_of
from cineray.models.transformer import CrossAttention, SelfAttention

GROUPS = 8
SECONDS = (0.16, 16.0)
"""Wavelengths of the rotation by time."""


class Seen(NamedTuple):
    """What every block sees beside the picture."""

    frame_ND: Tensor
    """Each frame's conditions."""
    seconds_BT: Tensor
    real_BT: Tensor
    text_BLD: Tensor | None
    text_mask_B11L: Tensor | None
    has_padding: bool


class FrameConv(nn.Conv2d):
    """A convolution within frames that keeps the size, or halves it."""

    def __init__(self, channels: int, out: int, *, size: int = 3, stride: int = 1) -> None:
        super().__init__(channels, out, size, stride=stride, padding=size // 2)

    def init_weights(self, *, silent: bool = False) -> None:
        """Draw anew; `silent` gives 0 at first."""
        if silent:
            nn.init.zeros_(self.weight)
        else:
            nn.init.normal_(self.weight, std=(self.in_channels * self.kernel_size[0] ** 2) ** -0.5)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def flops(self, places: int) -> int:
        """Of one frame with `places` places *after* it."""
        return 2 * places * self.in_channels * self.out_channels * self.kernel_size[0] ** 2


class TimeConv(nn.Module):
    """Each place sees itself in the frames before and after: a convolution of three frames, as one matrix product.

    Padded frames count as zeros, just like the frames before the first and after the last.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.mix = FrameConv(3 * channels, channels, size=1)

    def init_weights(self) -> None:
        """Adds nothing at first."""
        self.norm.reset_parameters()
        self.mix.init_weights(silent=True)

    def forward(self, x_NCHW: Tensor, seen: Seen) -> Tensor:
        """What the neighbours in time add."""
        clips, frames = seen.real_BT.shape
        h_BTCHW = F.silu(self.norm(x_NCHW)).view(clips, frames, *x_NCHW.shape[1:])
        h_BTCHW = torch.where(seen.real_BT[:, :, None, None, None], h_BTCHW, 0)
        padded = F.pad(h_BTCHW, (0, 0, 0, 0, 0, 0, 1, 1))
        around = torch.cat([padded[:, :-2], h_BTCHW, padded[:, 2:]], dim=2)
        return cast("Tensor", self.mix(around.flatten(0, 1)))


class ResBlock(nn.Module):
    """Two convolutions within frames, modulated by the frame's conditions, then one across frames."""

    def __init__(self, channels: int, out: int, told: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(GROUPS, channels), nn.GroupNorm(GROUPS, out, affine=False)
        self.conv_in, self.conv_out = FrameConv(channels, out), FrameConv(out, out)
        self.modulation = Modulation(told, 2 * out)
        self.around = FrameConv(channels, out, size=1) if channels != out else None
        self.time = TimeConv(out)

    def init_weights(self) -> None:
        """Starts as the way around it."""
        self.norm_in.reset_parameters()
        self.conv_in.init_weights()
        self.conv_out.init_weights(silent=True)
        nn.init.normal_(self.modulation.weight, std=0.02)
        nn.init.zeros_(self.modulation.bias)
        if self.around is not None:
            self.around.init_weights()
        self.time.init_weights()

    def forward(self, x_NCHW: Tensor, seen: Seen) -> Tensor:
        """(N, out, H, W)."""
        scale, shift = self.modulation(seen.frame_ND)[..., None, None].chunk(2, dim=1)
        h = self.conv_in(F.silu(self.norm_in(x_NCHW)))
        h = self.conv_out(F.silu(self.norm_out(h) * (1 + scale) + shift))
        h = h + (x_NCHW if self.around is None else self.around(x_NCHW))
        return cast("Tensor", h + self.time(h, seen))

    def flops(self, places: int) -> int:
        """Of one frame."""
        convs = [self.conv_in, self.conv_out, self.time.mix, *([self.around] if self.around is not None else [])]
        return (
            sum(conv.flops(places) for conv in convs) + 2 * self.modulation.in_features * self.modulation.out_features
        )


class LowAttention(nn.Module):
    """Attention across frames at each place, turned by real time; at the lowest level within frames and to text too."""

    def __init__(self, channels: int, heads: int, *, lowest: bool, with_text: bool) -> None:
        super().__init__()
        self.head_width = channels // heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.across = SelfAttention(channels, heads)
        self.within = SelfAttention(channels, heads) if lowest else None
        self.cross = CrossAttention(channels, heads) if lowest and with_text else None

    def init_weights(self) -> None:
        """Adds nothing at first."""
        self.norm.reset_parameters()
        self.across.init_weights(silent=True)
        if self.within is not None:
            self.within.init_weights(silent=True)
        if self.cross is not None:
            self.cross.init_weights()

    def forward(self, x_NCHW: Tensor, seen: Seen) -> Tensor:
        """Same shape."""
        clips, rows = seen.real_BT.shape[0], x_NCHW.shape[2]
        if self.within is not None:
            h_NSC = rearrange(self.norm(x_NCHW), "N C H W -> N (H W) C")
            added = self.within(h_NSC, None, AttentionPlan("sdpa"))
            x_NCHW = x_NCHW + rearrange(added, "N (H W) C -> N C H W", H=rows)
        x_NCHW = x_NCHW + self._across(x_NCHW, seen)
        if self.cross is not None and seen.text_BLD is not None and seen.text_mask_B11L is not None:
            h_BNC = rearrange(x_NCHW, "(B T) C H W -> B (T H W) C", B=clips)
            added = self.cross(h_BNC, seen.text_BLD, seen.text_mask_B11L)
            x_NCHW = x_NCHW + rearrange(added, "B (T H W) C -> (B T) C H W", H=rows, W=x_NCHW.shape[3])
        return x_NCHW

    def _across(self, x_NCHW: Tensor, seen: Seen) -> Tensor:
        clips, (rows, columns) = seen.real_BT.shape[0], x_NCHW.shape[2:]
        h = rearrange(self.norm(x_NCHW), "(B T) C H W -> (B H W) T C", B=clips)
        places = rows * columns
        rotation = time_rotation_of(
            seen.seconds_BT.repeat_interleave(places, 0), head_width=self.head_width, wavelengths=SECONDS
        )
        plan = AttentionPlan("sdpa")
        if seen.has_padding:
            plan = AttentionPlan("sdpa", mask_B11N=visible(seen.real_BT).repeat_interleave(places, 0)[:, None, None])
        added = self.across(h, rotation, plan)
        out: Tensor = rearrange(added, "(B H W) T C -> (B T) C H W", B=clips, H=rows)
        return out

    def flops(self, frames: int, places: int, text_tokens: int) -> int:
        """Of one clip; `text_tokens` counts the learnt one."""
        tokens = frames * places
        total = self.across.flops(tokens, frames)
        total += self.within.flops(tokens, places) if self.within is not None else 0
        return total + (self.cross.flops(tokens, text_tokens) if self.cross is not None else 0)


class Unit(nn.Module):
    """A residual block, with attention after it at the low levels: what is compiled and sharded as one."""

    def __init__(self, block: ResBlock, attention: LowAttention | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def init_weights(self) -> None:
        """Draw anew."""
        self.block.init_weights()
        if self.attention is not None:
            self.attention.init_weights()

    def forward(self, x_NCHW: Tensor, seen: Seen) -> Tensor:
        """(N, out, H, W)."""
        h = self.block(x_NCHW, seen)
        return cast("Tensor", h if self.attention is None else self.attention(h, seen))

    def flops(self, frames: int, places: int, text_tokens: int) -> int:
        """Of one clip."""
        attention = self.attention.flops(frames, places, text_tokens) if self.attention is not None else 0
        return frames * self.block.flops(places) + attention
