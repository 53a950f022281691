"""Samples beside a training: checkpoints as they are saved go in; clips of some of them come to lie in the run.

The training only says that a checkpoint is on its way. All the rest is in a process of its own (`side_child.py`), of
low priority, which reads the checkpoint like anybody else; so the training neither waits nor shares its memory. What
makes the clips is not known here: whoever starts a run hands over a function of a module, `MakeSamples`. That it fails
is an event of the run and a warning, never the end of the training.

    with side_path(job, run, make, stop) as side:
        attempt_run(..., on_checkpoint=side.saved)              at its end, the last samples are waited for

One at a time; while one is made, the newest checkpoint that is due waits, and an older one that waited is left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cineray.errors import CinerayError, UsageError
from cineray.train.checkpoint_manifest import steps_in
from cineray.train.config import LearningJob, TrainJob
from cineray.train.ending import planned_steps
from cineray.train.run_folder import RunFolder
from cineray.train.samples_config import SamplesConfig
from cineray.train.stop import StopRequest

MakeSamples = Callable[[str, int, SamplesConfig], Mapping[str, Any]]
"""(the run's uri, the checkpoint's step, what the job says of samples) -> facts, plain values. A function of a module:
other processes find it by its name."""

_LOOK_SECONDS = 0.2
_LAST_WORDS_CHARACTERS = 1000


class SideTaskFailed(CinerayError):
    """Samples could not be made; the message says of which checkpoint, and why."""


def samples_of(job: LearningJob) -> SamplesConfig | None:
    """What a job says of samples; None where it wants none."""
    return job.samples if isinstance(job, TrainJob) and job.samples.every_steps else None


def check_maker(job: LearningJob, make: MakeSamples | None) -> None:
    """A job that wants samples needs somebody who makes them."""
    if samples_of(job) is not None and make is None:
        raise UsageError(
            "samples.every_steps is set, and nobody was named who makes samples; pass sample=make_samples of "
            "cineray.evaluate.side, start it with `cineray train`, or set samples.every_steps=0"
        )


class Due:
    """Which checkpoints get samples: the first at or after each multiple of `every_steps`, and the last of the run."""

    def __init__(self, every_steps: int, *, last_step: Callable[[], int], done: int) -> None:
        """`done`: the step that the run, or this start of it, begins with. `last_step` is asked each time: a run that
        ends by time fixes it on its way."""
        self._every, self._last, self._done = every_steps, last_step, done

    def __call__(self, step: int) -> bool:
        """Told of each checkpoint, in order."""
        before, self._done = self._done, max(step, self._done)
        return step > before and (step // self._every > before // self._every or step == self._last())


# ---- one task --------------------------------------------------------------------------------------------------------


def name_of(make: MakeSamples) -> str:
    """`module:function`, by which another process finds it."""
    module, name = make.__module__, make.__qualname__
    if "<" in name or "." in name or module == "__main__":
        raise UsageError(f"samples are made in another process, which cannot find {module}:{name}; move it to a module")
    return f"{module}:{name}"


class SideTask:
    """Samples of one checkpoint, in a child process. `kill` may be called from any thread."""

    def __init__(self, run: RunFolder, step: int, config: SamplesConfig, maker: str) -> None:
        self.run, self.step, self._config = run, step, config
        self._command = [sys.executable, "-m", "cineray.train.side_child", maker, run.uri, str(step)]
        self._child: subprocess.Popen[str] | None = None
        self.killed = False

    def kill(self) -> None:
        """End it, whatever it does."""
        self.killed = True
        if self._child is not None:
            self._child.kill()

    def facts(self) -> dict[str, Any]:
        """Start it, wait for it, and take its answer; raises SideTaskFailed."""
        reading, alive = os.pipe()  # the child ends when its end of this closes, and it closes whenever we end
        try:
            self._child = subprocess.Popen(
                [*self._command, self._config.model_dump_json()],
                stdin=reading,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | self._environment(),
                start_new_session=True,
            )
            if self.killed:
                self._child.kill()
            return self._answer(self._child)
        finally:
            os.close(reading)
            os.close(alive)

    def _environment(self) -> dict[str, str]:
        told = {"OMP_NUM_THREADS": str(self._config.threads)}
        return told if self._config.gpus else told | {"CUDA_VISIBLE_DEVICES": ""}

    def _answer(self, child: subprocess.Popen[str]) -> dict[str, Any]:
        try:
            out, words = child.communicate(timeout=self._config.limit_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise self._failed(f"they took longer than samples.limit_seconds={self._config.limit_seconds:g}") from None
        if child.returncode != 0:
            told = words.strip()[-_LAST_WORDS_CHARACTERS:] or "no words"
            raise self._failed(f"the process ended with code {child.returncode}: {told}")
        facts: dict[str, Any] = json.loads(out)
        if "error" in facts:
            raise self._failed(str(facts["error"]))
        return facts

    def _failed(self, why: str) -> SideTaskFailed:
        return SideTaskFailed(f"no samples of the checkpoint of step {self.step}: {why}")


def made_aside(task: SideTask) -> dict[str, Any]:
    """Its facts, noted in the run; {} where it failed, which is noted and told as a warning."""
    began = time.perf_counter()
    try:
        facts = task.facts()
        told = {name: facts[name] for name in ("folder", "clips") if name in facts}
        task.run.note_beside("sampled", name=f"samples-{task.step:08d}", step=task.step, **told, seconds=_since(began))
    except CinerayError as error:
        if task.killed:
            return {}  # the training has ended it, and says why itself
        task.run.note_beside("samples_failed", name=f"samples-{task.step:08d}", step=task.step, sentence=str(error))
        warnings.warn(f"{error}; the training goes on", stacklevel=2)
        return {}
    return facts


def samples_told(run: RunFolder, job: LearningJob) -> dict[str, Any]:
    """What became of a finished run's samples: the steps that have some, and what failed; nothing for a job that wants
    none."""
    if samples_of(job) is None:
        return {}
    events = run.events()
    made = sorted({int(event["step"]) for event in events if event["event"] == "sampled"})
    failed = {int(event["step"]): event["sentence"] for event in events if event["event"] == "samples_failed"}
    last = planned_steps(run, job)
    if last not in (*made, *failed):
        failed[last] = "the run was stopped first, or nobody had room for them (samples.cpus, samples.gpus)"
    return {"samples": {"steps": made, "failed": {step: why for step, why in failed.items() if step not in made}}}


def _since(began: float) -> float:
    return time.perf_counter() - began


# ---- beside a training in this process -------------------------------------------------------------------------------


class SidePath:
    """Hears of checkpoints, and has one task at work."""

    def __init__(self, run: RunFolder, config: SamplesConfig, maker: str, *, last_step: Callable[[], int]) -> None:
        begins = max(steps_in(run.folder("checkpoints")), default=0)
        self._run, self._config, self._maker = run, config, maker
        self._due = Due(config.every_steps, last_step=last_step, done=begins)
        self._changed = threading.Condition()
        self._next: int | None = None
        self._ends = False
        self._task: SideTask | None = None
        self._thread = threading.Thread(target=self._work, name="samples", daemon=True)
        self._thread.start()

    def saved(self, step: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002 - as the loop tells it
        """A checkpoint is on its way."""
        if self._due(step):
            with self._changed:
                self._next = step
                self._changed.notify()

    def finish(self, stop: StopRequest) -> None:
        """Until what is under way and what waits is made, or a stop is wished."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        while self._thread.is_alive() and not stop.reason:
            self._thread.join(_LOOK_SECONDS)
        self.abort()

    def abort(self) -> None:
        """Nothing more is made, and nothing is left running."""
        with self._changed:
            self._ends, self._next = True, None
            if self._task is not None:
                self._task.kill()
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._ends)
                if self._next is None:
                    return
                self._task, self._next = SideTask(self._run, self._next, self._config, self._maker), None
            made_aside(self._task)
            with self._changed:
                self._task = None


@contextmanager
def side_path(
    job: LearningJob, run: RunFolder, make: MakeSamples | None, stop: StopRequest
) -> Iterator[SidePath | None]:
    """While inside, a training; None for a job without samples. An error in there ends the samples too."""
    config = samples_of(job)
    if config is None or make is None:
        yield None
        return
    side = SidePath(run, config, name_of(make), last_step=lambda: planned_steps(run, job))
    try:
        yield side
    except BaseException:
        side.abort()
        raise
    side.finish(stop)
