"""What a trial says of itself at a judgement: its run's own record goes in, flat keys come out (`objectives.Report`).

Seconds are training seconds, as the budget counts them; a trial that went on from another's checkpoint counts what that
one had spent before, as its run does. What is not known is None.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from cineray.sweep.costs import cost_of
from cineray.sweep.trial_folder import TrialFolder
from cineray.train.recorder import summary_of
from cineray.train.run_folder import RunFolder

_FIGURES = (
    *("clips_per_s", "frames_per_s", "data_wait_fraction", "gpu_stall_fraction", "mfu", "goodput"),
    *("bound", "verdict"),
)
"""Of a run's summary, as they are."""
_COUNTED = ("clips", "frames")
"""Of a run's summary; the runs before it count too."""


def report_of(trial: TrialFolder, *, step: int, metrics: Mapping[str, float], wall_seconds: float) -> dict[str, Any]:
    """Of the trial's newest run, which was just judged after `step` steps and may have gone on since."""
    newest = trial.generations()[-1]
    summary = summary_of(RunFolder.open(trial.run_uri()), steps=step, aside=_of_the_sweep(trial))
    before = newest["begins_from"] or {}
    seconds = float(metrics.get("training_seconds") or summary["training_seconds"] or 0.0)
    rate = trial.facts.get("rate_per_hour")
    return {
        "trial": trial.number,
        "generation": int(newest["generation"]),
        "step": step,
        "seconds": seconds,
        **{name: int(summary[name]) + int(before.get(name, 0)) for name in _COUNTED},
        "wall_seconds": wall_seconds,
        "cost": None if rate is None else cost_of(seconds, rate),
        **{name: summary[name] for name in _FIGURES},
        **{name: float(value) for name, value in metrics.items() if name.startswith("validation/")},
        "at": time.time(),
    }


def _of_the_sweep(trial: TrialFolder) -> list[str]:
    """Causes of seconds that the sweep asked for: it says how often a trial is judged, and how often it is saved where
    the search does not. What bounds the trial is looked for in the rest, and its goodput is of that."""
    is_searched = any(field.partition(".")[0] == "checkpoint" for field in trial.facts.get("fields", {}))
    return ["evaluation"] if is_searched else ["evaluation", "checkpoint_save"]


def last_judgement(run: RunFolder) -> tuple[int, dict[str, float]]:
    """(step, metrics) of the newest judgement in a run's record; without one, its last step and nothing."""
    told = [event for event in run.events() if event["event"] == "validated"]
    if not told:
        return int(summary_of(run)["step"]), {}
    return int(told[-1]["step"]), {**told[-1]["metrics"], "training_seconds": told[-1]["training_seconds"]}
