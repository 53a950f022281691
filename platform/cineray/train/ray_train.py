"""A run under Ray Train: a job and a run go in; workers start, fail, shrink and grow, and a summary comes out.

    driver      `run_on_ray`: starts Ray Train, listens to Ctrl-C, shows how it goes
    controller  Ray's: starts the workers again from the newest checkpoint whenever one is lost (`ray_control.py`)
    workers     `_work`: the loop of `loop.py`, fed by Ray Data with this rank's share of the plan
    link        what they tell each other (`ray_link.py`)

Nothing that shapes a batch knows of workers, so whatever Ray does to them, step N sees the batch of step N. The run's
folder is the only memory: whoever starts, driver or worker, goes on from the newest whole checkpoint that lies there.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.data
import ray.train
import torch

from cineray.errors import CinerayError, Interrupted, UsageError
from cineray.feed.ray_feed import DATASET, RayOptions, data_config, ray_options, train_shard
from cineray.records import Batch
from cineray.storage import filesystem, is_remote, join_uri
from cineray.telemetry.log_lines import log_lines
from cineray.telemetry.ray_session import connected
from cineray.train.attempt import attempt_run, open_or_create
from cineray.train.checkpoint_manifest import steps_in
from cineray.train.config import LearningJob
from cineray.train.ending import planned_steps
from cineray.train.latents_run import feed_of
from cineray.train.parallel import World
from cineray.train.ray_control import FreshView, Losses, StopsWaiting, Trainer
from cineray.train.ray_link import Link
from cineray.train.ray_room import (
    PATIENT_SECONDS,
    check_room,
    cpus_here,
    gpus_on_ray,
    of_worker,
    tell_of_cores,
    waiting_for,
)
from cineray.train.ray_samples import POINTER, samples_task, told_of_samples
from cineray.train.recorder import summary_of
from cineray.train.run_folder import RunFolder
from cineray.train.side_path import Due, MakeSamples, check_maker, samples_of
from cineray.train.sinks import Sink
from cineray.train.stop import StopRequest, stopping_by_signals

_LOOK_SECONDS = 0.5
_TELL_SECONDS = 0.2
_START_SECONDS = 15
"""An elastic run waits so long for workers that a lost machine was to give, before it starts with fewer."""
_NOBODY_SECONDS = 20.0
"""Workers show that they are there twice a second: when none has for so long, none is. Ray's controller, which looks up
every `_START_SECONDS` while it waits for room, then had the time to hear of a stop as well."""
_SHORT_NOTICE_SECONDS = 4.0

_log = logging.getLogger("cineray.train")


# ---- the driver ------------------------------------------------------------------------------------------------------


def run_on_ray(
    job: LearningJob,
    *,
    uri: str = "",
    address: str = "",
    sinks: Sequence[Sink] = (),
    sample: MakeSamples | None = None,
    stop: StopRequest | None = None,
) -> dict[str, Any]:
    """Train on the Ray at `address`, or on an embedded one; returns what `cineray train` tells of it.

    `uri`: where the run is or will be; on several machines it must be a place that all of them see. `sample`: who makes
    samples beside it, if the job wants some. `stop`: how others wish it to stop, as Ctrl-C does; then any thread may
    call this, of an actor too.
    """
    _patience()
    check_maker(job, sample)
    run, job = open_or_create(job, uri)
    if _newest_step(run) >= planned_steps(run, job):
        return {"run": run.uri, **summary_of(run), "metrics": {}}
    with connected(address, num_cpus=cpus_here(job)), stopping_by_signals(stop or StopRequest()) as request:
        gpus = gpus_on_ray(job.parallel)  # once: nodes come and go
        check_room(job, gpus)
        tell_of_cores(job, gpus, is_cluster=bool(address or os.environ.get("RAY_ADDRESS")))
        link = Link.open(job.limits.failures_without_progress)
        trainer = _trainer(job, run, link, sample, gpus)
        told = _Driver(job, run, link, request, sinks=sinks, gpus=gpus).until_it_ends(trainer)
    if "interrupted" in told:
        raise Interrupted(told["interrupted"])
    return told | told_of_samples(job, run)


def _trainer(job: LearningJob, run: RunFolder, link: Link, sample: MakeSamples | None, gpus: int) -> Trainer:
    elastic, options = isinstance(job.parallel.workers, tuple), _options(job, run, gpus)
    return Trainer(
        _work,
        train_loop_config={"run": run.uri, "job": job, "options": options, "link": link},
        scaling_config=ray.train.ScalingConfig(
            num_workers=job.parallel.workers,
            use_gpu=gpus > 0,
            resources_per_worker=of_worker(job, gpus),
            label_selector=job.trainer_labels or None,
            **({"elastic_resize_monitor_interval_s": job.parallel.resize_seconds} if elastic else {}),
        ),
        run_config=ray.train.RunConfig(
            **_storage(run),
            # The link decides when it is enough: a run on machines that come and go may fail often and still get on.
            failure_config=ray.train.FailureConfig(max_failures=-1),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            callbacks=[Losses(link), StopsWaiting(link), *([FreshView()] if elastic else [])],
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
        datasets={DATASET: lambda: ray.data.range(1)},  # Ray Train asks for some; the plan is behind `data_config`
        dataset_config=data_config(options, link.steps),
        **samples_task(job, run, sample),
    )


def _storage(run: RunFolder) -> dict[str, Any]:
    """Where Ray Train's own few files go: into the run, and never where an earlier driver's lie. It would read those
    first, and a driver that was killed may have left half of one."""
    folder = join_uri(run.uri, "ray")
    told = {"name": f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"}
    if not is_remote(folder):
        return told | {"storage_path": folder}
    return told | {"storage_path": folder.partition("://")[2], "storage_filesystem": _arrow_filesystem(folder)}


class _Driver:
    """Waits for Ray Train in the main thread, which hears signals and shows figures; `fit` has a thread of its own."""

    def __init__(
        self, job: LearningJob, run: RunFolder, link: Link, request: StopRequest, *, sinks: Sequence[Sink], gpus: int
    ) -> None:
        self._job, self._run, self._link, self._request, self._sinks = job, run, link, request, sinks
        self._gpus = gpus
        self._shown: Any = None
        self._judged = 0
        self._has_told = False
        self._wished_at = math.inf

    def until_it_ends(self, trainer: Trainer) -> dict[str, Any]:
        """What rank 0 returned; raises what ended the run."""
        ended: list[Any] = []

        def fit() -> None:
            try:
                ended.append(trainer.fit())
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=fit, name="ray-train", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_LOOK_SECONDS)
            self._look()
        self._show()  # what was told between the last look and the end
        for sink in self._sinks:
            sink.close({})
        final = self._link.final()
        if final is not None:
            raise final
        if isinstance(ended[0], BaseException) and self._request.reason:
            raise self._stopped_without_workers() from ended[0]
        if isinstance(ended[0], BaseException):
            raise CinerayError(f"Ray Train gave up: {ended[0]}") from ended[0]
        told: dict[str, Any] = ended[0].return_value
        return told

    def _look(self) -> None:
        self._show()
        silent = self._link.silent_seconds()
        if self._request.reason:
            self._wished_at = min(self._wished_at, time.monotonic())
            self._link.wish(self._request.reason)
            if min(silent, time.monotonic() - self._wished_at) > _NOBODY_SECONDS:
                raise self._stopped_without_workers()
        if silent > PATIENT_SECONDS and not self._has_told and not self._is_done():
            _log.warning("%s", waiting_for(self._job, self._gpus))  # else the last samples are being made
        self._has_told = silent > PATIENT_SECONDS

    def _stopped_without_workers(self) -> Interrupted:
        return Interrupted(
            f"stopped by {self._request.reason} while no worker was at work; what is saved is saved. "
            "To go on, start the same run again"
        )

    def _is_done(self) -> bool:
        return _newest_step(self._run) >= planned_steps(self._run, self._job)

    def _show(self) -> None:
        """Tell the sinks the newest row, and every judgement that they have not heard of."""
        row, judgements = self._link.news(self._judged)
        # After a restart steps come again, and are told again.
        newest = row.get("attempt"), row.get("step")
        for sink in self._sinks:
            if row and newest != self._shown:
                sink.row(row)
            for judged in judgements:
                sink.judged(judged["step"], judged["metrics"])
        self._shown, self._judged = newest, self._judged + len(judgements)


def _patience() -> None:
    """How long Ray Train waits; it reads these when it starts."""
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(_START_SECONDS))


def _options(job: LearningJob, run: RunFolder, gpus: int) -> RayOptions:
    return ray_options(feed_of(job, run, on_gpu=gpus > 0), job.feed)


def _newest_step(run: RunFolder) -> int:
    """Of the newest checkpoint, by its name alone; the loop reads it and may find that it is damaged."""
    return max(steps_in(run.folder("checkpoints")), default=0)


def _arrow_filesystem(uri: str) -> Any:
    """Ray Train's own small files go where the run is, by the same credentials."""
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(filesystem(uri)))


