"""Choosing: a base job, a space and objectives go in; trials come out, the Pareto set, and the best one as a job.

What a sweep is told, and whether it is possible:
    config.py, parameters.py       the job, and what a field may be
    space.py                       a trial's values; is what they make possible?
    check.py, foreseen.py          what would fail in every trial, before the first one
    latents.py, made_before.py     latents, kept apart by sampling
    capacity.py, machines.py       how many trials at once, and each one's share
    objectives.py, costs.py        what trials are chosen by; what an hour of one costs
    formulas.py                    figures of the validation, and how they follow from clips
    judging.py                     on what all of them are judged, the same

Who proposes, and when trials are compared:
    search.py, explore.py          Optuna's proposals; how a population's values move
    proposals.py, clock.py         the next trial, new or unfinished; judgements at the same time

A trial:
    trial_job.py                   its definite job
    at_work.py, training.py        it trains, and is judged on the way
    report_log.py, reporting.py    what its judgements said
    spent.py                       what it took, by its ledgers

What is written down:
    folder.py, trial_folder.py     the sweep's only memory
    trial_record.py, tidy.py       a trial as it is read back; weights that are not kept
    board.py, watcher.py           how it goes, for those who look on

What came out:
    results.py, trial_facts.py     the result, the table, best.yaml
    pareto.py, measured.py         whom no other beats, and the best; finalists' figures alone
    paired.py, comparisons.py      is the best better, on the same clips?
    lineage.py, notes.py           how a member of a population came to be; what to know before choosing

On Ray, a file for each thing that is asked of it:
    ray_sweep.py                   the whole, on the driver
    ray_tune.py, ray_search.py, ray_schedule.py    Tune: trials, who proposes them, who ends them
    ray_trial.py, ray_desk.py      a trial's actor, and wishes to it
    ray_alone.py, ray_judge.py     finalists, one at a time; evaluations
    ray_room.py, ray_janitor.py    machines come; nothing stays behind

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
