"""One start of a run, seen from one of its processes: a job, its folder and its batches go in, a summary comes out.

The same for a process alone, for a rank of many, and inside a worker of Ray Train: they differ in where batches come
from and in who wishes the run to stop. Rank 0 writes the run's record; all ranks write their part of checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from cineray.config import job_to_yaml
from cineray.errors import Interrupted
from cineray.models import VideoModel
from cineray.telemetry.log_lines import belonging
from cineray.train.beginning import (
    beginning_facts,
    first_checkpoint,
    pinned_beginning,
    recorded_beginning,
    take_over_end,
)
from cineray.train.checkpoint import Checkpoints
from cineray.train.config import LearningJob
from cineray.train.ending import Ending, Planned, check_same_budget, keep_planned, read_planned
from cineray.train.job_kinds import JOB_KINDS
from cineray.train.latents_run import RunLatents
from cineray.train.ledger import last_of_each_step, read_all_rows
from cineray.train.loop import Batches, Loop, TrainResult
from cineray.train.parallel import World
from cineray.train.recorder import RunRecorder, closed_after
from cineray.train.resolve import resolved, training_spec
from cineray.train.run_folder import Attempt, RunFolder, is_run, new_run_uri
from cineray.train.setup import make_learner
from cineray.train.sinks import Sink, open_sinks
from cineray.train.stop import StopRequest
from cineray.train.tasks import task_for

OnCheckpoint = Callable[[int, Mapping[str, float]], None]


def open_or_create(job: LearningJob, uri: str = "") -> tuple[RunFolder, LearningJob]:
    """The run, and the definite job that it is trained by. What shapes its batches must be what it was; the rest of the
    job may be another: more steps, other checkpoints."""
    job = resolved(job)
    if uri and is_run(uri):
        run = RunFolder.open(uri)
        run.check_same_plan(training_spec(job))
        check_same_budget(run, job)
        return run, recorded_beginning(run, job)
    job, uri = pinned_beginning(job), uri or new_run_uri(job.runs, job)
    run = RunFolder.create(job, training_spec(job), uri, **beginning_facts(job))
    take_over_end(run, job)
    return run, job


def attempt_run(
    job: LearningJob,
    run: RunFolder,
    batches: Batches,
    *,
    world: World,
    stop: StopRequest,
    sinks: Sequence[Sink] = (),
    on_checkpoint: OnCheckpoint | None = None,
) -> dict[str, Any]:
    """Train from the newest checkpoint on; returns what `cineray train` tells of the run (on rank 0; else less).

    Every process of the world calls it. Raises Interrupted, after a checkpoint, when the run was told to stop.
    """
    attempt = run.begin_attempt(world_size=world.size, job=_job_text(job, run)) if world.rank == 0 else None
    number = int(world.sum_(torch.tensor(attempt.number if attempt is not None else 0, device=world.device)))
    told = [*sinks, *open_sinks(job.tracking, run, job.model_dump(mode="json"))] if attempt is not None else []
    recorder = RunRecorder(
        run,
        job.limits,
        attempt=attempt,
        attempt_number=number,
        device=world.device,
        precision=job.precision,
        rank=world.rank,
        world_size=world.size,
        sinks=told,
    )
    latents = RunLatents(job, world.device)
    with belonging(run=run.run_id, attempt=number, rank=world.rank), closed_after(recorder):
        told_too: dict[str, Any] = {"stop": stop, "on_checkpoint": on_checkpoint, "latents": latents}
        result = _learned(
            job, run, latents.batches(batches), world=world, attempt=attempt, recorder=recorder, **told_too
        )
        _raise_if_stopped(run, result)
    summary = {"run": run.uri, **recorder.summary, "metrics": result.metrics}
    if latents.encoder is not None and world.rank == 0:
        rows = last_of_each_step(read_all_rows(run.folder("ledger")))
        summary["latents"] = latents.told(rows, run.spec().open().plan, world=world.size)
    return summary


def _learned(
    job: LearningJob,
    run: RunFolder,
    batches: Batches,
    *,
    world: World,
    attempt: Attempt | None,
    recorder: RunRecorder,
    stop: StopRequest,
    on_checkpoint: OnCheckpoint | None,
    latents: RunLatents,
) -> TrainResult:
    def note(event: str, **facts: Any) -> None:
        if attempt is not None:
            attempt.note(event, **facts)

    task = task_for(job, run, world, encoder=latents.encoder)
    learner = make_learner(job, task, world, compiled_folder=run.folder("compile-cache"))
    note("built", activation_memory=learner.activation_memory, device=str(world.device))
    _note_attention(learner.model, note)
    # The job of this attempt: all but the plan may differ from the one that the run began with.
    facts = {"attempt": attempt.number, "job": _job_text(job, run)} if attempt is not None else {}
    told: dict[str, Any] = {"facts": facts, "note": note, "begins_with": first_checkpoint(job)}
    told["may_save"] = attempt.check_newest if attempt is not None else None
    ending = _ending(job, run, world, attempt)
    keeper = Checkpoints(run, job.checkpoint, asynchronous=job.checkpoint.asynchronous, **told)
    with closing(keeper):
        return Loop(
            job,
            task,
            learner,
            batches,
            world=world,
            keeper=keeper,
            recorder=recorder,
            stop=stop,
            on_checkpoint=on_checkpoint,
            on_restored=lambda step, seconds: note("restored", step=step, seconds=seconds),
            ending=ending,
        ).run()


def _ending(job: LearningJob, run: RunFolder, world: World, attempt: Attempt | None) -> Ending:
    """As the run's folder has it: the first process looks, and writes down what is fixed on the way."""
    planned = None if attempt is None or job.budget.seconds is None else read_planned(run)
    steps = torch.tensor(0 if planned is None else planned.steps, device=world.device)

    def keep(planned: Planned) -> None:
        if attempt is not None:
            keep_planned(run, planned)
            attempt.note("planned", **asdict(planned))

    return Ending(job, steps=int(world.sum_(steps)), keep=keep)


def _job_text(job: LearningJob, run: RunFolder) -> str:
    """As it can be started again: with the run's very versions."""
    spec = run.spec()
    return job_to_yaml(job.model_copy(update={"recipe": spec.recipe, "seed": spec.seed}), JOB_KINDS)


def _note_attention(model: nn.Module, note: Callable[..., None]) -> None:
    """Which kernel attention runs in is known once it has run: a back end that was asked for may not be there."""
    net = next((part for part in model.modules() if isinstance(part, VideoModel)), None)
    if net is None:
        return

    def ran(*_: Any) -> None:
        hook.remove()
        note("attention", kernel=net.attention)

    hook = net.register_forward_hook(ran)


def _raise_if_stopped(run: RunFolder, result: TrainResult) -> None:
    """A run that was told to stop is not done, and the shell must see that."""
    if result.stopped:
        raise Interrupted(
            f"stopped by {result.stopped} after step {result.next_step - 1}; the checkpoint of step {result.next_step} "
            f"is saved. To go on: cineray train {run.uri}"
        )
