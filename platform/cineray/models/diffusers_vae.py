"""Autoencoders of the `diffusers` library from a local folder: the folder's path goes in, an `Autoencoder` comes out.

What may be loaded is a table: a class's name, and how its latents are smaller than its pixels. Image autoencoders see
each frame by itself; video ones take 1 + n * k frames, and a clip of another length is filled up with its last frame.
Latents are normalised as the library's own pipelines do. Nothing is downloaded and no code from the folder is run.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from cineray.errors import CinerayError, UsageError
from cineray.models.autoencoder import Autoencoder, Shape3, fill_last_group, name_of
from cineray.storage import is_remote, join_uri, read_object

_LIMIT_BYTES = 1 << 20


class Family(NamedTuple):
    """How latents of one class look; `vae` is the loaded model, its `config` what the folder says."""

    per_frame: bool
    channels: Callable[[Any], int]
    compression: Callable[[Any], Shape3]


def _image(vae: Any) -> Shape3:
    halvings = len(vae.config.block_out_channels) - 1
    return 1, 2**halvings, 2**halvings


def _wan(vae: Any) -> Shape3:
    rows = 2 ** len(vae.temperal_downsample) * (vae.config.patch_size or 1)
    return 2 ** sum(vae.temperal_downsample), rows, rows


def _cogvideox(vae: Any) -> Shape3:
    rows = 2 ** (len(vae.config.block_out_channels) - 1)
    return int(vae.config.temporal_compression_ratio), rows, rows


def _by_ratios(vae: Any) -> Shape3:
    rows = int(vae.spatial_compression_ratio)
    return int(vae.temporal_compression_ratio), rows, rows


def _latent_channels(vae: Any) -> int:
    return int(vae.config.latent_channels)


FAMILIES: dict[str, Family] = {
    "AutoencoderKL": Family(True, _latent_channels, _image),
    "AutoencoderKLCogVideoX": Family(False, _latent_channels, _cogvideox),
    "AutoencoderKLHunyuanVideo": Family(False, _latent_channels, _by_ratios),
    "AutoencoderKLLTXVideo": Family(False, _latent_channels, _by_ratios),
    "AutoencoderKLWan": Family(False, lambda vae: int(vae.config.z_dim), _wan),
}
"""Class of the library -> how its latents look."""


class DiffusersVae(Autoencoder):
    """One of the library's autoencoders behind our seam."""

    def __init__(self, vae: torch.nn.Module, class_name: str) -> None:
        super().__init__()
        self.vae: Any = vae
        self.name = class_name
        self.family = FAMILIES[class_name]
        self.channels = self.family.channels(vae)
        self.compression = self.family.compression(vae)
        mean_C, std_C = _statistics(vae, self.channels)
        self.register_buffer("mean_C", mean_C, persistent=False)
        self.register_buffer("std_C", std_C, persistent=False)
        self.mean_C: Tensor
        self.std_C: Tensor

    def encode(self, x_BCTHW: Tensor, noise_BCTHW: Tensor | None = None) -> Tensor:
        """Normalised latents; see `Autoencoder`."""
        clips, _, frames, height, width = x_BCTHW.shape
        self.latent_shape((frames, height, width))
        pixels = fill_last_group(x_BCTHW, self.compression[0])
        if self.family.per_frame:
            pixels = rearrange(pixels, "b c t h w -> (b t) c h w")
        posterior = self.vae.encode(pixels).latent_dist
        mean, std = self._clips(posterior.mean, clips), self._clips(posterior.std, clips)
        latent = mean if noise_BCTHW is None else mean + std * noise_BCTHW
        return (latent - _wide(self.mean_C)) / _wide(self.std_C)

    def decode(self, z_BCTHW: Tensor, frames: int | None = None) -> Tensor:
        """Pixels of normalised latents; see `Autoencoder`."""
        latent = z_BCTHW * _wide(self.std_C) + _wide(self.mean_C)
        if self.family.per_frame:
            latent = rearrange(latent, "b c t h w -> (b t) c h w")
        pixels = self._clips(self.vae.decode(latent.to(self.vae.dtype)).sample, z_BCTHW.shape[0])
        return pixels[:, :, :frames]

    def _clips(self, made: Tensor, clips: int) -> Tensor:
        return rearrange(made, "(b t) c h w -> b c t h w", b=clips) if self.family.per_frame else made

    @property
    def content_hash(self) -> str:
        """Of class, statistics and weights."""
        told = {"class": self.name, "mean": self.mean_C.tolist(), "std": self.std_C.tolist()}
        return name_of(f"diffusers {json.dumps(told)}", self.vae.state_dict().items())


def load_diffusers_vae(path: str) -> DiffusersVae:
    """The autoencoder of such a folder, in float32 on the CPU."""
    if is_remote(path):
        raise UsageError(f"autoencoder.path is {path}; the diffusers library reads local folders: copy it here first")
    class_name = _class_of(path)
    if class_name not in FAMILIES:
        raise UsageError(
            f"{path} holds a {class_name!r}, whose latents cineray does not know; wanted one of {', '.join(FAMILIES)}. "
            "Another one is a line in models/diffusers_vae.py"
        )
    try:
        library = importlib.import_module("diffusers")
    except ImportError as error:
        raise CinerayError(
            f"loading {path} needs the library diffusers ({error}): pip install 'cineray[diffusers]'"
        ) from error
    vae = getattr(library, class_name).from_pretrained(
        path, local_files_only=True, torch_dtype=torch.float32, low_cpu_mem_usage=False
    )
    return DiffusersVae(vae, class_name)


def _class_of(path: str) -> str:
    told = json.loads(read_object(join_uri(path, "config.json"), limit_bytes=_LIMIT_BYTES))
    return str(told.get("_class_name"))


def _statistics(vae: Any, channels: int) -> tuple[Tensor, Tensor]:
    """What the library's pipelines take off, per channel: (z - mean) * scale / std; as mean and std / scale."""
    mean = _told(vae, "latents_mean")
    std = _told(vae, "latents_std")
    shift = getattr(vae.config, "shift_factor", None)
    scale = float(getattr(vae.config, "scaling_factor", None) or 1.0)
    mean_C = torch.full((channels,), float(shift or 0.0)) if mean is None else torch.as_tensor(mean).float().reshape(-1)
    std_C = torch.ones(channels) if std is None else torch.as_tensor(std).float().reshape(-1)
    return mean_C, std_C / scale


def _told(vae: Any, name: str) -> Any:
    """A buffer of the model, or what its config says; None where there is neither."""
    found = getattr(vae, name, None) if name in dict(vae.named_buffers()) else None
    return found if found is not None else getattr(vae.config, name, None)


def _wide(per_channel_C: Tensor) -> Tensor:
    return per_channel_C.view(1, -1, 1, 1, 1)
