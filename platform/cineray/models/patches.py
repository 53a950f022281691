"""Between clips and tokens: a patch of frames, rows and columns is one token, and a token is one patch again.

A plain linear layer each way. With a big patch (pixels), `bottleneck` first squeezes it to few values: noise fills all
of a patch, the picture does not (JiT). B clips, C channels, T H W frames, rows, columns, D values per token.
"""

from __future__ import annotations

import math

from einops import rearrange
from torch import Tensor, nn

Patch = tuple[int, int, int]


class PatchIn(nn.Module):
    """(B, C, T, H, W) -> (B, F, h, w, D)."""

    def __init__(self, channels: int, patch: Patch, width: int, bottleneck: int) -> None:
        super().__init__()
        self.patch, self.values, self.width, self.bottleneck = patch, channels * math.prod(patch), width, bottleneck
        self.squeeze = nn.Linear(self.values, bottleneck, bias=False) if bottleneck else None
        self.project = nn.Linear(bottleneck or self.values, width)

    def init_weights(self) -> None:
        """Draw anew."""
        if self.squeeze is not None:
            nn.init.normal_(self.squeeze.weight, std=self.values**-0.5)
        nn.init.normal_(self.project.weight, std=self.project.in_features**-0.5)
        nn.init.zeros_(self.project.bias)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Tokens, in the weights' type (or autocast's)."""
        t, h, w = self.patch
        patches = rearrange(x_BCTHW, "B C (F t) (y h) (x w) -> B F y x (C t h w)", t=t, h=h, w=w)
        patches = patches.to(self.project.weight.dtype)
        tokens: Tensor = self.project(patches if self.squeeze is None else self.squeeze(patches))
        return tokens

    def flops(self, tokens: int) -> int:
        """Both layers."""
        squeeze = self.values * self.bottleneck
        return 2 * tokens * (squeeze + self.project.in_features * self.width)


class PatchOut(nn.Module):
    """(B, F, h * w, D) -> (B, C, T, H, W); 0 at first."""

    def __init__(self, channels: int, patch: Patch, width: int) -> None:
        super().__init__()
        self.channels, self.patch, self.width = channels, patch, width
        self.project = nn.Linear(width, channels * math.prod(patch))

    def init_weights(self) -> None:
        """All zero."""
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, tokens_BFSD: Tensor, rows: int) -> Tensor:
        """The clip; `rows` is how many rows of patches a frame has."""
        t, h, w = self.patch
        values = self.project(tokens_BFSD)
        clip: Tensor = rearrange(values, "B F (y x) (C t h w) -> B C (F t) (y h) (x w)", y=rows, t=t, h=h, w=w)
        return clip

    def flops(self, tokens: int) -> int:
        """One layer."""
        return 2 * tokens * self.width * self.project.out_features
