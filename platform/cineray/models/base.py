"""What every model is to those who train, sample and measure it: `VideoModel`.

A noisy clip, its noise level per frame and a `Conditioning` go in; a prediction of the clip's shape comes out (of what,
the diffusion decides). Promises, held by `testing.model_contract`: padded frames influence nothing, clips of a batch do
not see each other, one set of weights takes any length and size that its patch divides, and shapes alone decide the
control flow, so that each block compiles to one graph.

Weights may be float32 under autocast, or bfloat16 inside `fully_shard`: every model casts to its weights' type where
it enters them and keeps times and angles in float32. So let `MixedPrecisionPolicy` leave inputs alone
(`cast_forward_inputs=False`): it would round the noise level to 8 bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cineray.errors import UsageError
from cineray.models.conditioning import Conditioning

Size = tuple[int, int, int, int]
"""Channels, frames, rows, columns of one clip."""


class Modulation(nn.Linear):
    """A linear layer that turns conditions into scales and shifts: AdamW trains it, not Muon."""


class VideoModel(nn.Module, ABC):
    """A network over clips. B clips, C channels, T frames, H x W rows and columns."""

    def __init__(self) -> None:
        super().__init__()
        self._attention = "none yet"

    @abstractmethod
    def forward(self, x_BCTHW: Tensor, t_BT: Tensor, cond: Conditioning) -> Tensor:
        """A prediction of x's shape. t is 1 for data and 0 for noise, per frame: a given first frame has t = 1."""

    @abstractmethod
    def init_weights(self) -> None:
        """Draw all weights anew from torch's global generator: the same seed, the same weights."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """What is compiled, sharded and checkpointed one by one, in the order of the forward pass."""

    @abstractmethod
    def forward_flops(self, size: Size, *, text_tokens: int = 0) -> int:
        """Floating-point operations of all matrix products and convolutions of one clip."""

    def training_flops(self, size: Size, *, text_tokens: int = 0) -> int:
        """Of one clip, forward and back: as much again for the gradients of inputs, and again for those of weights."""
        return 3 * self.forward_flops(size, text_tokens=text_tokens)

    @property
    def attention(self) -> str:
        """The attention kernel that the latest forward pass ran: `sdpa-flash`, `sdpa-math`, `varlen`, `flex`."""
        return self._attention

    def muon_parameters(self) -> list[nn.Parameter]:
        """The blocks' trainable hidden matrices; everything else goes to AdamW."""
        layers = (layer for block in self.blocks() for layer in block.modules())
        weights = (
            layer.weight for layer in layers if isinstance(layer, nn.Linear) and not isinstance(layer, Modulation)
        )
        return [weight for weight in weights if isinstance(weight, nn.Parameter) and weight.requires_grad]

    def frozen_hash(self) -> str:
        """A name for the exact values of all weights that are not trained: equal before and after training."""
        return weights_hash((name, value) for name, value in self.named_parameters() if not value.requires_grad)


def weights_hash(named: Iterable[tuple[str, Tensor]]) -> str:
    """blake3 over names, types, shapes and values. Of sharded weights every rank must call it: it gathers them."""
    from blake3 import blake3

    digest = blake3()
    for name, value in sorted(named, key=lambda pair: pair[0]):
        whole = value.detach()
        if hasattr(whole, "full_tensor"):
            whole = whole.full_tensor()
        digest.update(f"{name} {whole.dtype} {tuple(whole.shape)}\n".encode())
        # `view` before `numpy`: numpy has no bfloat16, and only bytes matter here.
        digest.update(whole.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"blake3:{digest.hexdigest()}"


def check_clip(x_BCTHW: Tensor, t_BT: Tensor, cond: Conditioning, *, channels: int) -> None:
    """Refuse inputs that do not belong together; shapes only, so it costs no synchronisation."""
    clips, frames = x_BCTHW.shape[0], x_BCTHW.shape[2]
    if x_BCTHW.shape[1] != channels:
        raise UsageError(f"the model got clips of {x_BCTHW.shape[1]} channels; it was built for {channels}")
    told = {"t_BT": t_BT, "seconds_BT": cond.seconds_BT, "frame_is_real_BT": cond.frame_is_real_BT}
    for name, tensor in told.items():
        if tuple(tensor.shape) != (clips, frames):
            raise UsageError(
                f"{name} has shape {tuple(tensor.shape)}; the clip has {clips} clips of {frames} frames, "
                "and each frame has its own value"
            )


def check_divides(size: tuple[int, ...], parts: tuple[int, ...], *, what: str) -> None:
    """Refuse a clip that does not fall into whole parts."""
    if any(length % part for length, part in zip(size, parts, strict=True)):
        raise UsageError(
            f"a clip of {' x '.join(map(str, size))} (frames x rows x columns) does not divide into {what} "
            f"{' x '.join(map(str, parts))}; choose another bucket, or another model size"
        )
