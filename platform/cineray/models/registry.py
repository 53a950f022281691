"""From a config to a model: one dict from `kind` to what builds it, and `build_model`, which draws its weights.

A new model is a config in configs.py, a module, a line here, and a class in tests/contracts/test_models.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

from cineray.models.attention import choose_flash
from cineray.models.base import VideoModel
from cineray.models.configs import Image2VideoConfig, ModelConfig, StDiTConfig, TextConfig, UNet3dConfig
from cineray.models.image2video import Image2Video
from cineray.models.stdit import StDiT
from cineray.models.text import CaptionEncoder, TextEncoder
from cineray.models.unet3d import UNet3d

MODELS: dict[type, Callable[..., VideoModel]] = {
    StDiTConfig: StDiT,
    UNet3dConfig: UNet3d,
    Image2VideoConfig: Image2Video,
}


def build_model(
    config: ModelConfig,
    *,
    channels: int,
    num_classes: int,
    text_width: int | None,
    longest: tuple[int, int, int],
    cell_pixels: int = 1,
) -> VideoModel:
    """The model on torch's default device, its weights a function of torch's global seed; on "meta" without weights.

    `longest` is the largest (T, H, W) that it will see; `cell_pixels` is how many pixels of video one row or column of
    its input spans: 1, or 8 on latents of an 8x autoencoder.
    """
    choose_flash(_flash_of(config))
    told = {"channels": channels, "num_classes": num_classes, "text_width": text_width}
    return _drawn(lambda: MODELS[type(config)](config, longest=longest, cell_pixels=cell_pixels, **told))


def _flash_of(config: ModelConfig) -> str:
    if isinstance(config, UNet3dConfig):
        return "default"
    return config.base.flash if isinstance(config, Image2VideoConfig) else config.flash


def build_text(config: TextConfig) -> TextEncoder | None:
    """What encodes captions, if captions are used; its `width` is the model's `text_width`."""
    if config.kind == "builtin":
        return _drawn(lambda: CaptionEncoder(config))
    if config.kind == "transformers":
        from cineray.models.transformers_text import TransformersText

        return TransformersText(config)  # not `_drawn`: its weights are read, not made
    return None


class _Drawable(Protocol):
    def to_empty(self, *, device: torch.device) -> object: ...
    def init_weights(self) -> None: ...


D = TypeVar("D", bound=_Drawable)


def _drawn(make: Callable[[], D]) -> D:
    """Built without memory first: torch's layers would draw weights that are drawn again, and be slow at it."""
    device = torch.get_default_device()
    with torch.device("meta"):
        model = make()
    if device.type != "meta":
        model.to_empty(device=device)
        model.init_weights()
    return model
