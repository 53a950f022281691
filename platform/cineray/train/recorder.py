"""Who writes down what happens in a training: the loop tells its phases and steps; the ledger, the sinks, the live line
and the watchdog hear of them. One per process; only rank 0's writes the ledger and tells the sinks.

    recorder = RunRecorder(run, job.limits, attempt=run.begin_attempt(), device=world.device)
    with closed_after(recorder):
        Loop(..., recorder=recorder).run()
    print(recorder.summary["verdict"])

A loss that is no number ends the run here, with the clips that caused it. After the loop the run's goodput and its
verdict are made, from all its attempts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from cineray.errors import Interrupted
from cineray.records import Batch
from cineray.telemetry.log_lines import belongs
from cineray.train.device_clock import StepClock
from cineray.train.device_peak import peak_flops
from cineray.train.goodput import goodput_of, set_aside
from cineray.train.ledger import Ledger, last_of_each_step, read_all_rows, training_seconds
from cineray.train.ledger_row import row_of
from cineray.train.loop import StepFacts
from cineray.train.nan_stop import check_finite
from cineray.train.run_folder import Attempt, RunFolder
from cineray.train.sinks import Guarded, Sink
from cineray.train.verdict import judge
from cineray.train.watchdog import Watchdog


class Limits(Protocol):
    """What a job's `LimitsConfig` says."""

    @property
    def no_step_seconds(self) -> float:
        """The watchdog's patience."""

    @property
    def stop_on_nan(self) -> bool:
        """Does a loss that is no number end the run?"""


class RunRecorder:
    """The loop's `Recorder`."""

    def __init__(
        self,
        run: RunFolder,
        limits: Limits,
        *,
        attempt: Attempt | None,
        device: torch.device,
        precision: Any = "fp32",
        rank: int = 0,
        world_size: int = 1,
        sinks: Sequence[Sink] = (),
        attempt_number: int = 0,
    ) -> None:
        """`attempt`: on the process that writes; the others have None, and may be told its number."""
        self.run, self._limits, self._attempt = run, limits, attempt
        self._device, self._rank, self._world_size = device, rank, world_size
        self._clock = StepClock(device)
        self._sinks = Guarded(list(sinks))
        self._ledger = None if attempt is None else Ledger(run.folder("ledger"), attempt.number)
        self._training_s = 0.0
        self._peak = math.nan
        if device.type == "cuda":
            self._peak = peak_flops(torch.cuda.get_device_name(device), precision)
        number = attempt_number if attempt is None else attempt.number
        self._watchdog = Watchdog(
            limits.no_step_seconds,
            run.folder(f"stacks/attempt-{number:05d}-rank-{rank}.txt"),
            who=f" on rank {rank} of {world_size}",
            before_exit=lambda sentence: self._note("hung", sentence=sentence),
        ).start()
        self.summary: dict[str, Any] = {}
        """After `close`, on the process that writes: goodput, verdict and their figures."""

    # ---- what the loop tells -----------------------------------------------------------------------------------------

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What the seconds inside are spent on; its begin and its end are signs of life."""
        self._watchdog.alive(name)
        with self._clock.phase(name):
            yield
        self._watchdog.alive(f"after {name}")

    def add(self, name: str, seconds: float) -> None:
        """Seconds of the step under way that were spent beside its phases: `host_to_device`."""
        self._clock.add(name, seconds)

    def waiting(self) -> float:
        """How long data was waited for."""
        return self._clock.waiting()

    def goes_on_from(self, training_seconds: float) -> None:
        """The steps before this attempt took so many."""
        self._training_s = training_seconds

    def training_seconds(self) -> float:
        """Of all steps of the run that were told."""
        return self._training_s

    def stepped(self, facts: StepFacts, batch: Batch) -> None:
        """A step is done."""
        belongs(step=facts.step)
        times = self._clock.take()
        self._training_s += times.training_s
        if self._ledger is not None and self._attempt is not None:
            row = row_of(
                facts,
                times,
                attempt=self._attempt.number,
                bucket="x".join(map(str, batch.frames_BTHWC.shape[1:4])),
                world_size=self._world_size,
                peak_flops=self._peak,
                gpu_memory_bytes=self._memory_bytes(),
                training_seconds=self._training_s,
            )
            self._ledger.add(row)
            self._sinks.row(row)
        if self._limits.stop_on_nan:
            check_finite(self.run, facts, batch, rank=self._rank)

    def validated(self, step: int, metrics: Mapping[str, float]) -> None:
        """The run was judged. Sinks that read the run's record now find all steps that led to it."""
        if self._ledger is not None:
            self._ledger.flush()
        self._note("validated", step=step, metrics=dict(metrics), training_seconds=self._training_s)
        self._sinks.judged(step, {**metrics, "training_seconds": self._training_s})

    # ---- the end -----------------------------------------------------------------------------------------------------

    def close(self, reason: str) -> None:
        """The attempt ends: `done`, or why. Nothing is watched any more, and everything is written."""
        self._watchdog.stop()
        if self._ledger is None or self._attempt is None:
            return
        self._ledger.close()
        self._note("rest", **self._clock.rest())
        self._attempt.end(reason)
        self.summary = summary_of(self.run)
        self._sinks.close(self.summary)

    def _note(self, event: str, **facts: Any) -> None:
        if self._attempt is not None:
            self._attempt.note(event, **facts)

    def _memory_bytes(self) -> int:
        """The most that was allocated at once since the row before."""
        if self._device.type != "cuda":
            return 0
        most = torch.cuda.max_memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        return int(most)


@contextmanager
def closed_after(recorder: RunRecorder) -> Iterator[RunRecorder]:
    """While inside, a training; after it the record is closed, with the reason for its end."""
    try:
        yield recorder
    except (KeyboardInterrupt, Interrupted):
        recorder.close("interrupted")
        raise
    except BaseException as error:
        recorder.close(f"failed: {type(error).__name__}: {error}"[:2000])
        raise
    recorder.close("done")


def summary_of(run: RunFolder, *, steps: int | None = None, aside: Collection[str] = ()) -> dict[str, Any]:
    """What is said of a run at its end, from its own record: of a run that was killed, too. `steps`: only of those
    before that one, for a run that has gone on meanwhile. `aside`: causes (`goodput.CAUSES`) whose seconds do not
    count, for a run that had no say in them."""
    rows = last_of_each_step(read_all_rows(run.folder("ledger")))
    if steps is not None:
        rows = [row for row in rows if int(row["step"]) < steps]
    goodput = set_aside(goodput_of(run), aside)
    verdict = judge(rows, goodput, driver=run.job_facts()["feed"]["driver"])
    return {
        "step": int(rows[-1]["step"]) + 1 if rows else 0,
        "loss": number(rows[-1]["loss"]) if rows else None,
        "training_seconds": number(training_seconds(rows)),
        "clips": sum(int(row["clips"]) for row in rows),
        "frames": sum(int(row["frames"]) for row in rows),
        "clips_per_s": number(verdict.clips_per_s),
        "frames_per_s": number(verdict.frames_per_s),
        "data_wait_fraction": number(verdict.data_wait_fraction),
        "gpu_stall_fraction": number(verdict.gpu_stall_fraction),
        "mfu": number(verdict.mfu),
        "goodput": goodput["goodput"],
        "lifetime_s": goodput["lifetime_s"],
        "seconds": goodput["seconds"],
        "attempts": goodput["attempts"],
        "bound": verdict.bound,
        "verdict": verdict.text,
    }


def number(value: float) -> float | None:
    """None for what is no number: JSON has no word for it."""
    return float(value) if math.isfinite(value) else None
