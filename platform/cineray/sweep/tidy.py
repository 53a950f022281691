"""What a sweep keeps: its folder goes in; checkpoints that nobody will read again are removed, and the rest counted.

A trial's record, ledger, judgements, reports and evaluation always stay: only the weights go, which are nearly all of
its bytes. Such a trial can be looked at for ever, and trained again by its job; it cannot be gone on with.

    stopped, data-bound, failed    cannot be chosen: their weights go as soon as they have ended. In a population others
                                   may still begin from them, so there they go when the sweep is done
    done                           they go when the sweep is done, unless `job.keep` keeps them, or nothing was chosen:
                                   then this one still may be
    lost                           they stay: nothing was wrong with it but its machines
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cineray.storage import delete_object, list_objects
from cineray.sweep.config import Pbt, SweepJob
from cineray.sweep.folder import SweepFolder
from cineray.sweep.trial_folder import State, TrialFolder

NEVER_CHOSEN: frozenset[State] = frozenset({"stopped", "data-bound", "failed"})
"""Ends of trials that did not have the whole budget, and that nobody goes on with."""

_ONLY_FOR_GOING_ON = ("checkpoints", "compile-cache", "ray")


def tidy(sweep: SweepFolder, job: SweepJob, *, best: int | None, finalists: Collection[int]) -> list[str]:
    """When the sweep is done: remove what `job.keep` does not keep; returns the folders that were removed. `best`: None
    where none is."""
    return [folder for folder in _unneeded(sweep, job, best, finalists) if _removed(folder)]


def tidy_ended(trial: TrialFolder, job: SweepJob) -> list[str]:
    """When a trial has ended: the same for it alone, if it cannot be chosen; of many trials most are such ones."""
    if job.keep == "all" or isinstance(job.scheduler, Pbt) or _end_of(trial) not in NEVER_CHOSEN:
        return []
    return [folder for folder in _for_going_on(trial, _generations(trial)) if _removed(folder)]


def bytes_left(sweep: SweepFolder, job: SweepJob, *, best: int | None, finalists: Collection[int]) -> int:
    """Of what `tidy` removes: nothing, if it could."""
    return sum(map(bytes_in, _unneeded(sweep, job, best, finalists)))


def bytes_in(folder: str) -> int:
    """Of all files below it."""
    return sum(one.size_bytes for one in list_objects(folder))


def _unneeded(sweep: SweepFolder, job: SweepJob, best: int | None, finalists: Collection[int]) -> Iterator[str]:
    if job.keep == "all":
        return
    kept = set() if best is None else {best} if job.keep == "best" else {best, *finalists}
    for trial in sweep.trials():
        end = _end_of(trial)
        if end in NEVER_CHOSEN or (end == "done" and best is not None):
            # Of a trial that is kept, that of its newest run stays: runs before it were only its way there.
            last = -1 if trial.number in kept else None
            yield from _for_going_on(trial, _generations(trial)[:last])


def _end_of(trial: TrialFolder) -> State | None:
    ended = trial.ended()
    return None if ended is None else ended["state"]


def _generations(trial: TrialFolder) -> list[int]:
    return [int(one["generation"]) for one in trial.generations()]


def _for_going_on(trial: TrialFolder, generations: Collection[int]) -> list[str]:
    return [f"{trial.run_uri(number)}/{name}" for number in generations for name in _ONLY_FOR_GOING_ON]


def _removed(folder: str) -> bool:
    if next(iter(list_objects(folder)), None) is None:
        return False
    delete_object(folder, recursive=True)
    return True
