"""Networks over clips: a noisy clip and its conditions go in, a prediction of the clip's shape comes out.

    config = StDiTConfig(size="B", patch=(2, 8, 8))                        configs.py     a job's words; needs no torch
    model = build_model(config, channels=3, num_classes=101, text_width=None, longest=(16, 128, 128))
    model(x_BCTHW, t_BT, Conditioning(...))                                base.py        what all models promise

`stdit` is the transformer (stdit.py), `unet3d` the convolutional baseline (unet3d.py), `image2video` a frozen image
model that learns to move (image2video.py); autoencoders and text encoders stand beside them. A new model inherits
`testing.model_contract.ModelContract`. Names are loaded when first used: configs without torch, models with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.models.autoencoder import Autoencoder, PixelAutoencoder, load_autoencoder
    from cineray.models.autoencoder_config import (
        AutoencoderConfig,
        DiffusersVaeConfig,
        GateLimits,
        PixelsConfig,
        VaeLiteConfig,
        VaeLiteShape,
    )
    from cineray.models.base import VideoModel, weights_hash
    from cineray.models.conditioning import Conditioning
    from cineray.models.configs import Image2VideoConfig, ModelConfig, StDiTConfig, TextConfig, UNet3dConfig
    from cineray.models.registry import build_model, build_text
    from cineray.models.text import CaptionEncoder, TextEncoder

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "CaptionEncoder",
    "Conditioning",
    "DiffusersVaeConfig",
    "GateLimits",
    "Image2VideoConfig",
    "ModelConfig",
    "PixelAutoencoder",
    "PixelsConfig",
    "StDiTConfig",
    "TextConfig",
    "TextEncoder",
    "UNet3dConfig",
    "VaeLiteConfig",
    "VaeLiteShape",
    "VideoModel",
    "build_model",
    "build_text",
    "load_autoencoder",
    "weights_hash",
]

_HOME = {
    "autoencoder": ("Autoencoder", "PixelAutoencoder", "load_autoencoder"),
    "autoencoder_config": (
        *("AutoencoderConfig", "DiffusersVaeConfig", "GateLimits"),
        *("PixelsConfig", "VaeLiteConfig", "VaeLiteShape"),
    ),
    "base": ("VideoModel", "weights_hash"),
    "conditioning": ("Conditioning",),
    "configs": ("Image2VideoConfig", "ModelConfig", "StDiTConfig", "TextConfig", "UNet3dConfig"),
    "registry": ("build_model", "build_text"),
    "text": ("CaptionEncoder", "TextEncoder"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
