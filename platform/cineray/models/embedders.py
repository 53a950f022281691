"""From conditions to vectors: noise level, pace, frame times, class and caption become one vector per frame.

The vector of a frame is the sum of what its noise level, the clip's class, caption and pace say, and of what its own
real time says *together with* the class: motion is a matter of both. Feeding each frame its time is what makes
generated motion right at variable frame rates (measured: 0.52 of clips right without, 0.88 to 0.94 with).

Frames that share a token (a patch in time) share the mean of their vectors; padded frames are left out of every mean.
B clips, T frames, F token rows in time, L text tokens, D values.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cineray.errors import UsageError
from cineray.models.conditioning import Conditioning
from cineray.models.transformer import Norm

WAVES = 32
"""Sines, and as many cosines, that stand for one number."""


def fourier(value: Tensor, lowest: float, highest: float) -> Tensor:
    """One number as sines and cosines of itself; frequencies in radians per unit, evenly in their logarithm."""
    steps = torch.linspace(math.log(lowest), math.log(highest), WAVES, device=value.device, dtype=torch.float32)
    angles = value.float()[..., None] * steps.exp()
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class ClipEmbedder(nn.Module):
    """All conditions of a clip as one vector per token row in time."""

    def __init__(self, width: int, *, num_classes: int, text_width: int | None) -> None:
        super().__init__()
        self.width, self.num_classes, self.text_width = width, num_classes, text_width
        self.noise_in, self.noise_out = nn.Linear(2 * WAVES, width), nn.Linear(width, width)
        self.pace = nn.Linear(2 * WAVES, width)
        self.frame_time, self.frame_out = nn.Linear(2 * WAVES, width), nn.Linear(width, width)
        if num_classes:
            # Two tables, the last row of each for "none": one for what is in the clip, one for how it moves.
            self.clip_class = nn.Embedding(num_classes + 1, width)
            self.frame_class = nn.Embedding(num_classes + 1, width)
        if text_width:
            # Without biases: no caption must add nothing, whether as an empty row or as no text at all.
            self.clip_text = nn.Linear(text_width, width, bias=False)
            self.frame_text = nn.Linear(text_width, width, bias=False)

    def init_weights(self) -> None:
        """Draw anew."""
        for module in self.children():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, t_BT: Tensor, cond: Conditioning, frames_per_token: int = 1) -> Tensor:
        """(B, F, D), in the weights' type."""
        dtype = self.noise_in.weight.dtype
        real_BT = cond.frame_is_real_BT
        of_clip_BD, of_motion_BD = self._clip_and_motion(cond)
        noise_BTD = self.noise_out(F.silu(self.noise_in(fourier(t_BT, 1.0, 100.0).to(dtype))))
        time_BTD = self.frame_time(fourier(centred(cond.seconds_BT, real_BT), 0.2, 100.0).to(dtype))
        frame_BTD = self.frame_out(F.silu(of_motion_BD[:, None] + time_BTD))
        return token_mean(of_clip_BD[:, None] + noise_BTD + frame_BTD, real_BT, frames_per_token)

    def _clip_and_motion(self, cond: Conditioning) -> tuple[Tensor, Tensor]:
        """What the clip's pace, class and caption add to every frame, and what meets each frame's time."""
        dtype = self.pace.weight.dtype
        log_pace_B, pace_is_known_B = pace_of(cond)
        of_clip_BD = self.pace(fourier(log_pace_B, 1.0, 100.0).to(dtype)) * pace_is_known_B[:, None].to(dtype)
        of_motion_BD = torch.zeros_like(of_clip_BD)
        if self.num_classes:
            class_B = class_or_none(cond, self.num_classes)
            of_clip_BD = of_clip_BD + self.clip_class(class_B)
            of_motion_BD = of_motion_BD + self.frame_class(class_B)
        elif cond.class_B is not None:
            raise UsageError("the conditioning has class_B, but the model was built with num_classes=0; leave it out")
        if self.text_width and cond.text_BLD is not None and cond.text_is_real_BL is not None:
            text_BD = masked_mean(cond.text_BLD.to(dtype), cond.text_is_real_BL)
            of_clip_BD = of_clip_BD + self.clip_text(text_BD)
            of_motion_BD = of_motion_BD + self.frame_text(text_BD)
        return of_clip_BD, of_motion_BD

    def flops(self, frames: int, *, text_tokens: int) -> int:
        """Matrix products for one clip."""
        per_frame = 2 * (2 * WAVES * self.width) + 2 * self.width**2
        text = 2 * (self.text_width or 0) * self.width if text_tokens else 0
        return 2 * (frames * per_frame + 2 * WAVES * self.width + text)


