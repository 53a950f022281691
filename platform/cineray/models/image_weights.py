"""Weights of an image model from a local file: a `.safetensors` or a `torch.save`d state dict in, tensors out.

The file may be what `cineray export` wrote of a run on single frames. Then its names begin with `net.`, and beside the
network lie what its data was measured to be and the caption encoder that learnt with it. Files are read as data: a
pickle is opened with `weights_only`, so it can carry tensors and nothing that runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cineray.errors import UsageError

_NET, _TEXT = "net.", "text."


@dataclass(frozen=True, slots=True)
class ImageFile:
    """What a file holds."""

    net: dict[str, Tensor]
    """The network, by its own names."""
    text: dict[str, Tensor] = field(default_factory=dict)
    """The caption encoder that learnt with it; empty where there was none, or the file is of others."""
    mean_C: Tensor | None = None
    """Of the data that it learnt; None where the file does not say."""
    sd_C: Tensor | None = None
    about: dict[str, str] = field(default_factory=dict)
    """The file's metadata."""


def read_image_file(path: str) -> ImageFile:
    """A file of ours or of others; what is neither network, caption encoder nor data stays with the network."""
    found, about = read_state_dict(path), _metadata(path)
    if not any(name.startswith(_NET) for name in found):
        return ImageFile(found, about=about)
    parts: dict[str, dict[str, Tensor]] = {_NET: {}, _TEXT: {}, "": {}}
    for name, value in found.items():
        prefix = next(prefix for prefix in parts if name.startswith(prefix))
        parts[prefix][name.removeprefix(prefix)] = value
    mean_C, sd_C = (parts[""].pop(name, None) for name in ("data_mean_C", "data_sd_C"))
    return ImageFile(parts[_NET] | parts[""], parts[_TEXT], mean_C, sd_C, about)


def load_weights(model: nn.Module, path: str) -> None:
    """Put the file's network into the model; every weight must be there, in its shape, and none may be left over."""
    hint = "give `base` the size, patch, classes and channels that the image model was trained with"
    copy_weights(model, read_image_file(path).net, where=f"{path} is not a state dict of this image model", hint=hint)


def copy_weights(model: nn.Module, found: Mapping[str, Tensor], *, where: str, hint: str) -> None:
    """All or nothing: what does not fit is refused by name."""
    wanted = dict(model.named_parameters())
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [f"{name} is not in the model" for name in found if name not in wanted]
    wrong += [
        f"{name} has shape {tuple(found[name].shape)}, the model wants {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UsageError(f"{where}: {'; '.join(wrong[:5])}{more}; {hint}")
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(found[name])


def read_state_dict(path: str) -> dict[str, Tensor]:
    """The tensors of a file, by name; one level of nesting (`model`, `ema`, `state_dict`) is looked through."""
    if not Path(path).is_file():
        raise UsageError(f"there are no image weights at {path}; wanted a .safetensors or a torch.save'd state dict")
    if path.endswith(".safetensors"):
        return _read_safetensors(path)
    try:
        told: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(f"{path} cannot be read as a state dict: {error}") from error
    for nested in ("ema", "model", "state_dict"):
        if isinstance(told, dict) and isinstance(told.get(nested), dict):
            told = told[nested]
    if not isinstance(told, dict) or not all(isinstance(value, Tensor) for value in told.values()):
        raise UsageError(f"{path} holds a {type(told).__name__}; wanted names with tensors, as state_dict() gives them")
    return told


def _read_safetensors(path: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise UsageError(f"{path} cannot be read as safetensors: {error}") from error
    return tensors


def _metadata(path: str) -> dict[str, str]:
    """Of a safetensors file that was read already; others have none."""
    if not path.endswith(".safetensors"):
        return {}
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