# ---- a worker --------------------------------------------------------------------------------------------------------


def _work(told: dict[str, Any]) -> dict[str, Any]:
    """One rank of one start of the workers."""
    log_lines()
    job, link, world = told["job"], told["link"], World.here(gpus=min(1, len(ray.get_gpu_ids())))
    try:
        run = _opened(told["run"], world)
        if _not_again(run, link, world):
            return {}  # the driver knows why
        stop = _Stop()
        with link.listening(stop.wish) if world.rank == 0 else nullcontext():
            return attempt_run(
                job,
                run,
                lambda steps: _fed(told["options"], steps, link, world),
                world=world,
                stop=stop,
                sinks=[_Teller(link)],
                on_checkpoint=_Reporter(job, run),
            )
    except Interrupted as told_to:
        return {"interrupted": str(told_to)}
    except Exception as error:
        link.failed(world.rank, error)
        raise


def _opened(uri: str, world: World) -> RunFolder:
    try:
        return RunFolder.open(uri)
    except UsageError as error:
        raise UsageError(
            f"{error}. The driver has it, and rank {world.rank} on {socket.gethostname()} has not: a run on several "
            "machines must lie where all of them see it, on a shared disk or in an object store; set runs, or --run"
        ) from None


def _not_again(run: RunFolder, link: Link, world: World) -> bool:
    """Whether all ranks should leave at once: starting again would only fail again."""
    final = world.rank == 0 and link.begin(_newest_step(run)) is not None
    return bool(world.sum_(torch.tensor(int(final), device=world.device)))


