"""To the trainer: a lake's version, a recipe, a seed and a range of steps go in; batches come out, step after step.

    spec = FeedSpec(recipe=recipe, seed=7).pinned()           a plan in words, small enough to send anywhere
    local_batches(spec, range(0, 1000))                       local.py        a plain loop: the readable reference
    TorchFeed(spec, range(0, 1000)).loader(num_workers=4)     torch_feed.py   for anybody's own PyTorch loop
    RayFeed(options, range(0, 1000), world=8).shards()        ray_feed.py     Ray Data into Ray Train
    numpy_batches(any of them)                                numpy_feed.py   for JAX and TensorFlow

All drivers give the same batches, bit for bit, for any number of workers and ranks and after any restart, because
all of them call one function (`visits.make_batches`) that depends on the plan and the step alone. Names are loaded
when they are first used; torch and Ray are needed only by their own drivers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.feed.job import DataJob, FeedConfig
    from cineray.feed.journal import Journal
    from cineray.feed.lake_catalog import LakeCatalog, open_catalogs, resolve
    from cineray.feed.limit import SubstitutionLimit
    from cineray.feed.local import local_batch, local_batches
    from cineray.feed.numpy_feed import numpy_batches, to_jax, to_numpy, to_tf
    from cineray.feed.supply import FeedSpec, LocatedCatalog, Supply
    from cineray.feed.torch_feed import TorchFeed, TorchLoader, from_torch, loader_of, to_torch
    from cineray.feed.visits import Task, make_batches, tasks_of

__all__ = [
    "DataJob",
    "FeedConfig",
    "FeedSpec",
    "Journal",
    "LakeCatalog",
    "LocatedCatalog",
    "SubstitutionLimit",
    "Supply",
    "Task",
    "TorchFeed",
    "TorchLoader",
    "from_torch",
    "loader_of",
    "local_batch",
    "local_batches",
    "make_batches",
    "numpy_batches",
    "open_catalogs",
    "resolve",
    "tasks_of",
    "to_jax",
    "to_numpy",
    "to_tf",
    "to_torch",
]

_HOME = {
    "job": ("DataJob", "FeedConfig"),
    "journal": ("Journal",),
    "lake_catalog": ("LakeCatalog", "open_catalogs", "resolve"),
    "limit": ("SubstitutionLimit",),
    "local": ("local_batch", "local_batches"),
    "numpy_feed": ("numpy_batches", "to_jax", "to_numpy", "to_tf"),
    "supply": ("FeedSpec", "LocatedCatalog", "Supply"),
    "torch_feed": ("TorchFeed", "TorchLoader", "from_torch", "loader_of", "to_torch"),
    "visits": ("Task", "make_batches", "tasks_of"),
}
"""What Ray needs is not here: import `cineray.feed.ray_feed` for it."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
