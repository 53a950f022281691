"""`unet3d`: the compact (2+1)D U-Net, the classical baseline: space by convolutions, time by short convolutions and,
at the two lowest levels, by attention.

    level 0   64 channels   H x W        units ---------------------------------------+
    level 1  128            H/2 x W/2    units with attention --------------------+   |
    level 2  256            H/4 x W/4    units with attention, and up again ------+---+--> prediction

Time is never halved, so any number of frames fits. Nothing is normalised over time, and padded frames are zeroed before
each convolution over time and masked in each attention over it: they influence nothing.
B clips, C channels, T frames, H W rows and columns, N = B x T frames in one row, D values of a frame's conditions.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cineray.models.attention import AttentionPlan, AttentionShape, name_of_kernel
from cineray.models.base import Size, VideoModel, check_clip, check_divides
from cineray.models.conditioning import Conditioning
from cineray.models.configs import UNet3dConfig
from cineray.models.embedders import ClipEmbedder, TextKeys
from cineray.models.stdit import compute_dtype
from cineray.models.unet3d_blocks import GROUPS, FrameConv, LowAttention, ResBlock, Seen, Unit


class UNet3d(VideoModel):
    """See the module; `longest` and `cell_pixels` are what other models need."""

    def __init__(
        self,
        config: UNet3dConfig,
        *,
        channels: int,
        num_classes: int,
        text_width: int | None,
        longest: tuple[int, int, int],  # noqa: ARG002
        cell_pixels: int = 1,  # noqa: ARG002
    ) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        self.widths = [config.channels * multiplier for multiplier in config.multipliers]
        self.told = 4 * config.channels
        self.embed = ClipEmbedder(self.told, num_classes=num_classes, text_width=text_width)
        self.text_keys = TextKeys(text_width, self.widths[-1]) if text_width else None
        self.enter = FrameConv(channels, self.widths[0])
        self.down = nn.ModuleList(self._level(number, up=False) for number in range(len(self.widths)))
        self.up = nn.ModuleList(self._level(number, up=True) for number in range(len(self.widths)))
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        self.narrow = nn.ModuleList(FrameConv(fine, coarse, stride=2) for fine, coarse in pairs)
        self.widen = nn.ModuleList(FrameConv(coarse, fine) for fine, coarse in pairs)
        self.last_norm = nn.GroupNorm(GROUPS, self.widths[0])
        self.leave = FrameConv(self.widths[0], channels)

    def _level(self, number: int, *, up: bool) -> nn.ModuleList:
        """The units of one level; on the way up one more, and the first joins what came down with what comes up."""
        width, lowest = self.widths[number], len(self.widths) - 1
        units = []
        for place in range(self.config.blocks + up):
            block = ResBlock(2 * width if up and place == 0 else width, width, self.told)
            attention = None
            if number >= lowest - 1:
                with_text = self.text_keys is not None
                attention = LowAttention(width, self.config.heads, lowest=number == lowest, with_text=with_text)
            units.append(Unit(block, attention))
        return nn.ModuleList(units)

    def init_weights(self) -> None:
        """Draw anew: units start as the way around them, and the first prediction is 0."""
        self.embed.init_weights()
        if self.text_keys is not None:
            self.text_keys.init_weights()
        for part in [self.enter, *self.narrow, *self.widen, *self.blocks()]:
            part.init_weights()
        self.last_norm.reset_parameters()
        self.leave.init_weights(silent=True)

    def forward(self, x_BCTHW: Tensor, t_BT: Tensor, cond: Conditioning) -> Tensor:
        """See `VideoModel`."""
        check_clip(x_BCTHW, t_BT, cond, channels=self.channels)
        self._check_size(tuple(x_BCTHW.shape[2:]))
        clips, dtype = x_BCTHW.shape[0], self.enter.weight.dtype
        # Not a product: what lies in padding may be anything, and 0 x NaN is NaN.
        x = torch.where(cond.frame_is_real_BT[:, None, :, None, None], x_BCTHW, 0)
        h = self.enter(rearrange(x, "B C T H W -> (B T) C H W").to(dtype))
        seen = self._seen(t_BT, cond)
        self._note_attention(h, cond)
        kept = []
        for number, level in enumerate(self.down):
            h = self.narrow[number - 1](h) if number else h
            for unit in units_of(level):
                h = unit(h, seen)
            kept.append(h)
        for number in reversed(range(len(self.up))):
            if number < len(self.widen):
                h = self.widen[number](F.interpolate(h, scale_factor=2.0, mode="nearest"))
            h = torch.cat([h, kept[number]], dim=1)
            for unit in units_of(self.up[number]):
                h = unit(h, seen)
        out = self.leave(F.silu(self.last_norm(h)))
        prediction: Tensor = rearrange(out, "(B T) C H W -> B C T H W", B=clips)
        return prediction.to(x_BCTHW.dtype)

    def _seen(self, t_BT: Tensor, cond: Conditioning) -> Seen:
        text_BLD, text_mask = self.text_keys(cond) if self.text_keys is not None else (None, None)
        frame_ND = F.silu(self.embed(t_BT, cond)).flatten(0, 1)
        return Seen(frame_ND, cond.seconds_BT, cond.frame_is_real_BT, text_BLD, text_mask, cond.has_padding)

    def _check_size(self, size: tuple[int, ...]) -> None:
        part = 2 ** (len(self.widths) - 1)
        check_divides(size, (1, part, part), what="the lowest level's cells of")

    def _note_attention(self, h: Tensor, cond: Conditioning) -> None:
        """The kernel of attention across frames."""
        mask = cond.frame_is_real_BT[:, None, None] if cond.has_padding else None
        heads, frames = self.config.heads, cond.seconds_BT.shape[1]
        shape = AttentionShape(frames, heads, self.widths[-1] // heads, compute_dtype(h), h.device)
        self._attention = name_of_kernel(AttentionPlan("sdpa", mask_B11N=mask), shape)

    def blocks(self) -> list[nn.Module]:
        """All units, down and up again."""
        return [unit for level in [*self.down, *reversed(self.up)] for unit in units_of(level)]

    def forward_flops(self, size: Size, *, text_tokens: int = 0) -> int:
        """Of one clip; exact."""
        _, frames, rows, columns = size
        self._check_size((frames, rows, columns))
        keys = 1 + text_tokens if self.text_keys is not None else 0
        total = self.embed.flops(frames, text_tokens=text_tokens)
        total += self.text_keys.flops(text_tokens) if self.text_keys is not None else 0
        for number in range(len(self.widths)):
            places = (rows >> number) * (columns >> number)
            units = [*units_of(self.down[number]), *units_of(self.up[number])]
            total += sum(unit.flops(frames, places, keys) for unit in units)
            if number < len(self.widen):
                total += frames * self.widen[number].flops(places)  # type: ignore[operator]
                total += frames * self.narrow[number].flops(places // 4)  # type: ignore[operator]
        return total + frames * (self.enter.flops(rows * columns) + self.leave.flops(rows * columns))


def units_of(level: nn.Module) -> list[Unit]:
    """A level's units, in order, whether compiled or not."""
    return cast("list[Unit]", list(level.children()))
