"""Weights of an image model from a local file: a `.safetensors` or a `torch.save`d state dict in, tensors out.

Files are read as data: a pickle is opened with `weights_only`, so it can carry tensors and nothing that runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cineray.errors import UsageError


def load_weights(model: nn.Module, path: str) -> None:
    """Put the file's weights into the model; every weight must be there, in its shape, and none may be left over."""
    found = read_state_dict(path)
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
        raise UsageError(
            f"{path} is not a state dict of this image model: {'; '.join(wrong[:5])}{more}; give `base` the size, "
            "patch, classes and channels that the image model was trained with"
        )
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
