"""Where a run begins that goes on from another run: a job that names one goes in; the very checkpoint comes out.

Only the first start needs the other run. From the run's own first checkpoint on it stands by itself, and its record
says where it came from. What it takes over: the weights, their average, the optimiser, the step, the training seconds,
and the end that was fixed by then, if the other ran for the same seconds: its rates had begun to fall.
"""

from __future__ import annotations

from typing import Any, TypeVar

from cineray.errors import UsageError
from cineray.storage import join_uri, normalise_uri
from cineray.train.checkpoint_manifest import step_uri, steps_in
from cineray.train.config import BeginFromConfig, LearningJob
from cineray.train.ending import keep_planned, read_planned
from cineray.train.run_folder import RunFolder

J = TypeVar("J", bound=LearningJob)


def pinned_beginning(job: J) -> J:
    """The job of a new run, with the other's checkpoint named by its step. Its files are checked when they are read."""
    begin = job.begin_from
    if begin is None:
        return job
    other = RunFolder.open(begin.run)
    there = steps_in(other.folder("checkpoints"))
    if not there or (begin.step is not None and begin.step not in there):
        has = f"those of steps {', '.join(map(str, there))}" if there else "none"
        raise UsageError(
            f"begin_from names {_named(begin.step)} of {other.uri}, which has {has}; name one of them, and let that "
            "run keep it (checkpoint.keep_last, checkpoint.keep_every)"
        )
    step = there[-1] if begin.step is None else begin.step
    if step >= job.steps:
        raise UsageError(
            f"begin_from is step {step} and steps is {job.steps}: nothing is left to do; steps counts the other run's "
            "too, so give more"
        )
    return job.model_copy(update={"begin_from": BeginFromConfig(run=normalise_uri(begin.run), step=step)})


def _named(step: int | None) -> str:
    return "the newest checkpoint" if step is None else f"the checkpoint of step {step}"


def beginning_facts(job: LearningJob) -> dict[str, Any]:
    """What the new run's record says of it; the id stays with the other run wherever that is moved."""
    begin = job.begin_from
    if begin is None:
        return {}
    return {"begins_from": {"run": begin.run, "id": RunFolder.open(begin.run).run_id, "step": begin.step}}


def take_over_end(run: RunFolder, job: LearningJob) -> None:
    """A new run whose beginning lies behind the point at which the other's end was fixed has the same end."""
    begin, given = job.begin_from, job.budget.seconds
    if begin is None or begin.step is None or given is None:
        return
    planned = read_planned(RunFolder.open(begin.run))
    if planned is not None and planned.at_step <= begin.step < planned.steps and planned.budget_seconds == given:
        keep_planned(run, planned)


def recorded_beginning(run: RunFolder, job: J) -> J:
    """A run that is gone on with began where it began, whatever the job says by now."""
    begins = run.facts.get("begins_from")
    begin = None if begins is None else BeginFromConfig(run=begins["run"], step=begins["step"])
    return job.model_copy(update={"begin_from": begin})


def first_checkpoint(job: LearningJob) -> str:
    """The folder of the other run's checkpoint; empty for a run that begins at the beginning."""
    begin = job.begin_from
    if begin is None or begin.step is None:
        return ""
    return step_uri(join_uri(begin.run, "checkpoints"), begin.step)