def _fed(options: RayOptions, steps: range, link: Link, world: World) -> Iterator[Batch]:
    """This rank's batches. Ray makes the dataset when rank 0 asks for its shard, and must know by then from where."""
    if world.rank == 0:
        link.plan(steps)
    return train_shard(options, steps, counts_substitutes=False).batches()  # the loop adds them up over the ranks


class _Stop(StopRequest):
    """Wishes of the driver; and checkpoints, just in time, when Ray says that a machine of the run is taken away."""

    def __init__(self) -> None:
        super().__init__()
        self._notice: Any = None
        self._save_at = 0.0

    def take_checkpoint_wish(self) -> bool:
        """Asked at each step. What one rank knows the loop tells all, so that all of them save the same step."""
        notice = _preemption_notice()
        if notice is not None and (notice != self._notice or time.time() >= self._save_at):
            self._notice = notice
            self._save_at = next_save(time.time(), (notice.deadline_ms or 0) / 1000)
            self.wish_checkpoint()
        return super().take_checkpoint_wish()


def next_save(now: float, deadline: float) -> float:
    """When to save again before a machine goes: once half of the time left has passed, again and again, so that what
    is done in vain is short. `deadline`: 0 where it is not known."""
    left = deadline - now
    return now + left / 2 if left > _SHORT_NOTICE_SECONDS else math.inf


def _preemption_notice() -> Any:
    """What Ray's watcher has told this worker. The public `get_preemption_info` asks all ranks and makes them wait."""
    from ray.train.v2._internal.execution.context import get_train_context

    return get_train_context().preemption_context.preemption_info


class _Teller:
    """A sink on rank 0 that tells the driver how it goes; what is judged and summed up lies in the run."""

    def __init__(self, link: Link) -> None:
        self._link, self._told = link, 0.0

    def row(self, row: Mapping[str, Any]) -> None:
        """Not each: the driver shows a few per second."""
        if time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            self._link.tell(row)

    def judged(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shown like a row."""
        self._link.tell_judged(step, metrics)

    def close(self, summary: Mapping[str, Any]) -> None:
        """The driver gets it as the result."""


class _Reporter:
    """Tells Ray Train of checkpoints, on all ranks: it keeps a pointer, for its own views and for sweeps, and has
    samples made of those that are due."""

    def __init__(self, job: LearningJob, run: RunFolder) -> None:
        samples = samples_of(job)
        self._due = None
        if samples is not None:
            last = partial(planned_steps, run, job)
            self._due = Due(samples.every_steps, last_step=last, done=_newest_step(run))

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """A checkpoint is on its way."""
        told = {"step": step, **metrics}
        due = self._due is not None and self._due(step)
        if ray.train.get_context().get_world_rank() != 0:
            ray.train.report(told)
            return
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / POINTER).write_text(json.dumps({"step": step}))
            ray.train.report(told, checkpoint=ray.train.Checkpoint.from_directory(folder), validation=due)
