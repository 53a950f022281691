"""`image2video`: a frozen image model whose frames learn to move. Only time is trained.

    tokens -> image block (frozen, frame by frame) -> time block (trained, place by place) -> image block -> ...

A time block is attention across frames, turned by real time, then a short convolution over them; the last layer of each
is zero at first. So before training the model *is* the image model on the clip's frames, bit for bit, and after
training the frozen weights' `frozen_hash` is what it was. The image model is an `stdit` that was trained on clips of
one frame; it keeps seeing such clips, at 0 seconds, so times and pace reach the time blocks alone.
B clips, T frames, S places, D values; the image model sees B x T clips of one frame.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cineray.models.attention import AttentionPlan, AttentionShape, name_of_kernel, plan_attention
from cineray.models.base import Modulation, Size, VideoModel, check_clip, check_divides
from cineray.models.conditioning import Conditioning
from cineray.models.configs import Image2VideoConfig
from cineray.models.embedders import ClipEmbedder
from cineray.models.image_weights import load_weights
from cineray.models.positions import Rotation, time_rotation_of
from cineray.models.stdit import StDiT, compute_dtype
from cineray.models.transformer import EPS, Block, SelfAttention, modulate


class TimeBlock(nn.Module):
    """What frames tell each other: attention across them at each place, then a convolution of three frames."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width = width
        self.norm = nn.RMSNorm(width, eps=EPS, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.neighbours_D3 = nn.Parameter(torch.empty(width, 3, 1))
        self.mix = nn.Linear(width, width, bias=False)
        self.offset_4D = nn.Parameter(torch.empty(4, width))

    def init_weights(self) -> None:
        """Adds nothing at first."""
        self.attention.init_weights(silent=True)
        nn.init.normal_(self.neighbours_D3, std=3**-0.5)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.offset_4D)

    def forward(
        self, x_BTSD: Tensor, modulation_BT4D: Tensor, rotation: Rotation, plan: AttentionPlan, real_BT: Tensor
    ) -> Tensor:
        """Same shape."""
        clips, places = x_BTSD.shape[0], x_BTSD.shape[2]
        told = (modulation_BT4D + self.offset_4D).to(x_BTSD.dtype)[:, :, None]
        scale, shift, scale_conv, shift_conv = told.unbind(3)
        h = rearrange(modulate(self.norm(x_BTSD), scale, shift), "B T S D -> (B S) T D")
        added = self.attention(h, rotation, plan)
        x_BTSD = x_BTSD + rearrange(added, "(B S) T D -> B T S D", B=clips, S=places)
        h_BTSD = modulate(self.norm(x_BTSD), scale_conv, shift_conv)
        return cast("Tensor", x_BTSD + self.mix(self._neighbours(h_BTSD, real_BT)))

    def _neighbours(self, h_BTSD: Tensor, real_BT: Tensor) -> Tensor:
        """Each value weighed over the frames before, here and after; padded frames count as zeros."""
        h_BTSD = torch.where(real_BT[:, :, None, None], h_BTSD, 0)
        padded = F.pad(h_BTSD, (0, 0, 0, 0, 1, 1))
        before, here, after = self.neighbours_D3.to(h_BTSD.dtype)[..., 0].unbind(1)
        return padded[:, :-2] * before + h_BTSD * here + padded[:, 2:] * after

    def flops(self, frames: int, places: int) -> int:
        """Matrix products of one clip; the weighing of neighbours is none."""
        return self.attention.flops(frames * places, frames) + 2 * frames * places * self.width**2


