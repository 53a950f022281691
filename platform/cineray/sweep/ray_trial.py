"""A trial under Ray Tune: its sweep and number go in; a report per judgement comes out, for schedulers and searches.

    Tune's actor    this class; holds no cores, on the driver's own machine
      a thread      `run_on_ray`: a whole training under Ray Train, with its own workers, feed, ledger, checkpoints
      `step`        waits for the next judgement; meanwhile the run goes on
      `cleanup`     the run finishes its step, saves, and gives back its machines; Tune waits for that

It is a class and no function because Tune tells a class that it is to stop, and only kills a function. Tune's
"checkpoint" of a trial is a pointer to one of its run's, so that another trial can go on from there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ray
from ray import tune

from cineray.errors import CinerayError
from cineray.sweep.at_work import TrialAtWork
from cineray.sweep.folder import SweepFolder
from cineray.sweep.ray_desk import Desk
from cineray.sweep.ray_judge import evaluate_aside
from cineray.sweep.ray_schedule import with_score
from cineray.sweep.training import Train
from cineray.train.ray_link import is_final

POINTER = "pointer.json"


class SweptTrial(tune.Trainable):  # type: ignore[misc]
    """One start of a trial. Its config: `sweep`, `number`, `desk`; in a population also its `values`, as text."""

    def setup(self, config: dict[str, Any]) -> None:
        """Nothing begins yet: Tune may still say from which checkpoint."""
        sweep, number, desk = SweepFolder.open(config["sweep"]), int(config["number"]), Desk.find(config["desk"])
        self._job, self._values = sweep.job(), config.get("values")
        self._work = TrialAtWork(
            sweep,
            number,
            train=self.trainer(),
            evaluate=evaluate_aside,
            is_own_fault=is_own_fault,
            may_be_the_machine=may_be_the_machine,
            tell=lambda facts: desk.tell(number, facts),
            not_before=desk.not_before(number),
        )

    @staticmethod
    def trainer() -> Train:
        """Who trains; loaded here, for it takes seconds."""
        from cineray.train.ray_train import run_on_ray

        return run_on_ray

    def step(self) -> dict[str, Any]:
        """The next report."""
        return with_score(self._job, self._work.next_report())

    def save_checkpoint(self, checkpoint_dir: str) -> str:
        """A pointer to the run's checkpoint."""
        (Path(checkpoint_dir) / POINTER).write_text(json.dumps(self._work.pointer()))
        return checkpoint_dir

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        """Go on from where a pointer points to, which may be another trial's run."""
        if isinstance(checkpoint, str) and self._values is not None:
            pointer = json.loads((Path(checkpoint) / POINTER).read_text())
            self._work.take_over(pointer, json.loads(self._values))

    def cleanup(self) -> None:
        """Tune has stopped, paused or given up this start."""
        self._work.end("the sweep")


def is_own_fault(error: BaseException) -> bool:
    """Is it the trial's config that failed, and not a machine? Another try would meet it again."""
    # When Ray Train itself gives up, that is one of ours with Ray's as its cause: of that nothing is known.
    cause = error.__cause__
    return is_final(error) and (cause is None or isinstance(cause, CinerayError))


def may_be_the_machine(error: BaseException) -> bool:
    """Ours and Ray's, where they are not final, tell of lost workers and stores; so do the system's. What else is
    raised (memory of a GPU that is too small, a wrong shape) comes again where nothing is in its way."""
    cause = getattr(error, "cause", None) or error  # Ray wraps what was raised in another process
    return isinstance(cause, CinerayError | ray.exceptions.RayError | OSError)
