"""Weights on this machine: a metric's name and a path go in; a loaded network and its sha256 come out.

Whatever cannot be had is `MetricUnavailable` with a reason: no path, nothing there, not what it should be.
"""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cineray.evaluate.scores import MetricUnavailable

if TYPE_CHECKING:
    from torch import Tensor

    from cineray.evaluate.registry import Setting

_CHUNK_BYTES = 1 << 24


class Network(Protocol):
    """Tensors in, a tensor out (or a record that holds one)."""

    def __call__(self, *tensors: Tensor, **options: Any) -> Any:
        """Forward."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A loaded network, ready on its device, and where it came from."""

    network: Network
    path: Path
    sha256: str
    kind: str
    """`torchscript`, `transformers/<model type>` or `state dict`."""
    device: str
    config: Any = None
    """A `transformers` config, where there is one."""

    def facts(self) -> dict[str, str]:
        """For the record; the path's last part only, since the rest is this machine's."""
        return {"weights": self.path.name, "weights_sha256": self.sha256, "weights_kind": self.kind}


def path_of(setting: Setting, network: str) -> Path:
    """Where the weights of a network are."""
    told = setting.weights.get(network)
    if not told:
        raise MetricUnavailable(f"no path was given for its weights; give weights.{network}=PATH")
    path = Path(told)
    if not path.exists():
        raise MetricUnavailable(f"there is nothing at {told}, where its weights were said to be")
    return path


def sha256_of(path: Path) -> str:
    """Of a file's bytes; of a folder, over its files' names, sizes and bytes."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    for file in files:
        if file != path:
            digest.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n".encode())
        with file.open("rb") as opened:
            while chunk := opened.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def torchscript(path: Path, device: str) -> Weights:
    """A network that was saved with its computation."""
    import torch

    try:
        network = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        told = str(error).strip().splitlines()[0]
        raise MetricUnavailable(f"{path} is not a TorchScript file: {told}") from None
    return Weights(network, path, sha256_of(path), "torchscript", device)


def transformers_folder(path: Path, device: str, classes: dict[str, str]) -> Weights:
    """What `save_pretrained` wrote. `classes`: model type -> class that may be loaded; the folder's code is not run."""
    try:
        library: Any = importlib.import_module("transformers")
    except ImportError:
        raise MetricUnavailable("its weights are a folder of transformers: pip install 'cineray[text]'") from None
    try:
        config = library.AutoConfig.from_pretrained(path, local_files_only=True)
        if config.model_type not in classes:
            raise MetricUnavailable(f"{path} holds a {config.model_type}; wanted one of {', '.join(sorted(classes))}")
        network = getattr(library, classes[config.model_type]).from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        told = str(error).strip().splitlines()[0]
        raise MetricUnavailable(f"{path} is not a folder of transformers: {told}") from None
    network = network.eval().to(device)
    return Weights(network, path, sha256_of(path), f"transformers/{config.model_type}", device, config)


def torchscript_or_folder(path: Path, device: str, classes: dict[str, str]) -> Weights:
    """Whichever it is."""
    return transformers_folder(path, device, classes) if path.is_dir() else torchscript(path, device)