class Image2Video(VideoModel):
    """See the module."""

    def __init__(
        self,
        config: Image2VideoConfig,
        *,
        channels: int,
        num_classes: int,
        text_width: int | None,
        longest: tuple[int, int, int],
        cell_pixels: int = 1,
    ) -> None:
        super().__init__()
        self.config = config
        width, depth, heads = config.base.shape
        self.heads, self.head_width = heads, width // heads
        self.image = StDiT(
            config.base,
            channels=channels,
            num_classes=num_classes,
            text_width=text_width,
            longest=(1, *longest[1:]),
            cell_pixels=cell_pixels,
        ).requires_grad_(False)
        self.embed = ClipEmbedder(width, num_classes=num_classes, text_width=text_width)
        self.modulation = Modulation(width, 4 * width)
        self.times = nn.ModuleList(TimeBlock(width, heads) for _ in range(depth))

    def init_weights(self) -> None:
        """The image model from its file; the rest drawn anew, and silent."""
        load_weights(self.image, self.config.image_weights)
        self.embed.init_weights()
        nn.init.normal_(self.modulation.weight, std=0.02)
        nn.init.zeros_(self.modulation.bias)
        for block in self.times:
            assert isinstance(block, TimeBlock)
            block.init_weights()

    def forward(self, x_BCTHW: Tensor, t_BT: Tensor, cond: Conditioning) -> Tensor:
        """See `VideoModel`."""
        check_clip(x_BCTHW, t_BT, cond, channels=self.image.channels)
        check_divides(tuple(x_BCTHW.shape[2:]), self.config.base.patch, what="patches of")
        clips = x_BCTHW.shape[0]
        # Not a product: what lies in padding may be anything, and 0 x NaN is NaN.
        frames_BCTHW = torch.where(cond.frame_is_real_BT[:, None, :, None, None], x_BCTHW, 0)
        frames_NC1HW = rearrange(frames_BCTHW, "B C T H W -> (B T) C 1 H W")
        one_by_one = as_images(cond)
        entered = self.image.entered(frames_NC1HW, t_BT.reshape(-1, 1), one_by_one)
        tokens_N1SD, places = entered.tokens_BFSD, entered.tokens_BFSD.shape[2]
        within = self.image.plans(tokens_N1SD, one_by_one)["all"]
        told, rotation, across = self._about_time(t_BT, cond, places, compute_dtype(tokens_N1SD))
        text, mask = entered.text_BLD, entered.text_mask_B11L
        for image_block, time_block in zip(self.image.layers, self.times, strict=True):
            tokens_N1SD = image_block(
                tokens_N1SD, entered.modulation_BF6D, entered.rotation, within, text_BLD=text, text_mask_B11L=mask
            )
            tokens_BTSD = rearrange(tokens_N1SD, "(B T) 1 S D -> B T S D", B=clips)
            tokens_BTSD = time_block(tokens_BTSD, told, rotation, across, cond.frame_is_real_BT)
            tokens_N1SD = rearrange(tokens_BTSD, "B T S D -> (B T) 1 S D")
        out = rearrange(self.image.left(tokens_N1SD, entered), "(B T) C 1 H W -> B C T H W", B=clips)
        return out.to(x_BCTHW.dtype)

    def _about_time(
        self, t_BT: Tensor, cond: Conditioning, places: int, dtype: torch.dtype
    ) -> tuple[Tensor, Rotation, AttentionPlan]:
        """What the time blocks share: modulation, rotation, and which frames may be seen."""
        told = rearrange(self.modulation(F.silu(self.embed(t_BT, cond))), "B T (four D) -> B T four D", four=4)
        wavelengths = self.config.base.rope_seconds
        seconds = cond.seconds_BT.repeat_interleave(places, 0)
        rotation = time_rotation_of(seconds, head_width=self.head_width, wavelengths=wavelengths)
        real = cond.frame_is_real_BT.repeat_interleave(places, 0)
        plan = plan_attention("sdpa", real, has_padding=cond.has_padding, dtype=dtype, differentiated=True)
        self._attention = name_of_kernel(
            plan, AttentionShape(real.shape[1], self.heads, self.head_width, dtype, real.device)
        )
        return told, rotation, plan

    def blocks(self) -> list[nn.Module]:
        """Image and time blocks by turns."""
        pairs = zip(self.image.layers, self.times, strict=True)
        return [block for pair in pairs for block in pair]

    def forward_flops(self, size: Size, *, text_tokens: int = 0) -> int:
        """Of one clip; exact."""
        channels, frames, rows, columns = size
        _, patch_rows, patch_columns = self.config.base.patch
        places = (rows // patch_rows) * (columns // patch_columns)
        image = frames * self.image.forward_flops((channels, 1, rows, columns), text_tokens=text_tokens)
        width = self.config.base.shape.width
        told = self.embed.flops(frames, text_tokens=text_tokens) + 2 * frames * 4 * width**2
        return image + told + sum(block.flops(frames, places) for block in self.times)  # type: ignore[operator]

    def training_flops(self, size: Size, *, text_tokens: int = 0) -> int:
        """Of one clip: frozen weights have no gradients, and before the first time block nothing has."""
        _, frames, rows, columns = size
        _, patch_rows, patch_columns = self.config.base.patch
        places = (rows // patch_rows) * (columns // patch_columns)
        keys = 1 + text_tokens if self.image.text_keys is not None else 0
        later = [block for block in self.image.layers[1:] if isinstance(block, Block)]
        back = sum(block.input_gradient_flops(1, places, keys) for block in later) + self.image.leave.flops(places)
        images = frames * self.image.forward_flops((size[0], 1, rows, columns), text_tokens=text_tokens)
        trained = self.forward_flops(size, text_tokens=text_tokens) - images
        return 3 * trained + images + frames * back


def as_images(cond: Conditioning) -> Conditioning:
    """Every frame as a clip of its own: real, at 0 seconds, with its clip's class and caption.

    A padded frame is an image too; nobody looks at it. So images never need a mask.
    """
    frames = cond.seconds_BT.shape[1]

    def repeated(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.repeat_interleave(frames, 0)

    zeros_N1 = torch.zeros_like(cond.seconds_BT).view(-1, 1)
    return Conditioning(
        seconds_BT=zeros_N1,
        frame_is_real_BT=torch.ones_like(zeros_N1, dtype=torch.bool),
        class_B=repeated(cond.class_B),
        text_BLD=repeated(cond.text_BLD),
        text_is_real_BL=repeated(cond.text_is_real_BL),
        has_padding=False,
    )
