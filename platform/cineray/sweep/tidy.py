"""What a finished sweep keeps: its folder and the winners go in; checkpoints that nobody will read again are removed.

A trial's record, ledger, judgements, reports and evaluation always stay: only the weights go, which are nearly all of
its bytes. Such a trial can be looked at for ever, and trained again by its job; it cannot be gone on with. Where
nothing was chosen nothing is removed, for it may still be chosen from what there is; and a trial that lost its machines
keeps its weights, for nothing was wrong with it.
"""

from __future__ import annotations

from collections.abc import Collection

from cineray.storage import delete_object, list_objects
from cineray.sweep.config import SweepJob
from cineray.sweep.folder import SweepFolder
from cineray.sweep.trial_folder import TrialFolder

_ONLY_FOR_GOING_ON = ("checkpoints", "compile-cache", "ray")


def tidy(sweep: SweepFolder, job: SweepJob, *, best: int | None, finalists: Collection[int]) -> list[str]:
    """Remove what `job.keep` does not keep; returns the folders that were removed. `best`: None where none is."""
    if job.keep == "all" or best is None:
        return []
    kept = {best} if job.keep == "best" else {best, *finalists}
    return [
        folder
        for trial in sweep.trials()
        if _is_done_with(trial)
        for folder in _unneeded(trial, is_kept=trial.number in kept)
        if _removed(folder)
    ]


def _is_done_with(trial: TrialFolder) -> bool:
    """Will nobody go on with it?"""
    ended = trial.ended()
    return ended is not None and ended["state"] != "lost"


def _unneeded(trial: TrialFolder, *, is_kept: bool) -> list[str]:
    """Of a trial that is kept, that of its newest run stays: runs before it were only its way there."""
    runs = [trial.run_uri(int(one["generation"])) for one in trial.generations()]
    return [f"{run}/{name}" for run in (runs[:-1] if is_kept else runs) for name in _ONLY_FOR_GOING_ON]


def _removed(folder: str) -> bool:
    if next(iter(list_objects(folder)), None) is None:
        return False
    delete_object(folder, recursive=True)
    return True
