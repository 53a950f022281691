"""Ray Tune at work: trials to begin, a scheduler and somebody who listens go in; it runs until no trial is left.

    a place      on the driver's own machine, one of as many as there may be trials at once; it takes no cores
    what is told begins, reports, tries again, ends: to the sweep's folder, the board and the driver's log

Trials of a search begin when there is a place; a population is there from the start, and takes turns.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import math
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any

import ray
from ray import cloudpickle, tune

from cineray.storage import is_remote
from cineray.sweep.board import Board
from cineray.sweep.config import Pbt
from cineray.sweep.folder import Driver, SweepFolder
from cineray.sweep.proposals import Proposals
from cineray.sweep.ray_desk import Desk, DeskLost
from cineray.sweep.ray_schedule import scheduler_of, with_score
from cineray.sweep.ray_search import NotKept, Proposing
from cineray.sweep.ray_trial import SweptTrial
from cineray.sweep.trial_folder import State, TrialFolder

_QUIETLY = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # A trial may end before it was ever judged, by its own config or by Ctrl-C; Tune would take that for a mistake.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # A job's paths are meant as the driver has them.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # A trial that is paused or tried again may take as long as it needs to save.
    "TUNE_FORCE_TRIAL_CLEANUP_S": "3600",
}
"""Read by Tune from the environment when it starts."""


_SCRATCH = "tune"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Tuning:
    """Tune in a thread of its own: the main one hears signals."""

    def __init__(self, sweep: SweepFolder, proposals: Proposals, listener: Listener, desk: Desk, places: int) -> None:
        self._sweep, self._job = sweep, sweep.job()
        self._proposals, self._listener, self._desk, self._places = proposals, listener, desk, places
        self.error: BaseException | None = None
        """What ended Tune, where it did not end by itself."""
        self._thread = threading.Thread(target=self._whole, name="ray-tune", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; is it still at work?"""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def _whole(self) -> None:
        for name, value in _QUIETLY.items():
            os.environ.setdefault(name, value)
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        scratch = self._scratch()
        try:
            tuner = self._tuner(scratch)
            if tuner is not None:
                tuner.fit()
        except BaseException as error:
            self.error = error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            with suppress(OSError):  # another driver's lies there too
                os.rmdir(os.path.dirname(scratch))

    def _tuner(self, scratch: str) -> tune.Tuner | None:
        """None where a population has nobody left."""
        told = {"sweep": self._sweep.uri, "desk": self._desk.name}
        if isinstance(self._job.scheduler, Pbt):
            members = list(iter(self._proposals.next, None))
            if not members:
                return None
            space: dict[str, Any] = {**told, "number": tune.grid_search(members)}
            asked: dict[str, Any] = {"num_samples": 1}
        else:
            space = {}
            search = Proposing(self._proposals.next, told)
            asked = {"num_samples": -1, "search_alg": search, "max_concurrent_trials": self._places}
        return tune.Tuner(
            tune.with_resources(SweptTrial, place_of(self._places)),
            param_space=space,
            tune_config=tune.TuneConfig(
                **asked,
                scheduler=self._scheduler(),
                trial_name_creator=_named,
                trial_dirname_creator=_named,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=scratch,
                verbose=0,
                callbacks=[_Callback(self._listener)],
                failure_config=tune.FailureConfig(max_failures=self._job.failures),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )

    def _scheduler(self) -> Any:
        """It is told what trials of an earlier start showed."""
        scheduler = scheduler_of(
            self._job,
            self._listener.stopped,
            lambda number: dict(self._sweep.trial(number).generations()[-1]["values"]),
            places=self._places,
            is_closing=lambda: bool(self._proposals.closed),
        )
        for trial in self._sweep.trials():
            scheduler.replay(trial.number, [with_score(self._job, report) for report in trial.reports()])
        return scheduler

    def _scratch(self) -> str:
        """Trials' places are on this machine, so it may lie on its disk; in the sweep's folder nothing is forgotten."""
        if is_remote(self._sweep.uri):
            return tempfile.mkdtemp(prefix=_scratch_prefix(self._sweep))
        folder = self._sweep.place(f"{_SCRATCH}/{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}")
        os.makedirs(folder, exist_ok=True)
        return folder


def remove_scratch(sweep: SweepFolder) -> None:
    """Of drivers that were killed; of a sweep in an object store, those of this machine."""
    for folder in scratch_of(sweep):
        shutil.rmtree(folder, ignore_errors=True)


def scratch_of(sweep: SweepFolder) -> list[str]:
    """What drivers left there."""
    if is_remote(sweep.uri):
        return glob.glob(f"{glob.escape(os.path.join(tempfile.gettempdir(), _scratch_prefix(sweep)))}*")
    return [folder] if os.path.isdir(folder := sweep.place(_SCRATCH)) else []


def _scratch_prefix(sweep: SweepFolder) -> str:
    return f"cineray-tune-{hashlib.sha256(sweep.uri.encode()).hexdigest()[:12]}-"


def place_of(places: int) -> tune.PlacementGroupFactory:
    """What a trial's actor takes: a part of this machine's own resource, of which Ray gives every machine one."""
    me = ray.get_runtime_context().get_node_id()
    machine = next(node for node in ray.nodes() if node["NodeID"] == me)
    named = (name for name in machine["Resources"] if name.startswith("node:") and "__" not in name)
    part = math.floor(1e4 / places) / 1e4  # Ray counts resources in ten-thousandths
    return tune.PlacementGroupFactory([{"CPU": 0, next(named): part}], bundle_label_selector=[{"ray.io/node-id": me}])


def _named(trial: Any) -> str:
    return f"{trial.config['number']:04d}-{trial.trial_id}"


class Listener:
    """What happens to trials, written down: into their folders, the driver's log, and on the board."""

    def __init__(self, sweep: SweepFolder, driver: Driver, board: Board, desk: Desk) -> None:
        self._sweep, self._driver, self._board, self._desk = sweep, driver, board, desk
        self._ended: set[int] = set()
        self._stopping: dict[int, tuple[State, str]] = {}
        self._newly_ended: SimpleQueue[int] = SimpleQueue()

    def asked(self, trial: TrialFolder) -> None:
        """It is handed out."""
        self._driver.note("asked", trial=trial.number)
        self._board.show(trial)
        self._end_is_told(trial.number)

    def began(self, number: int) -> None:
        """Its actor starts."""
        self._driver.note("began", trial=number)
        self._board.change(number, state="running")

    def reported(self, number: int, report: Mapping[str, Any]) -> None:
        """It was judged."""
        self._driver.note("report", trial=number, step=report.get("step"), seconds=report.get("seconds"))
        self._board.report(number, report)

    def stopped(self, number: int, state: State, why: str) -> None:
        """The scheduler ends it. It is told, saves, and has ended when it has left; if it has its whole budget by then,
        it is done. What is to become of it stands in the log, should this driver not live to see that."""
        self._driver.note("stopped", trial=number, state=state, why=why)
        self._stopping[number] = state, why
        with suppress(DeskLost):  # then it ends by that, and the driver's main thread says so
            self._desk.wish(f"the sweep ({why})", number)

    def end_what_was_stopped(self) -> None:
        """By an earlier driver, that did not live until they had left."""
        told = {event["trial"]: event for event in self._sweep.events() if event["event"] == "stopped"}
        for number, event in told.items():
            self._end(number, event["state"], event["why"])

    def retried(self, number: int, error: object, tries: int) -> None:
        """A machine failed it."""
        seconds = self._sweep.job().retry_seconds * 2.0 ** (tries - 1)
        self._desk.hold(number, time.time() + seconds)
        self._driver.note("retry", trial=number, why=first_line(error), after_seconds=seconds)
        after = f"after {seconds:.0f} s " if seconds else ""
        self._board.say(
            f"trial {number}: {first_line(error)}; it is tried again {after}and goes on from its last checkpoint"
        )
        self._board.change(number, state="waiting")

    def lost(self, number: int, error: object, tries: int) -> None:
        """Its machines failed it too often."""
        why = f"failed {tries} times; the last time: {first_line(error)}"
        self._end(number, *self._stopping.get(number, ("lost", why)))
        self._end_is_told(number)

    def left(self, number: int) -> None:
        """It holds nothing any more."""
        if number in self._stopping:
            self._end(number, *self._stopping[number])
        self._end_is_told(number)

    def _end(self, number: int, state: State, why: str) -> None:
        """Told to stop, it may have had its whole budget before it heard, and been lost then: so it is done."""
        trial = self._sweep.trial(number)
        if state != "lost" and trial.has_all_steps():
            state, why = "done", ""
        trial.end(state, why)

    def _end_is_told(self, number: int) -> None:
        end = self._sweep.trial(number).ended()
        if end is None:
            return
        self._driver.note("ended", trial=number, state=end["state"])
        self._board.change(number, state=end["state"], why=end["why"])
        if number not in self._ended:
            self._ended.add(number)
            self._board.say(f"trial {number}: {end['state']}" + (f": {end['why']}" if end["why"] else ""))
        self._newly_ended.put(number)

    def newly_ended(self) -> set[int]:
        """Trials that have ended since somebody looked."""
        found = set()
        with suppress(Empty):
            while True:
                found.add(self._newly_ended.get_nowait())
        return found


class _Callback(NotKept, tune.Callback):  # type: ignore[misc]
    """Tune's words for it."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def on_trial_start(self, *_: Any, trial: Any, **__: Any) -> None:
        """Its actor starts."""
        self._listener.began(trial.config["number"])

    def on_trial_result(self, *_: Any, trial: Any, result: dict[str, Any], **__: Any) -> None:
        """A report."""
        if "step" in result:
            self._listener.reported(trial.config["number"], result)

    def on_trial_recover(self, *_: Any, trial: Any, **__: Any) -> None:
        """It is tried again."""
        self._listener.retried(trial.config["number"], _error_of(trial), trial.run_metadata.num_failures)

    def on_trial_error(self, *_: Any, trial: Any, **__: Any) -> None:
        """It is not tried again."""
        self._listener.lost(trial.config["number"], _error_of(trial), trial.run_metadata.num_failures)

    def on_trial_complete(self, *_: Any, trial: Any, **__: Any) -> None:
        """It said that it is over."""
        self._listener.left(trial.config["number"])


def _error_of(trial: Any) -> object:
    """What it failed by. Tune's own question looks where its files are copied to, a while later."""
    path = trial.pickled_error_file
    if path is None or not os.path.exists(path):
        return "its machine or its process was lost"
    with open(path, "rb") as file:
        return cloudpickle.load(file)


def first_line(error: object) -> str:
    """What a person wants to read of an error that came out of another process."""
    cause = getattr(error, "cause", None) or error
    text = " ".join(_COLOURS.sub("", str(cause)).strip().split("\n", 1)[0].split())
    return f"{type(cause).__name__}: {text}"[:500] if isinstance(cause, Exception) else text[:500]
