"""What a sweep keeps: its folder goes in; checkpoints that nobody will read again are removed, and the rest counted.

A trial's record, ledger, judgements, reports and evaluation always stay: only the weights go, which are nearly all of
its bytes. Such a trial can be looked at for ever, and trained again by its job; it cannot be gone on with.

    stopped, data-bound, failed    cannot be chosen: their weights go when they have ended, at the latest with the sweep
    done                           they go when the sweep is done, unless `job.keep` keeps them. Where nothing was
                                   chosen, or it still has to be evaluated, they stay: it may yet be chosen
    lost                           they stay: nothing was wrong with it but its machines

In a population one goes on from another's weights: there nothing goes before the sweep is done, nor while a member may
still be gone on with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cineray.errors import CinerayError
from cineray.storage import ObjectInfo, delete_object, list_objects, normalise_uri
from cineray.sweep.config import Pbt, SweepJob
from cineray.sweep.folder import SweepFolder
from cineray.sweep.trial_folder import State, TrialFolder

NEVER_CHOSEN: frozenset[State] = frozenset({"stopped", "data-bound", "failed"})
"""Ends of trials that did not have the whole budget, and that nobody goes on with."""

_ONLY_FOR_GOING_ON = ("checkpoints", "compile-cache", "ray")


def tidy(sweep: SweepFolder, job: SweepJob, *, best: int | None, finalists: Collection[int]) -> list[str]:
    """When the sweep is done: remove what `job.keep` does not keep; returns the folders that were removed. `best`: None
    where none is."""
    kept = _kept_runs(sweep, job, best, finalists)
    runs = [trial.run_uri(number) for trial in sweep.trials() for number in _generations(trial)]
    return remove_weights([run for run in runs if run not in kept])


def tidy_ended(trial: TrialFolder, job: SweepJob) -> list[str]:
    """When a trial has ended: the same for it alone, if it cannot be chosen; of many trials most are such ones."""
    if job.keep == "all" or isinstance(job.scheduler, Pbt) or _end_of(trial) not in NEVER_CHOSEN:
        return []
    return remove_weights([trial.run_uri(number) for number in _generations(trial)])


def bytes_left(sweep: SweepFolder, job: SweepJob, *, best: int | None, finalists: Collection[int]) -> int:
    """Of weights anywhere in the sweep's folder that are not among those to be kept: nothing, when all went well."""
    kept = tuple(f"{run}/" for run in _kept_runs(sweep, job, best, finalists))
    return sum(one.size_bytes for one in _weights_in(sweep.place("trials")) if not one.uri.startswith(kept))


def bytes_in(folder: str) -> int:
    """Of all files below it."""
    return sum(one.size_bytes for one in list_objects(folder))


def _kept_runs(sweep: SweepFolder, job: SweepJob, best: int | None, finalists: Collection[int]) -> set[str]:
    """Runs whose weights stay."""
    trials = {trial.number: trial for trial in sweep.trials()}
    ends = {number: _end_of(trial) for number, trial in trials.items()}
    everyone = {number: [trial.run_uri(one) for one in _generations(trial)] for number, trial in trials.items()}
    to_go_on = [number for number, end in ends.items() if end in (None, "lost")]
    if job.keep == "all" or (to_go_on and isinstance(job.scheduler, Pbt)):
        return {run for runs in everyone.values() for run in runs}
    kept = {run for number in to_go_on for run in everyone[number]}
    chosen = set() if best is None else {best} if job.keep == "best" else {best, *finalists}
    for number, runs in everyone.items():
        may_be_chosen = best is None or not _is_evaluated(trials[number], job)
        if number in chosen or (ends[number] == "done" and may_be_chosen):
            # Runs before the newest one were only its way there.
            kept |= set(runs if best is None else runs[-1:])
    return kept


def _is_evaluated(trial: TrialFolder, job: SweepJob) -> bool:
    """As far as it has to be."""
    return job.judge.evaluate is None or trial.kept("evaluation") is not None


def _weights_in(folder: str) -> Iterator[ObjectInfo]:
    root = normalise_uri(folder)
    for one in list_objects(root):
        if any(f"/{name}/" in one.uri.removeprefix(root) for name in _ONLY_FOR_GOING_ON):
            yield one


def _end_of(trial: TrialFolder) -> State | None:
    ended = trial.ended()
    return None if ended is None else ended["state"]


def _generations(trial: TrialFolder) -> list[int]:
    return [int(one["generation"]) for one in trial.generations()]


def remove_weights(runs: Collection[str]) -> list[str]:
    """What runs only need to go on; returns the folders that were there. One that cannot be removed is told of when all
    others are."""
    removed, refused = [], None
    for folder in (f"{run}/{name}" for run in runs for name in _ONLY_FOR_GOING_ON):
        try:
            if next(iter(list_objects(folder)), None) is not None:
                delete_object(folder, recursive=True)
                removed.append(folder)
        except CinerayError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return removed
