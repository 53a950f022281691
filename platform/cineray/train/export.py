"""A model for others: the averaged weights of a checkpoint go in, one safetensors file comes out.

No code travels in it, unlike in a checkpoint: names, shapes and bytes. What it was made of is in its metadata (run,
step, plan, dataset, job), so a file that was mailed around still says where it comes from.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

import torch
from torch import Tensor

from cineray.storage import is_remote, upload_file
from cineray.train.checkpoint_manifest import CheckpointInfo
from cineray.train.checkpoint_read import read_tensors
from cineray.train.run_folder import RunFolder

EXPORT_FORMAT = 1


def export_weights(
    run: RunFolder, info: CheckpointInfo, uri: str, *, part: str = "ema", dtype: torch.dtype | None = None
) -> str:
    """Write the weights of one part (`ema` or `model`) of a verified checkpoint, cast to `dtype`; returns the uri."""
    from safetensors.torch import save_file

    tensors = {name: _cast(tensor, dtype) for name, tensor in read_tensors(info, part).items()}
    metadata = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in about(run, info).items()
    }
    local = None if is_remote(uri) else os.path.abspath(uri)
    with tempfile.TemporaryDirectory(dir=None if local is None else _made(os.path.dirname(local))) as folder:
        made = os.path.join(folder, "weights.safetensors")
        save_file(tensors, made, metadata={**metadata, "part": part})
        upload_file(made, uri)
    return uri


def about(run: RunFolder, info: CheckpointInfo) -> dict[str, Any]:
    """Where weights come from."""
    return {
        "format": str(EXPORT_FORMAT),
        "run": run.run_id,
        "step": str(info.step),
        "plan": run.identity.fingerprint,
        "job": info.facts.get("job", run.job_text()),
        "metrics": dict(info.metrics),
        "facts": {name: info.facts[name] for name in ("git", "software", "pixels") if name in info.facts},
    }


def load_weights(path: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of an exported file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Weights are cast, counters are not."""
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def _made(folder: str) -> str:
    os.makedirs(folder, exist_ok=True)
    return folder
