"""A sweep under Ray Tune: a job goes in; trials are trained, judged and chosen from, and one JSON object comes out.

    main thread    hears Ctrl-C, shows how it goes, removes what dead trials left behind (`ray_janitor.py`)
    Tune's thread  asks for trials (`ray_search.py`), ends them early (`ray_schedule.py`), tries again (`ray_tune.py`)
    trials         an actor each (`ray_trial.py`), and in it a whole training under Ray Train

The sweep's folder is the only memory. A driver that is started again reads it, hands unfinished trials out again, tells
the scheduler what the finished ones showed, and goes on; what Tune itself writes is scratch.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import ray

from cineray.errors import CinerayError, Interrupted
from cineray.storage import normalise_uri
from cineray.sweep.at_work import not_evaluated
from cineray.sweep.board import Board
from cineray.sweep.capacity import Capacity, NoRoom, Terms, capacity_by, capacity_of, decode_wanted, most_needed
from cineray.sweep.check import check_sweep
from cineray.sweep.config import SweepJob
from cineray.sweep.folder import Driver, SweepFolder, is_sweep, new_sweep_uri
from cineray.sweep.judging import definite
from cineray.sweep.machines import Machine, machines_of
from cineray.sweep.objectives import objectives_of
from cineray.sweep.proposals import Proposals
from cineray.sweep.ray_alone import measure_alone
from cineray.sweep.ray_desk import Desk
from cineray.sweep.ray_janitor import Left, left_now, left_since, remove_orphans
from cineray.sweep.ray_judge import evaluate_aside
from cineray.sweep.ray_room import come_when_asked, held, rooms_for
from cineray.sweep.ray_trial import is_own_fault
from cineray.sweep.ray_tune import Listener, Tuning, first_line, remove_scratch, scratch_of
from cineray.sweep.results import finalists, write_results
from cineray.sweep.space import apart, apply
from cineray.sweep.tidy import bytes_in, bytes_left, tidy, tidy_ended
from cineray.sweep.trial_folder import TrialFolder
from cineray.sweep.trial_record import TrialRecords
from cineray.sweep.watcher import Watcher
from cineray.telemetry.ray_session import connected
from cineray.train.checkpoint_manifest import steps_in
from cineray.train.config import TrainJob
from cineray.train.stop import StopRequest, stopping_by_signals

_LOOK_SECONDS = 0.5
_CLEAN_SECONDS = 3.0

_log = logging.getLogger("cineray.sweep")


def run_sweep(job: SweepJob, *, uri: str = "", address: str = "", watchers: Sequence[Watcher] = ()) -> dict[str, Any]:
    """Sweep on the Ray at `address`, or on an embedded one; returns what sweep-result.json says.

    `uri`: where the sweep is or will be; one that lies there is gone on with. On several machines it must be a place
    that all of them see.
    """
    try:
        sweep = opened(job, uri)
        with (
            connected(address, num_cpus=_cores_here(sweep.job())),
            stopping_by_signals(StopRequest()) as request,
            _noted(sweep) as driver,
        ):
            return _Sweeping(sweep, driver, watchers, request).whole()
    finally:
        for watcher in watchers:
            watcher.close()


def opened(job: SweepJob, uri: str) -> SweepFolder:
    """The sweep that lies there, if it is the same one, or a new one; checked before anything starts."""
    job = definite(job)
    if uri and is_sweep(uri):
        sweep = SweepFolder.open(uri)
        sweep.check_same(job)
        return sweep
    check_sweep(job)
    return SweepFolder.create(job, normalise_uri(uri) if uri else new_sweep_uri(job))


@contextmanager
def _noted(sweep: SweepFolder) -> Iterator[Driver]:
    """This start of the sweep; its log says how it ended."""
    driver = sweep.begin_driver()
    try:
        yield driver
    except (KeyboardInterrupt, Interrupted):
        driver.close("interrupted")
        raise
    except BaseException as error:
        driver.close(f"failed: {type(error).__name__}: {error}"[:2000])
        raise
    driver.close("done")


class _Sweeping:
    """One start of a sweep, on a Ray that is there."""

    def __init__(self, sweep: SweepFolder, driver: Driver, watchers: Sequence[Watcher], request: StopRequest) -> None:
        self._sweep, self._driver, self._watchers, self._request = sweep, driver, watchers, request
        self._job = sweep.job()
        self._board = Board(self._job)
        self._cleaned = 0.0

    def whole(self) -> dict[str, Any]:
        """Trials, finalists, results."""
        before = left_now()
        try:
            self._evaluate_again()
            self._trials()
            self._finalists()
        except BaseException:
            # What there is comes first: it may be Ray itself that is gone, and counting in it fails or takes its time.
            with _only_told("the results could not be written"):
                write_results(self._sweep)
            self._count_what_is_left(before)
            with _only_told("the results could not be written"):
                write_results(self._sweep)
            self._show()
            raise
        best, chosen = write_results(self._sweep)["best"], self._chosen()
        with _only_told("not all that is not kept could be removed"):
            remove_scratch(self._sweep)
            tidy(self._sweep, self._job, best=best, finalists=chosen)
        self._count_what_is_left(before, disk=lambda: self._disk_left(best, chosen))
        told = write_results(self._sweep)
        self._show()
        self._raise_if_all_failed(told)
        return told

    def _disk_left(self, best: int | None, chosen: Sequence[int]) -> int:
        weights = bytes_left(self._sweep, self._job, best=best, finalists=chosen)
        return weights + sum(map(bytes_in, scratch_of(self._sweep)))

    def _count_what_is_left(self, before: Left, *, disk: Callable[[], int] | None = None) -> None:
        """`disk`: of a sweep that is done; one that is not will go on with what lies there."""
        left: dict[str, int] = {}
        if disk is not None:
            with _only_told("what is left on disk could not be counted"):
                left["disk_bytes"] = disk()
        with _only_told("what is left in Ray could not be counted"):
            self._driver.note("leaks", **asdict(left_since(before)), **left)

    def _evaluate_again(self) -> None:
        """Trials of an earlier start that are trained, and could not be evaluated then."""
        if self._job.judge.evaluate is None:
            return
        for trial in self._sweep.trials():
            end, run = trial.ended(), trial.run_uri()
            is_done = end is not None and end["state"] == "done"
            if self._request.reason or not is_done or trial.kept("evaluation") or not steps_in(f"{run}/checkpoints"):
                continue
            self._driver.check_newest()
            self._driver.note("evaluated again", trial=trial.number)
            try:
                trial.keep("evaluation", evaluate_aside(run, self._job))
            except Exception as error:  # of whatever kind: the sweep goes on without, as it did when this came first
                self._board.say(f"trial {trial.number}: {not_evaluated(error)}")

    # ---- trials ------------------------------------------------------------------------------------------------------

    def capacity(self) -> Capacity:
        """Where pools have shrunk too far, their machines are asked for and waited for."""
        try:
            return _capacity(self._sweep, self._job)
        except NoRoom as error:
            with_store, machines, trials = error.decode_cpus, _machines(), _hungry(self._job)
            if not come_when_asked(machines):
                raise
        terms, needs = self._sweep.terms(), most_needed(trials, {}, machines)
        decode = max(with_store, terms.share.decode_cpus if terms else decode_wanted(self._job, needs))
        with held(rooms_for(self._job, trials, decode, machines), stop=self._request, say=self._say):
            if self._request.reason:
                raise Interrupted(
                    f"stopped by {self._request.reason} while it waited for machines. "
                    f"To go on: cineray sweep {self._sweep.uri}"
                )
            return _capacity(self._sweep, self._job)

    def _say(self, text: str) -> None:
        self._board.say(text)
        self._show()

    def _trials(self) -> None:
        capacity = self.capacity()
        self._driver.note("capacity", concurrent=capacity.concurrent, limited_by=capacity.limited_by)
        desk = Desk.open()
        listener = Listener(self._sweep, self._driver, self._board, desk)
        listener.end_what_was_stopped()
        for trial in self._sweep.trials():
            self._board.show(trial)
        proposals = Proposals(self._sweep, self._driver, capacity.share, listener.asked)
        try:
            tuning = Tuning(self._sweep, proposals, listener, desk, capacity.concurrent)
            try:
                while tuning.wait(_LOOK_SECONDS):
                    self._look(proposals, listener, desk)
            except Exception as error:
                _let_end(tuning, proposals, desk, f"the sweep's driver, which failed: {first_line(error)}")
                raise
        finally:
            desk.close()
        self._raise_what_ended_it(tuning, proposals)

    def _look(self, proposals: Proposals, listener: Listener, desk: Desk) -> None:
        if self._request.reason:
            proposals.close(self._request.reason)
        if proposals.closed:
            desk.wish(proposals.closed)
        self._board.progress(desk.told())
        self._show()
        if ended := listener.newly_ended():
            with _only_told("the results could not be written; they will be at the next end of a trial"):
                write_results(self._sweep)
            for number in ended:
                with _only_told(f"the weights of trial {number} could not be removed; they will be at the sweep's end"):
                    tidy_ended(self._sweep.trial(number), self._job)
        if time.monotonic() - self._cleaned > _CLEAN_SECONDS:
            remove_orphans()
            self._cleaned = time.monotonic()

    def _show(self) -> None:
        rows, said = self._board.news()
        for watcher in self._watchers:
            with _only_told("a watcher failed"):
                if rows is not None:
                    watcher.changed(rows)
                for text in said:
                    watcher.say(text)

    def _raise_what_ended_it(self, tuning: Tuning, proposals: Proposals) -> None:
        if proposals.superseded is not None:
            raise proposals.superseded
        if self._request.reason:
            raise Interrupted(
                f"stopped by {self._request.reason}; trials that were at work have saved. "
                f"To go on: cineray sweep {self._sweep.uri}"
            )
        if tuning.error is not None:
            raise CinerayError(
                f"Ray Tune gave up: {first_line(tuning.error)}. What trials saved is whole; to go on: "
                f"cineray sweep {self._sweep.uri}"
            ) from tuning.error

    def _raise_if_all_failed(self, told: dict[str, Any]) -> None:
        """A table of nothing helps nobody."""
        trials = told["trials"]
        failed = [trial for trial in trials if trial["state"] in ("failed", "lost")]
        if trials and len(failed) == len(trials):
            raise CinerayError(
                f"all {len(failed)} trials failed, the first one (trial {failed[0]['number']}) so: {failed[0]['why']}. "
                f"Their records lie in {self._sweep.place('trials')}"
            )

    # ---- finalists ---------------------------------------------------------------------------------------------------

    def _chosen(self) -> list[int]:
        """The best of the Pareto set."""
        records = TrialRecords(self._sweep).read()
        return finalists(records, objectives_of(self._job), self._job.finalists.most)

    def _finalists(self) -> None:
        for number in self._chosen():
            trial = self._sweep.trial(number)
            if (trial.kept("alone") or {}).get("figures"):
                continue
            self._driver.check_newest()
            self._driver.note("alone", trial=number)
            self._board.change(number, state="measured alone")
            self._show()
            if why := self._measured_alone(trial):
                self._driver.note("alone failed", trial=number, why=why)
                self._board.say(f"trial {number} could not be measured alone: {why}")
            self._board.change(number, state="done")
            self._show()

    def _measured_alone(self, trial: TrialFolder) -> str:
        """Empty, or why it could not be: all trials are done by then, and figures in the sweep are figures, too."""
        why = ""
        for _ in range(1 + self._job.failures):
            with _only_told("what the try before left in Ray could not be removed"):
                remove_orphans()  # it holds cores that this one waits for
            try:
                measure_alone(self._job, trial, self._request)
            except Interrupted as error:
                raise Interrupted(
                    f"stopped by {self._request.reason} while finalists were measured; all trials are done. "
                    f"To go on: cineray sweep {self._sweep.uri}"
                ) from error
            except Exception as error:  # a lost machine, memory that others hold no more, no step after the first ones
                why = first_line(error)
                if is_own_fault(error):
                    return why
            else:
                return ""
        return why


def _let_end(tuning: Tuning, proposals: Proposals, desk: Desk, why: str) -> None:
    """Trials are at work: Ray stays until they have saved. Where the desk is gone they end by that."""
    proposals.close(why)
    with _only_told("trials could not be told to end"):
        desk.wish(why)
    while tuning.wait(_LOOK_SECONDS):
        pass


@contextmanager
def _only_told(what: str) -> Iterator[None]:
    """Of what a sweep can do without: it is said that it failed."""
    try:
        yield
    except Exception as error:
        _log.warning("%s: %s", what, first_line(error))


# ---- what is there ---------------------------------------------------------------------------------------------------


def _cores_here(job: SweepJob) -> int:
    """Of an embedded Ray: this machine's cores decode; trainers come on top, for they share the same cores."""
    return len(os.sched_getaffinity(0)) + math.ceil(most_needed(_hungry(job), {}).train_cpus)


def _capacity(sweep: SweepFolder, job: SweepJob) -> Capacity:
    """As the sweep was begun, where it was."""
    cluster = ray.cluster_resources()
    machines = _machines()
    one_machine = len(machines) == 1
    needs = most_needed(_hungry(job), cluster, machines)
    terms = sweep.terms()
    if terms is None:
        found = capacity_of(job, needs, cluster, one_machine=one_machine, machines=machines)
        decided = Terms(found.share, needs.train_gpus)
        terms = sweep.keep_terms(decided, cluster)
        if terms == decided:
            return found
    return capacity_by(terms, job, needs, cluster, one_machine=one_machine, machines=machines)


def _machines() -> list[Machine]:
    return machines_of(ray.nodes(), ray.get_runtime_context().get_node_id())


def _hungry(job: SweepJob) -> list[TrainJob]:
    """Trials that differ in what they take of a cluster."""
    return [apply(job.base, job.space, values) for values in apart(job.space, ("parallel", "feed", "recipe"))]
