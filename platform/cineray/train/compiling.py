"""Blocks made fast: a model's blocks go in, and run compiled, each shape of batch as one graph that all blocks share.

Only a block's own forward is compiled, in place: names of weights do not change, and what shards or checkpoints the
block stays outside. Everything that varies is a tensor, so a run with n shapes compiles n graphs for training and as
many for validation. The compiler's output is kept with the run: a restart finds it, and does not compile again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from cineray.errors import PlaceMissing
from cineray.storage import is_remote, join_uri, put_object, read_object
from cineray.train.memory import Memory, with_memory

CACHE = "TORCHINDUCTOR_CACHE_DIR"
_MOST_BYTES = 1 << 30


def arrange(blocks: Sequence[nn.Module], *, memory: Memory = "none", compiled: bool = False, **options: Any) -> None:
    """Have blocks run with this memory, compiled or not; may be called again. `options` are torch.compile's."""
    for block in blocks:
        block.__dict__.pop("forward", None)
        if memory == "none" and not compiled:
            continue
        forward = with_memory(block.forward, memory)
        if compiled:
            # A graph break would be a silent slowdown; a shape that varies would be a slower graph.
            forward = torch.compile(forward, fullgraph=True, dynamic=False, **options)
        block.__dict__["forward"] = forward


def allow_graphs(shapes: int) -> None:
    """How many graphs a block may have: per shape for training and validation, and a few for odd sizes at the ends."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * shapes + 8)


class CompiledCode:
    """What the compiler made, in a folder of the run.

    On a local disk the compiler works in that folder. An object store is no place to work in: there the code is one
    object per rank, read at the start and put whenever there is more. It holds executable code, as a checkpoint does:
    go on with runs that you trust.
    """

    def __init__(self, folder: str, *, rank: int = 0) -> None:
        self._place = join_uri(folder, f"rank-{rank:05d}.bin") if is_remote(folder) else ""
        self._kept = 0
        if self._place:
            self._read()
        elif not _chosen_by_the_user():
            os.makedirs(folder, exist_ok=True)
            _worked_in.add(folder)
            os.environ[CACHE] = folder

    def keep(self) -> None:
        """Put what is new, if the folder is an object store; called at checkpoints, when compiling is long over."""
        if not self._place:
            return
        made = torch.compiler.save_cache_artifacts()
        if made is not None and len(made[0]) != self._kept:
            put_object(self._place, made[0])
            self._kept = len(made[0])

    def _read(self) -> None:
        try:
            found = read_object(self._place, limit_bytes=_MOST_BYTES)
        except PlaceMissing:
            return
        torch.compiler.load_cache_artifacts(found)
        self._kept = len(found)


_worked_in: set[str] = set()
"""Folders that runs of this process have had the compiler work in."""


def _chosen_by_the_user() -> bool:
    """The environment names a folder that is neither torch's usual one (torch writes that there itself) nor ours."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    return os.environ.get(CACHE) not in {None, default_cache_dir(), *_worked_in}
