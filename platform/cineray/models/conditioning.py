"""What a clip is generated from, beside noise: times, class, caption and which frames are real, as tensors of a batch.

The caller fills it (the training task from a batch, a sampler from a request) and decides what is dropped: a class of
`num_classes`, a caption without a real token and a pace that is not known all mean "none". Models read it and never
change it. B clips, T frames of the model's input (latent frames where it works on latents), L tokens of text, D values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioning:
    """Everything but the noisy clip and its noise level. Padded frames come after the real ones."""

    seconds_BT: Tensor
    """float32: each frame's time since the clip's first frame."""
    frame_is_real_BT: Tensor
    """bool: padded frames take no part in anything, and their output means nothing."""
    class_B: Tensor | None = None
    """int64; `num_classes` stands for "none"."""
    text_BLD: Tensor | None = None
    """The encoded caption."""
    text_is_real_BL: Tensor | None = None
    """bool: which of its tokens are real; a row without any is "no caption"."""
    pace_is_known_B: Tensor | None = None
    """bool: False hides the mean time between frames (it is dropped for some clips in training); None: all known."""
    has_padding: bool = True
    """False: the caller vouches that all frames are real, and attention runs without a mask, in its fastest kernel."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Conditioning:
        """The same on another device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def select(self, index_B: Tensor) -> Conditioning:
        """The clips of these numbers, in their order; a number may come twice."""
        return self._mapped(lambda tensor: tensor.index_select(0, index_B))

    def __getitem__(self, clips: slice) -> Conditioning:
        """A range of clips."""
        return self._mapped(lambda tensor: tensor[clips])

    def without(self, num_classes: int = 0) -> Conditioning:
        """What guidance compares with: the same times, but no class and no caption."""
        no_class_B = None if self.class_B is None else torch.full_like(self.class_B, num_classes)
        no_text_BL = None if self.text_is_real_BL is None else torch.zeros_like(self.text_is_real_BL)
        return replace(self, class_B=no_class_B, text_is_real_BL=no_text_BL)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: change(value) for name, value in told.items() if isinstance(value, Tensor)}
        return replace(self, **changed)
