"""The loop: one step after another, the same for one process, many on CPUs, many on GPUs, and under Ray Train.

    a share of the batch -> micro-batches on the device -> gradients, summed over all -> the weights move -> a row

It begins at the step that the newest checkpoint names and asks for the batches from there. What one process knows and
all must agree on (a signal, a clock) travels with the sum of the losses, so all stop, save, judge and end at the same
step. Figures are read one step late on a GPU: it has its next step before anybody asks about the last one.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from cineray.errors import FeedOrderError
from cineray.feed.limit import SubstitutionLimit
from cineray.records import Batch
from cineray.train.clips_digest import clips_digest, clips_halves
from cineray.train.config import LearningJob
from cineray.train.ending import Ending
from cineray.train.inputs import Inputs, micro_batches
from cineray.train.learner import Learner
from cineray.train.parallel import World
from cineray.train.step import computing, learn
from cineray.train.stop import StopRequest
from cineray.train.task import TrainTask
from cineray.train.transfer import Arrived, Reading, arriving

Batches = Callable[[range], Iterator[Batch]]
"""This process's share of the batches of some steps, in order."""


class Saved(Protocol):
    """A checkpoint that there is."""

    @property
    def step(self) -> int:
        """How many steps were done: the next one to do."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """What was saved with it; `training_seconds` among them."""


class Keeper(Protocol):
    """Where checkpoints go and come from; `checkpoint.Checkpoints` is one."""

    def latest(self) -> Any:
        """The newest whole one, a `Saved`; None without one."""

    def load(self, state: dict[str, Any], info: Any) -> None:
        """Read it into a state."""

    def save(
        self, state: Mapping[str, Any], step: int, metrics: Mapping[str, float] | None = None, *, blocking: bool = False
    ) -> float:
        """Save a state; returns the seconds that it held up."""

    def poll(self) -> None:
        """Raise what the last save has to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """What is known of a step once its sums are read: over all processes."""

    step: int
    loss: float
    grad_norm: float
    lr: float
    epoch: int
    clips: int
    frames: int
    tokens: int
    forward_flops: int
    padding_fraction: float
    substituted: int
    frames_decoded: int
    losses: tuple[float, ...]
    """Of this process's clips, in the order of their slots."""
    clips_digest: str = ""
    """Names the step's clips (`clips_digest.py`)."""
    longest_wait_s: float = 0.0
    """Of all processes, how long the one waited for data that waited longest: all others waited for that one."""
    longest_wait_rank: int = 0


class Recorder(Protocol):
    """Who writes down what happens."""

    def phase(self, name: str) -> AbstractContextManager[object]:
        """`data_wait`, `compute`, `checkpoint`, `validation`: what the seconds inside are spent on."""

    def add(self, name: str, seconds: float) -> None:
        """Seconds that were measured elsewhere: `host_to_device`, on a stream of its own."""

    def waiting(self) -> float:
        """Seconds that this process's step waited for data; on a GPU those of the step before, the last known."""

    def goes_on_from(self, training_seconds: float) -> None:
        """The steps before this attempt took so many."""

    def training_seconds(self) -> float:
        """Of all steps of the run that were told: without checkpoints and validations."""

    def stepped(self, facts: StepFacts, batch: Batch) -> None:
        """A step is done, and its figures are read. May raise to end the run (a loss that is no number)."""

    def validated(self, step: int, metrics: Mapping[str, float]) -> None:
        """The weights after `step` steps were judged."""


class NoRecord:
    """Nobody."""

    def phase(self, name: str) -> AbstractContextManager[object]:  # noqa: ARG002
        """Not measured."""
        return nullcontext()

    def add(self, name: str, seconds: float) -> None:
        """Forgotten."""

    def waiting(self) -> float:
        """Not measured."""
        return 0.0

    def goes_on_from(self, training_seconds: float) -> None:
        """Forgotten."""

    def training_seconds(self) -> float:
        """Not measured."""
        return 0.0

    def stepped(self, facts: StepFacts, batch: Batch) -> None:
        """Forgotten."""

    def validated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Forgotten."""


@dataclass(slots=True)
class TrainResult:
    """How a run, or this attempt at it, ended."""

    first_step: int
    """Where it began."""
    next_step: int
    """How many steps of the run are done."""
    loss: float = math.nan
    """Of the last step."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last validation."""
    judged_step: int = -1
    """How many steps were done then."""
    stopped: str = ""
    """Why it ended early: the name of a signal, or what somebody wished; empty when all steps are done."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A step whose figures are still on their way from the device."""

    batch: Batch
    lr: float
    reading: Reading
    """The gradient's norm, the losses of this process's clips, then the sums over all processes."""


