"""Reading a checkpoint's tensors from wherever it lies: a verified `CheckpointInfo` goes in, tensors come out.

torch.distributed.checkpoint plans which slices of which files a rank needs, whatever the world was that wrote them;
this reads just those, by ranges, through `cineray.storage`: from a disk as from an object store, with nothing staged.

A checkpoint is for resuming and holds Python pickles, as all of torch's do: load those of runs that you trust. What is
meant for others is exported (`export.py`), as safetensors.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from cineray.errors import CinerayError
from cineray.records import Place
from cineray.storage import PlaceFile, join_uri, open_place
from cineray.train.checkpoint_manifest import CheckpointInfo
from cineray.train.ranks import Ranks

# One process without a group is the usual case on a laptop, and nothing to be warned of.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


class CheckpointUnfit(CinerayError):
    """A checkpoint's tensors are not those that the model and the optimisers want."""


class _Files(FileSystem):
    """The files of one checkpoint, to torch's reader."""

    def __init__(self, data_uri: str) -> None:
        self._data_uri = data_uri

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Generator[Any, None, None]:
        """A file to read from; PlaceFile keeps the last blocks, since a file's tensors lie one behind the other."""
        if mode != "rb":
            raise ValueError(f"{path} was opened with mode {mode!r}; a checkpoint that is whole is only read")
        name = Path(path).name
        with open_place(Place(uri=join_uri(self._data_uri, name))) as reader:
            yield PlaceFile(reader, block_bytes=4 << 20, max_blocks=4)


class PlaceReader(FileSystemReader):
    """torch's own reader over places."""

    def __init__(self, info: CheckpointInfo) -> None:
        super().__init__(info.folder)
        self.fs = _Files(info.data_uri)


def load_into(state: dict[str, Any], info: CheckpointInfo, ranks: Ranks) -> None:
    """Fill the tensors of a state, in place, each rank its own slices; plain values are replaced."""
    try:
        load(state, storage_reader=PlaceReader(info), process_group=ranks.group, no_dist=ranks.world == 1)
    except CheckpointException as error:
        told = "; ".join(f"rank {rank}: {cause[0]}" for rank, cause in error.failures.items())
        raise CheckpointUnfit(
            f"the checkpoint of step {info.step} at {info.uri} does not fit this model and these optimisers: "
            f"{told[:2000]}. Compare the run's job with the one that is training"
        ) from error


def read_tensors(info: CheckpointInfo, part: str) -> dict[str, torch.Tensor]:
    """All tensors of one part of the state (`ema`, `model`), whole, in this process's memory, by their names in it."""
    metadata = PlaceReader(info).read_metadata()
    paths: Mapping[str, tuple[Any, ...]] = metadata.planner_data or {}
    wanted = {
        key: torch.empty(stored.size, dtype=stored.properties.dtype)
        for key, stored in metadata.state_dict_metadata.items()
        if isinstance(stored, TensorStorageMetadata) and paths.get(key, (key,))[0] == part
    }
    if not wanted:
        parts = sorted({str(path[0]) for path in paths.values()})
        raise CheckpointUnfit(f"the checkpoint at {info.uri} has no tensors of {part!r}; it has: {', '.join(parts)}")
    load(wanted, storage_reader=PlaceReader(info), no_dist=True)
    return {".".join(map(str, paths.get(key, (key,))[1:])): tensor for key, tensor in wanted.items()}