class TextKeys(nn.Module):
    """A caption as what cross-attention looks at: one learnt token that is always there, then the caption's own.

    The learnt token is all that a clip without a caption sees, so no row of attention is ever empty.
    """

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.text_width, self.width = text_width, width
        self.none_D = nn.Parameter(torch.empty(width))
        self.norm = Norm(text_width)
        self.project = nn.Linear(text_width, width)

    def init_weights(self) -> None:
        """Draw anew."""
        nn.init.normal_(self.none_D)
        nn.init.ones_(self.norm.weight)
        nn.init.normal_(self.project.weight, std=self.text_width**-0.5)
        nn.init.zeros_(self.project.bias)

    def forward(self, cond: Conditioning) -> tuple[Tensor, Tensor]:
        """Keys (B, 1 + L, D) and which of them are real, as a mask (B, 1, 1, 1 + L)."""
        clips = cond.seconds_BT.shape[0]
        keys = self.none_D.expand(clips, 1, self.width)
        is_real = torch.ones(clips, 1, dtype=torch.bool, device=keys.device)
        if cond.text_BLD is not None and cond.text_is_real_BL is not None:
            text_BLD = self.project(self.norm(cond.text_BLD.to(self.project.weight.dtype)))
            keys = torch.cat([keys.to(text_BLD.dtype), text_BLD], dim=1)
            is_real = torch.cat([is_real, cond.text_is_real_BL], dim=1)
        return keys, is_real[:, None, None]

    def flops(self, text_tokens: int) -> int:
        """Matrix products for one caption."""
        return 2 * text_tokens * self.text_width * self.width


def class_or_none(cond: Conditioning, num_classes: int) -> Tensor:
    """Each clip's class; that of "none" where the caller gives no classes at all."""
    if cond.class_B is not None:
        return cond.class_B
    return torch.full((cond.seconds_BT.shape[0],), num_classes, dtype=torch.int64, device=cond.seconds_BT.device)


def pace_of(cond: Conditioning) -> tuple[Tensor, Tensor]:
    """The logarithm of the mean time between real frames, and whether there is one and it may be known."""
    real_BT, seconds_BT = cond.frame_is_real_BT, cond.seconds_BT.float()
    gaps_B = real_BT.sum(1) - 1
    far = torch.finfo(torch.float32).max
    latest_B = torch.where(real_BT, seconds_BT, -far).amax(1)
    earliest_B = torch.where(real_BT, seconds_BT, far).amin(1)
    has_pace_B = gaps_B > 0
    pace_B = torch.where(has_pace_B, latest_B - earliest_B, 1.0) / gaps_B.clamp(min=1)
    known_B = has_pace_B if cond.pace_is_known_B is None else has_pace_B & cond.pace_is_known_B
    return pace_B.clamp(min=1e-4).log(), known_B


def centred(seconds_BT: Tensor, real_BT: Tensor) -> Tensor:
    """Times about the middle of the clip's real frames."""
    return seconds_BT.float() - masked_mean(seconds_BT.float()[..., None], real_BT)


def masked_mean(x_BND: Tensor, is_real_BN: Tensor) -> Tensor:
    """The mean over what is real, (B, D); zero where nothing is. What is not real may be anything, even NaN."""
    total_BD = torch.where(is_real_BN[..., None], x_BND, 0).sum(1)
    return total_BD / is_real_BN.sum(1, keepdim=True).clamp(min=1).to(x_BND.dtype)


def token_mean(x_BTD: Tensor, real_BT: Tensor, frames_per_token: int) -> Tensor:
    """Each token row's mean over its real frames, (B, F, D)."""
    if frames_per_token == 1:
        return x_BTD
    clips, frames, width = x_BTD.shape
    steps = frames // frames_per_token
    parts = x_BTD.reshape(clips * steps, frames_per_token, width)
    return masked_mean(parts, real_BT.reshape(clips * steps, frames_per_token)).view(clips, steps, width)
