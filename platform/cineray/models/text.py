"""Captions in, vectors out: what every text encoder is (`TextEncoder`), and the small one that is trained along.

The built-in encoder needs no vocabulary and no download: a word is known by two hashes of itself, each a row of its own
table, so that two words are taken for one only where both hashes agree (one pair in 2^26). Words are cut after Unicode
normalisation and case folding; scripts that write no spaces are cut into characters. Captions are cut or padded to one
number of tokens, so that shapes never depend on what was said. B captions, L tokens, D values.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from cineray.models.attention import AttentionPlan, visible
from cineray.models.configs import TextConfig
from cineray.models.transformer import EPS, FeedForward, Norm, SelfAttention

ROWS = 1 << 13
"""Rows of each of the two word tables."""

# Kana, Han, Hangul, Thai, Lao, Khmer, Myanmar: written without spaces between words (or with few).
_NO_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(rf"[{_NO_SPACES}]|[^\W{_NO_SPACES}]+|[^\w\s]")


class TextEncoder(nn.Module, ABC):
    """What turns captions into vectors; `width` is how many values a token has."""

    width: int
    trainable: bool

    @abstractmethod
    def init_weights(self) -> None:
        """Draw anew what is trained; what is frozen stays."""

    @abstractmethod
    def encode(self, captions: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        """`text_BLD` and `text_is_real_BL`; None and an empty caption are rows without a real token."""


class CaptionEncoder(TextEncoder):
    """The built-in encoder: hashed words through a small bidirectional transformer, trained with the model."""

    trainable = True

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.tokens, self.width = config.tokens, config.width
        self.words = nn.ModuleList(nn.Embedding(ROWS, config.width) for _ in range(2))
        self.places_LD = nn.Parameter(torch.empty(config.tokens, config.width))
        self.layers = nn.ModuleList(_TextBlock(config.width, config.heads) for _ in range(config.depth))
        self.last_norm = Norm(config.width)

    def init_weights(self) -> None:
        """Draw all weights anew from torch's global generator."""
        for table in self.words:
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=0.5)
        nn.init.normal_(self.places_LD, std=0.1)
        nn.init.ones_(self.last_norm.weight)
        for layer in self.layers:
            assert isinstance(layer, _TextBlock)
            layer.attention.init_weights()
            layer.feed_forward.init_weights()

    def encode(self, captions: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        """Hash, then run; on the device of the weights."""
        rows, is_real = hashed(captions, self.tokens)
        device = self.places_LD.device
        is_real_BL = is_real.to(device)
        return self(rows.to(device), is_real_BL), is_real_BL

    def forward(self, rows_BL2: Tensor, is_real_BL: Tensor) -> Tensor:
        """Table rows of words -> vectors."""
        x_BLD = self.words[0](rows_BL2[..., 0]) + self.words[1](rows_BL2[..., 1]) + self.places_LD
        plan = AttentionPlan("sdpa", mask_B11N=visible(is_real_BL)[:, None, None])
        for layer in self.layers:
            x_BLD = layer(x_BLD, plan)
        out: Tensor = self.last_norm(x_BLD)
        return out


class _TextBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=EPS, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.feed_forward = FeedForward(width)

    def forward(self, x_BLD: Tensor, plan: AttentionPlan) -> Tensor:
        x_BLD = x_BLD + self.attention(self.norm(x_BLD), None, plan)
        out: Tensor = x_BLD + self.feed_forward(self.norm(x_BLD))
        return out


def hashed(captions: Sequence[str | None], tokens: int) -> tuple[Tensor, Tensor]:
    """Each caption's words as pairs of table rows, (B, L, 2), and which tokens are real, (B, L)."""
    rows = torch.zeros(len(captions), tokens, 2, dtype=torch.int64)
    is_real = torch.zeros(len(captions), tokens, dtype=torch.bool)
    for number, caption in enumerate(captions):
        words = words_of(caption or "")[:tokens]
        if words:
            rows[number, : len(words)] = torch.tensor([_rows_of(word) for word in words])
            is_real[number, : len(words)] = True
    return rows, is_real


def words_of(caption: str) -> list[str]:
    """`A red disk, moving up` -> a, red, disk, the comma, moving, up."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", caption).casefold())


@lru_cache(maxsize=1 << 16)
def _rows_of(word: str) -> tuple[int, int]:
    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little") % ROWS, int.from_bytes(digest[4:], "little") % ROWS