class Loop:
    """The steps of one attempt, in one process."""

    def __init__(
        self,
        job: LearningJob,
        task: TrainTask,
        learner: Learner,
        batches: Batches,
        *,
        world: World,
        keeper: Keeper | None = None,
        recorder: Recorder | None = None,
        stop: StopRequest | None = None,
        on_checkpoint: Callable[[int, Mapping[str, float]], None] | None = None,
        on_restored: Callable[[int, float], None] | None = None,
        ending: Ending | None = None,
    ) -> None:
        """`on_checkpoint(step, metrics)` is called on every process, once a checkpoint is on its way;
        `on_restored(step, seconds)` when one was taken over."""
        self.job, self.task, self.learner, self.world = job, task, learner, world
        self._batches, self._keeper = batches, keeper
        self._on_checkpoint, self._on_restored = on_checkpoint, on_restored
        self._recorder = recorder if recorder is not None else NoRecord()
        self._stop = stop if stop is not None else StopRequest()
        self._ending = ending if ending is not None else Ending(job)
        self._limit = SubstitutionLimit(job.recipe.max_substituted_fraction)
        self._pending: deque[_Pending] = deque()
        self._lag = 1 if world.device.type == "cuda" else 0
        self._saved_at = time.monotonic()
        self._stop_agreed = self._save_agreed = False
        self._seconds = self._judged_seconds = 0.0
        """Training seconds by the first process's clock, as all know them, a step or two late; when it was judged."""

    def run(self) -> TrainResult:
        """From the newest checkpoint to the last step, or to where it is told to stop."""
        start = self._resume()
        result = TrainResult(first_step=start, next_step=start)
        taken = arriving(self._batches(range(start, self._ending.steps)), self._cut, self.world.device)
        with closing(taken):
            while result.next_step < self._ending.steps and not self._stop_agreed:
                with self._recorder.phase("data_wait"):
                    arrived = _next(taken, result.next_step)
                self._recorder.add("host_to_device", arrived.copy_seconds())
                if arrived.batch.step == 0:
                    self.task.begin(self.learner.model, arrived.batch, self.world)
                self._step(arrived)
                self._read(result, keep=self._lag)
                result.next_step = arrived.batch.step + 1
                self._after(result)
        self._finish(result)
        return result

    # ---- one step ----------------------------------------------------------------------------------------------------

    def _cut(self, batch: Batch) -> list[Inputs]:
        largest = self.world.largest_share(batch.global_size)
        return micro_batches(self.task.inputs(batch), largest_share=largest, micro_batch=self.job.micro_batch)

    def _step(self, arrived: Arrived) -> None:
        batch = arrived.batch
        with self._recorder.phase("compute"):
            stepped = learn(self.learner, self.task, arrived.parts, step=batch.step, global_size=batch.global_size)
            sums = self.world.sum_(self._sums(batch, stepped.losses_B))
            own = torch.cat([stepped.grad_norm.reshape(1), stepped.losses_B]).to(sums)
            self._pending.append(_Pending(batch, stepped.lr, Reading(torch.cat([own, sums]))))

    def _sums(self, batch: Batch, losses_B: Tensor) -> Tensor:
        """What is added up over the processes; wishes too, so that all hear of them at the same step."""
        wishes = [float(bool(self._stop.reason)), float(self._stop.take_checkpoint_wish() or self._save_is_due())]
        clock = self._recorder.training_seconds() if self.world.rank == 0 else 0.0
        counted = [float(len(batch.substitutions)), float(batch.frames_decoded), float(batch.frame_is_real_BT.sum())]
        waits = [0.0] * self.world.size
        waits[self.world.rank] = self._recorder.waiting()
        known = torch.tensor(
            [*wishes, clock, *counted, _shown_fraction(batch) * len(batch.specs), *clips_halves(batch), *waits],
            dtype=torch.float64,
        )
        return torch.cat([losses_B.sum(dtype=torch.float64)[None], known.to(self.world.device, non_blocking=True)])

    def _save_is_due(self) -> bool:
        """By the first process's clock: clocks differ."""
        every = self.job.checkpoint.every_seconds
        return self.world.rank == 0 and every is not None and time.monotonic() - self._saved_at >= every

    def _read(self, result: TrainResult, *, keep: int) -> None:
        """Read the sums of all steps but the last `keep`."""
        while len(self._pending) > keep:
            step = self._pending.popleft()
            facts, stop, save, self._seconds = self._facts(step)
            result.loss = facts.loss
            self._stop_agreed |= stop
            self._save_agreed |= save
            self._recorder.stepped(facts, step.batch)
            # Of all processes together, so all of them stop at the same step.
            self._limit.count(facts.clips, step.batch.substitutions, replaced=facts.substituted)

    def _facts(self, done: _Pending) -> tuple[StepFacts, bool, bool, float]:
        """Of the step; whether to stop and to save; and the first process's training seconds when it was done."""
        batch, size = done.batch, done.batch.global_size
        grad_norm, *rest = done.reading.numbers()
        losses, sums = rest[: len(batch.specs)], rest[len(batch.specs) :]
        loss, stop, save, clock, substituted, decoded, real_frames, shown, *clips = sums[: -self.world.size]
        waits = sums[-self.world.size :]
        frames, height, width = batch.frames_BTHWC.shape[1:4]
        facts = StepFacts(
            step=batch.step,
            loss=loss / size,
            grad_norm=grad_norm,
            lr=done.lr,
            epoch=batch.specs[0].epoch,
            clips=size,
            frames=int(real_frames),
            tokens=size * self.task.tokens((frames, height, width)),
            forward_flops=size * self.task.forward_flops(self.learner.model, (frames, height, width)),
            padding_fraction=1 - shown / size,
            substituted=int(substituted),
            frames_decoded=int(decoded),
            losses=tuple(losses),
            clips_digest=clips_digest(clips),
            longest_wait_s=max(waits),
            longest_wait_rank=waits.index(max(waits)),
        )
        return facts, stop > 0, save > 0, clock

    # ---- between steps -----------------------------------------------------------------------------------------------

    def _after(self, result: TrainResult) -> None:
        """What is due after so many steps. The last step's is done by `_finish`."""
        done, rule = result.next_step, self.job.checkpoint
        if self._keeper is not None:
            self._keeper.poll()
        self._ending.look(done, self._seconds)
        self.learner.rated_steps = self._ending.rated_steps
        if done == self._ending.steps or self._stop_agreed:
            return
        every = rule.every_steps
        if self._judge_is_due(done):
            self._validate(result)
        ranked = bool(rule.keep_best) and result.judged_step == done and rule.best_metric in result.metrics
        if self._save_agreed or ranked or (every is not None and done % every == 0):
            self._save(result, blocking=not rule.asynchronous)

    def _finish(self, result: TrainResult) -> None:
        """The last steps' figures, the last judgement, the last checkpoint."""
        self._read(result, keep=0)
        if result.next_step == result.first_step:
            return
        if result.next_step < self._ending.steps:
            result.stopped = self._stop.reason or "another process was told to stop"
        elif self.job.validation.is_on:
            self._validate(result)
        self._save(result, blocking=True)

    def _judge_is_due(self, done: int) -> bool:
        """By steps, or because another multiple of `every_seconds` has passed."""
        rule = self.job.validation
        before, self._judged_seconds = self._judged_seconds, self._seconds
        if rule.every_seconds is not None and self._seconds // rule.every_seconds > before // rule.every_seconds:
            return True
        return rule.every_steps > 0 and done % rule.every_steps == 0

    def _validate(self, result: TrainResult) -> None:
        """Judge the average of the weights. Whoever is told of it knows the figures of all steps before."""
        self._read(result, keep=0)
        with self._recorder.phase("validation"):  # telling of it may take as long
            with self.learner.ema.in_place(), computing(self.learner), torch.no_grad():
                self.learner.model.eval()
                result.metrics = self.task.validate(self.learner.parallel, result.next_step)
                self.learner.model.train()
            result.judged_step = result.next_step
            self._recorder.validated(result.next_step, result.metrics)

    def _save(self, result: TrainResult, *, blocking: bool) -> None:
        """Only what is known to be sound is saved: the figures of all steps so far are read first."""
        self._read(result, keep=0)
        if self._keeper is None:
            return
        with self._recorder.phase("checkpoint"):
            judged = result.metrics if result.judged_step == result.next_step else {}
            metrics = {"loss": result.loss, "training_seconds": self._recorder.training_seconds(), **judged}
            self._keeper.save(self.learner.state(), result.next_step, metrics, blocking=blocking)
            if self.learner.code is not None:
                self.learner.code.keep()
            if self._on_checkpoint is not None:
                self._on_checkpoint(result.next_step, metrics)
        self._saved_at, self._save_agreed = time.monotonic(), False

    def _resume(self) -> int:
        """Take over the newest checkpoint; the step to begin with."""
        began = time.perf_counter()
        found = self._keeper.latest() if self._keeper is not None else None
        if found is None or self._keeper is None:
            return 0
        state = self.learner.state()
        self._keeper.load(state, found)
        self.learner.load(state)
        self.learner.rated_steps = self._ending.rated_steps
        self._seconds = self._judged_seconds = float(found.metrics.get("training_seconds", 0.0))
        self._recorder.goes_on_from(self._seconds)
        if self._on_restored is not None:
            self._on_restored(int(found.step), time.perf_counter() - began)
        return int(found.step)


def _next(taken: Iterator[Arrived], due: int) -> Arrived:
    arrived = next(taken, None)
    if arrived is None or arrived.batch.step != due:
        came = "no further one" if arrived is None else f"step {arrived.batch.step}"
        raise FeedOrderError(f"the batch of step {due} was due and the feed had {came}; nothing was trained on it")
    return arrived


def _shown_fraction(batch: Batch) -> float:
    """The share of the batch's pixels that show something: no padded frames, no borders."""
    shown = 0.0
    for spec in batch.specs:
        crop = spec.crop
        height = crop.out_height - crop.pad_top - crop.pad_bottom
        width = crop.out_width - crop.pad_left - crop.pad_right
        area = height * width / (crop.out_height * crop.out_width)
        shown += area * sum(spec.frame_is_real) / len(spec.frame_is_real)
    return shown / len(batch.specs)
