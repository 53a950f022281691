"""`stdit`: the space-time diffusion transformer. A noisy clip becomes tokens, they see each other, a prediction comes.

    x_BCTHW --patches--> tokens_BFSD --depth x Block--> tokens_BFSD --patches back--> prediction_BCTHW
                             t, seconds, pace, class, caption --ClipEmbedder--> one vector per F --> all modulations

One shared layer turns each frame's vector into the modulation of all blocks (adaLN-single). Frames have their own noise
level: a given first frame is a frame with t = 1. Times are seconds and places are pixels (positions.py), so the same
weights take any number of frames, rate and size. B clips, C channels, T H W frames, rows, columns; F S token rows in
time and places per row; D values.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cineray.errors import UsageError
from cineray.models.attention import AttentionPlan, AttentionShape, name_of_kernel, plan_attention
from cineray.models.base import Modulation, Size, VideoModel, check_clip, check_divides
from cineray.models.conditioning import Conditioning
from cineray.models.configs import StDiTConfig
from cineray.models.embedders import ClipEmbedder, TextKeys, token_mean
from cineray.models.patches import PatchIn, PatchOut
from cineray.models.positions import Rotation, rotation_of
from cineray.models.transformer import EPS, Axes, Block, modulate


class Entered(NamedTuple):
    """A clip after entry: its tokens, and all that the blocks and the way out need beside them."""

    tokens_BFSD: Tensor
    frame_BFD: Tensor
    modulation_BF6D: Tensor
    rotation: Rotation
    text_BLD: Tensor | None
    text_mask_B11L: Tensor | None
    rows: int


class StDiT(VideoModel):
    """See the module; `longest` bounds the learnt positions, if there are any."""

    def __init__(
        self,
        config: StDiTConfig,
        *,
        channels: int,
        num_classes: int,
        text_width: int | None,
        longest: tuple[int, int, int],
        cell_pixels: int = 1,
    ) -> None:
        super().__init__()
        self.config, self.channels, self.cell_pixels = config, channels, cell_pixels
        width, depth, heads = config.shape
        self.width, self.head_width = width, width // heads
        self.embed = ClipEmbedder(width, num_classes=num_classes, text_width=text_width)
        self.text_keys = TextKeys(text_width, width) if text_width else None
        self.enter = PatchIn(channels, config.patch, width, config.bottleneck)
        self.places = nn.Parameter(self._table(longest)) if config.positions == "rope+learned" else None
        self.modulation = Modulation(width, 6 * width)
        self.layers = nn.ModuleList(
            Block(width, heads, axes=_axes(config, number), with_text=bool(text_width)) for number in range(depth)
        )
        self.last_modulation = Modulation(width, 2 * width)
        self.last_norm = nn.RMSNorm(width, eps=EPS, elementwise_affine=False)
        self.leave = PatchOut(channels, config.patch, width)

    def _table(self, longest: tuple[int, int, int]) -> Tensor:
        check_divides(longest, self.config.patch, what="patches of")
        grid = [length // part for length, part in zip(longest, self.config.patch, strict=True)]
        return torch.empty(*grid, self.width)

    def init_weights(self) -> None:
        """Draw anew: blocks start (nearly) as the identity, and the first prediction is 0."""
        self.embed.init_weights()
        self.enter.init_weights()
        if self.text_keys is not None:
            self.text_keys.init_weights()
        if self.places is not None:
            nn.init.normal_(self.places, std=0.02)
        nn.init.normal_(self.modulation.weight, std=self.config.modulation_std)
        for zero in (self.modulation.bias, self.last_modulation.weight, self.last_modulation.bias):
            nn.init.zeros_(zero)
        for block in self.layers:
            assert isinstance(block, Block)
            block.init_weights()
        self.leave.init_weights()

    def forward(self, x_BCTHW: Tensor, t_BT: Tensor, cond: Conditioning) -> Tensor:
        """See `VideoModel`."""
        entered = self.entered(x_BCTHW, t_BT, cond)
        plans = self.plans(entered.tokens_BFSD, cond)
        tokens_BFSD = entered.tokens_BFSD
        for block in self.layers:
            tokens_BFSD = block(
                tokens_BFSD,
                entered.modulation_BF6D,
                entered.rotation,
                plans[block.axes],  # type: ignore[index]
                text_BLD=entered.text_BLD,
                text_mask_B11L=entered.text_mask_B11L,
            )
        return self.left(tokens_BFSD, entered).to(x_BCTHW.dtype)

    def entered(self, x_BCTHW: Tensor, t_BT: Tensor, cond: Conditioning) -> Entered:
        """The way in: everything before the first block."""
        check_clip(x_BCTHW, t_BT, cond, channels=self.channels)
        check_divides(tuple(x_BCTHW.shape[2:]), self.config.patch, what="patches of")
        real_BT = cond.frame_is_real_BT
        # Not a product: what lies in padding may be anything, and 0 x NaN is NaN.
        tokens_BFhwD = self.enter(torch.where(real_BT[:, None, :, None, None], x_BCTHW, 0))
        grid = (tokens_BFhwD.shape[2], tokens_BFhwD.shape[3])
        if self.places is not None:
            tokens_BFhwD = tokens_BFhwD + self._learned(tokens_BFhwD).to(tokens_BFhwD.dtype)
        frame_BFD = F.silu(self.embed(t_BT, cond, self.config.patch[0]))
        told = rearrange(self.modulation(frame_BFD), "B F (six D) -> B F six D", six=6)
        text_BLD, text_mask = self.text_keys(cond) if self.text_keys is not None else (None, None)
        rotation = self._rotation(cond, grid)
        return Entered(tokens_BFhwD.flatten(2, 3), frame_BFD, told, rotation, text_BLD, text_mask, grid[0])

    def _learned(self, tokens_BFhwD: Tensor) -> Tensor:
        assert self.places is not None
        steps, rows, columns = tokens_BFhwD.shape[1:4]
        if any(need > have for need, have in zip((steps, rows, columns), self.places.shape[:3], strict=True)):
            raise UsageError(
                f"a clip of {steps} x {rows} x {columns} tokens is larger than the learnt positions, "
                f"{' x '.join(map(str, self.places.shape[:3]))}; build the model with a larger `longest`, or "
                "with positions=rope"
            )
        return self.places[:steps, :rows, :columns]

    def _rotation(self, cond: Conditioning, grid: tuple[int, int]) -> Rotation:
        frames, rows, columns = self.config.patch
        seconds_BF = token_seconds(cond, frames)
        return rotation_of(
            seconds_BF,
            grid,
            head_width=self.head_width,
            token_pixels=(rows * self.cell_pixels, columns * self.cell_pixels),
            seconds_wavelengths=self.config.rope_seconds,
            pixel_wavelengths=self.config.rope_pixels,
        )

    def plans(self, tokens_BFSD: Tensor, cond: Conditioning) -> dict[Axes, AttentionPlan]:
        """How tokens see each other, for each kind of block that this model has; and note which kernel that is."""
        places = tokens_BFSD.shape[2]
        real_BF = token_is_real(cond, self.config.patch[0])
        dtype = compute_dtype(tokens_BFSD)
        # A padded frame is padded in all its places, so attention within frames never needs a mask.
        kinds: dict[Axes, Tensor] = {"all": real_BF.repeat_interleave(places, 1)}
        if self.config.factorised:
            kinds = {"across frames": real_BF.repeat_interleave(places, 0)}
        plans: dict[Axes, AttentionPlan] = {"within frames": AttentionPlan("sdpa")}
        for axes, real in kinds.items():
            plans[axes] = plan_attention(
                self.config.attention,
                real,
                has_padding=cond.has_padding,
                dtype=dtype,
                differentiated=torch.is_grad_enabled(),
            )
            shape = AttentionShape(real.shape[1], self.config.shape.heads, self.head_width, dtype, real.device)
            self._attention = name_of_kernel(plans[axes], shape)
        return plans

    def left(self, tokens_BFSD: Tensor, entered: Entered) -> Tensor:
        """The way out: from tokens after the last block to the prediction, (B, C, T, H, W)."""
        scale, shift = self.last_modulation(entered.frame_BFD).to(tokens_BFSD.dtype)[:, :, None].chunk(2, dim=-1)
        out: Tensor = self.leave(modulate(self.last_norm(tokens_BFSD), scale, shift), entered.rows)
        return out

    def blocks(self) -> list[nn.Module]:
        """The transformer's blocks."""
        return list(self.layers)

    def forward_flops(self, size: Size, *, text_tokens: int = 0) -> int:
        """Of one clip; exact."""
        _, frames, rows, columns = size
        patch = self.config.patch
        check_divides((frames, rows, columns), patch, what="patches of")
        steps, places = frames // patch[0], (rows // patch[1]) * (columns // patch[2])
        keys = 1 + text_tokens if self.text_keys is not None else 0
        total = self.embed.flops(frames, text_tokens=text_tokens) + 2 * steps * 8 * self.width**2
        total += self.text_keys.flops(text_tokens) if self.text_keys is not None else 0
        total += self.enter.flops(steps * places) + self.leave.flops(steps * places)
        return total + sum(block.flops(steps, places, keys) for block in self.layers)  # type: ignore[operator]


def _axes(config: StDiTConfig, number: int) -> Axes:
    if not config.factorised:
        return "all"
    return "across frames" if number % 2 else "within frames"


def token_is_real(cond: Conditioning, frames_per_token: int) -> Tensor:
    """Which token rows hold at least one real frame, (B, F)."""
    real_BT = cond.frame_is_real_BT
    return real_BT if frames_per_token == 1 else real_BT.view(len(real_BT), -1, frames_per_token).any(2)


def token_seconds(cond: Conditioning, frames_per_token: int) -> Tensor:
    """When a token row is: the mean time of its real frames, (B, F)."""
    return token_mean(cond.seconds_BT.float()[..., None], cond.frame_is_real_BT, frames_per_token)[..., 0]


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type in which matrix products of x run."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
