"""A trained `vae_lite` as one file: weights, statistics, its shape and what it showed on held-out clips.

The file is a safetensors file, its words in the metadata: any tool reads it, and nothing in it can run. It is written
whole or not at all, to a local path or to object storage, and what is read must have the hash that was written.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import safetensors.torch
from torch import Tensor

from cineray.errors import CinerayError, UsageError
from cineray.models.autoencoder import HeldOut
from cineray.models.autoencoder_config import VaeLiteShape
from cineray.models.vae_lite import VaeLite
from cineray.storage import put_object, read_object

FORMAT = "cineray-vae-lite-1"
_LIMIT_BYTES = 4 << 30


def write_vae_lite(model: VaeLite, uri: str, held_out: HeldOut) -> str:
    """Export; returns the content hash, which names every latent that is made with it."""
    content_hash = model.content_hash
    told = {
        "format": FORMAT,
        "shape": model.shape.model_dump_json(),
        "held_out": json.dumps(asdict(held_out)),
        "content_hash": content_hash,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    put_object(uri, safetensors.torch.save(tensors, told))
    return content_hash


def read_vae_lite(uri: str) -> VaeLite:
    """The autoencoder of such a file, on the CPU, as it was exported."""
    data = read_object(uri, limit_bytes=_LIMIT_BYTES)
    told = _metadata(data, uri)
    model = VaeLite(VaeLiteShape.model_validate_json(told["shape"]))
    tensors: dict[str, Tensor] = safetensors.torch.load(data)
    model.load_state_dict(tensors)
    model.held_out = HeldOut(**json.loads(told["held_out"]))
    if model.content_hash != told["content_hash"]:
        raise CinerayError(
            f"{uri} has the hash {model.content_hash}, and {told['content_hash']} was written: the file was damaged. "
            "Copy it again from where it was exported"
        )
    return model


def _metadata(data: bytes, uri: str) -> dict[str, str]:
    """The words of a safetensors file: eight bytes that say how long its JSON header is, and the header."""
    length = int.from_bytes(data[:8], "little")
    try:
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        told: dict[str, str] = header.get("__metadata__", {})
    except ValueError:
        told = {}
    if told.get("format") != FORMAT:
        raise UsageError(
            f"{uri} is not an autoencoder that cineray exported (format {told.get('format')!r}); wanted {FORMAT}: the "
            "file that a job of kind train_vae writes"
        )
    return told
