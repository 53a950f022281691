"""Learning: batches go in; checkpoints and a ledger of every step come out, in a run's folder.

    config.py                  what a run was told                    loop.py, learner.py     one step after another
    run_folder.py              a run's record: open, resume, repeat   checkpoint*.py          saved aside, verified
    ledger.py, device_clock.py where each step's seconds went         goodput.py, verdict.py  what bounds the run
    sinks.py, ray_metrics.py   who is told                            watchdog.py, nan_stop.py  when it gives up

Names are loaded when they are first used: configs and records of runs need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.train.checkpoint import Checkpoints
    from cineray.train.checkpoint_manifest import CheckpointInfo
    from cineray.train.config import (
        BeginFromConfig,
        BudgetConfig,
        CheckpointConfig,
        EmaConfig,
        LearningJob,
        LimitsConfig,
        OptimiserConfig,
        ParallelConfig,
        TrackingConfig,
        TrainJob,
        ValidationConfig,
    )
    from cineray.train.latents_config import LatentsConfig
    from cineray.train.local_run import run_local
    from cineray.train.run_folder import Attempt, RunFolder, is_run, new_run_uri
    from cineray.train.vae_config import TrainVaeJob

_HOME = {
    "checkpoint": ("Checkpoints",),
    "checkpoint_manifest": ("CheckpointInfo",),
    "config": (
        *("BeginFromConfig", "BudgetConfig", "CheckpointConfig", "EmaConfig", "LearningJob", "LimitsConfig"),
        *("OptimiserConfig", "ParallelConfig", "TrackingConfig", "TrainJob", "ValidationConfig"),
    ),
    "latents_config": ("LatentsConfig",),
    "local_run": ("run_local",),
    "run_folder": ("Attempt", "RunFolder", "is_run", "new_run_uri"),
    "vae_config": ("TrainVaeJob",),
}

__all__ = [
    "Attempt",
    "BeginFromConfig",
    "BudgetConfig",
    "CheckpointConfig",
    "CheckpointInfo",
    "Checkpoints",
    "EmaConfig",
    "LatentsConfig",
    "LearningJob",
    "LimitsConfig",
    "OptimiserConfig",
    "ParallelConfig",
    "RunFolder",
    "TrackingConfig",
    "TrainJob",
    "TrainVaeJob",
    "ValidationConfig",
    "is_run",
    "new_run_uri",
    "run_local",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
