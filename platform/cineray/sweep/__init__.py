"""Choosing: a base job, a space and objectives go in; trials come out, the Pareto set, and the best one as a job.

    parameters.py, config.py   what a sweep was told        space.py        is it possible, and a trial's values
    objectives.py              what trials are chosen by    judging.py      what all of them are judged on, the same
    trial_job.py               a trial's definite job       capacity.py     how many at once, and each one's share
    folder.py, trial_folder.py the sweep's only memory      search.py       who proposes, from what is finished
    results.py, pareto.py      who won, and what was wasted costs.py        what a trial costs
    ray_*.py                   trials under Ray Tune

Names are loaded when they are first used: configs and records of sweeps need neither torch nor Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.sweep.config import (
        SWEEP_KINDS,
        Asha,
        DataBoundConfig,
        Fifo,
        FinalistsConfig,
        JudgeConfig,
        Median,
        NodePrice,
        ObjectiveSpec,
        Pbt,
        PricesConfig,
        SearchConfig,
        ShareConfig,
        SweepJob,
        TrialBudget,
    )
    from cineray.sweep.folder import SweepFolder, is_sweep, new_sweep_uri
    from cineray.sweep.parameters import Choice, FloatRange, IntRange, Parameter, Variants
    from cineray.sweep.trial_folder import TrialFolder
    from cineray.sweep.watcher import TrialRow, Watcher

_HOME = {
    "config": (
        *("SWEEP_KINDS", "Asha", "DataBoundConfig", "Fifo", "FinalistsConfig", "JudgeConfig", "Median", "NodePrice"),
        *("ObjectiveSpec", "Pbt", "PricesConfig", "SearchConfig", "ShareConfig", "SweepJob", "TrialBudget"),
    ),
    "folder": ("SweepFolder", "is_sweep", "new_sweep_uri"),
    "parameters": ("Choice", "FloatRange", "IntRange", "Parameter", "Variants"),
    "trial_folder": ("TrialFolder",),
    "watcher": ("TrialRow", "Watcher"),
}

__all__ = [
    "SWEEP_KINDS",
    "Asha",
    "Choice",
    "DataBoundConfig",
    "Fifo",
    "FinalistsConfig",
    "FloatRange",
    "IntRange",
    "JudgeConfig",
    "Median",
    "NodePrice",
    "ObjectiveSpec",
    "Parameter",
    "Pbt",
    "PricesConfig",
    "SearchConfig",
    "ShareConfig",
    "SweepFolder",
    "SweepJob",
    "TrialBudget",
    "TrialFolder",
    "TrialRow",
    "Variants",
    "Watcher",
    "is_sweep",
    "new_sweep_uri",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
