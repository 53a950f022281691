"""Ends of trials and of sweeps that go wrong somewhere, without a Ray: what is still written, told and waited for."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from cineray.errors import CinerayError, Interrupted, PlaceError, UsageError
from cineray.evaluate import EvaluateConfig
from cineray.sweep import FinalistsConfig, JudgeConfig, SweepFolder
from cineray.sweep.board import Board
from cineray.sweep.results import write_results
from cineray.sweep.trial_record import TrialRecord
from cineray.train.stop import StopRequest

pytest.importorskip("ray")
import ray

from cineray.sweep import ray_sweep, ray_tune
from cineray.sweep.ray_desk import NO_DRIVER, Desk, DeskLost
from cineray.sweep.ray_sweep import _Sweeping
from cineray.sweep.ray_trial import is_own_fault, may_be_the_machine
from cineray.sweep.ray_tune import Listener
from cineray.train.ray_link import LinkState, WorkersLost
from cineray.train.run_folder import RUN_FORMAT


@pytest.fixture
def sweep_of(made: ModuleType, tmp_path: Path) -> Callable[..., SweepFolder]:
    """A sweep of two trials, of which both had their budget; nothing was trained."""

    def make(*, state: str = "done", **told: Any) -> SweepFolder:
        job = made.judged(made.sweep_job(**told))
        sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
        for number in (0, 1):
            figures = {"validation/skill_linear": 0.5 - 0.1 * number}
            made.add_trial(sweep, number, {"stride": number + 1}, made.report(10, 10.0, **figures), state=state)
        return sweep

    return make


class Wishes:
    """A desk."""

    def __init__(self, error: Exception | None = None) -> None:
        self.told_of: list[Any] = []
        self._error = error

    def wish(self, reason: str, number: int | None = None) -> None:
        self.told_of.append((reason, number))
        if self._error is not None:
            raise self._error

    def told(self) -> dict[int, dict[str, Any]]:
        if self._error is not None:
            raise self._error
        return {}


# ---- a trial that the scheduler ends ---------------------------------------------------------------------------------


def listener_of(sweep: SweepFolder, wishes: Wishes | None = None) -> Listener:
    board, desk = Board(sweep.job()), cast(Desk, wishes or Wishes())
    for trial in sweep.trials():
        board.show(trial)
    return Listener(sweep, sweep.begin_driver(), board, desk)


def test_a_trial_that_is_stopped_has_ended_when_it_has_left(sweep_of: Callable[..., SweepFolder]) -> None:
    sweep, desk = sweep_of(state=""), Wishes()
    listener = listener_of(sweep, desk)
    listener.stopped(1, "stopped", "asha: others are better")
    assert desk.told_of == [("the sweep (asha: others are better)", 1)]
    assert sweep.trial(1).ended() is None, "it still trains, and saves"
    assert listener.newly_ended() == set()
    listener.left(1)
    ended = sweep.trial(1).ended()
    assert ended is not None
    assert (ended["state"], ended["why"]) == ("stopped", "asha: others are better")
    assert (listener.newly_ended(), listener.newly_ended()) == ({1}, set())


def test_a_trial_that_has_its_budget_before_it_hears_of_that_is_done(sweep_of: Callable[..., SweepFolder]) -> None:
    sweep = sweep_of(state="")
    listener = listener_of(sweep)
    listener.stopped(1, "stopped", "asha: others are better")
    sweep.trial(1).end("done")  # says the trial
    listener.left(1)
    assert TrialRecord.read(sweep.trial(1)).has_whole_budget


def test_a_trial_whose_machine_is_lost_while_it_stops_is_stopped(sweep_of: Callable[..., SweepFolder]) -> None:
    sweep = sweep_of(state="")
    listener = listener_of(sweep)
    listener.stopped(1, "data-bound", "waited for data")
    listener.lost(1, RuntimeError("gone"), 2)
    listener.lost(0, RuntimeError("gone"), 2)
    assert [TrialRecord.read(trial).state for trial in sweep.trials()] == ["lost", "data-bound"]


def test_a_driver_that_is_started_again_ends_what_the_one_before_had_stopped(
    sweep_of: Callable[..., SweepFolder],
) -> None:
    sweep = sweep_of(state="")
    listener_of(sweep).stopped(1, "stopped", "asha: others are better")  # and is killed
    listener_of(sweep).end_what_was_stopped()
    assert [TrialRecord.read(trial).state for trial in sweep.trials()] == ["", "stopped"]


# ---- whose fault it is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "own", "machine"),
    [
        (UsageError("no such autoencoder"), True, True),
        (PlaceError("the store did not answer"), False, True),
        (WorkersLost("the run failed 2 times"), False, True),
        (OSError("no route"), False, True),
        (ray.exceptions.NodeDiedError("gone"), False, True),
        (RuntimeError("CUDA out of memory"), False, False),
        (TypeError("no such argument"), False, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_are_the_configs_the_machines_or_not_known(error: Exception, own: bool, machine: bool) -> None:
    assert (is_own_fault(error), may_be_the_machine(error)) == (own, machine)


def lost_twice(*, error: str = "", died: str = "", may_pass: bool = False) -> CinerayError | None:
    link = LinkState(most_failures=1)
    for _ in range(2):
        link.begin(0)
        if error:
            link.failed(error, None, may_pass=may_pass)
        link.lost(died)
    return link.begin(0)


def test_workers_that_meet_an_error_twice_are_at_fault_and_workers_that_only_die_are_not() -> None:
    out_of_memory = lost_twice(error="rank 0: OutOfMemoryError: CUDA out of memory")
    assert out_of_memory is not None
    assert is_own_fault(out_of_memory)
    assert "failed 2 times in a row without getting beyond step 0" in str(out_of_memory)
    assert "CUDA out of memory" in str(out_of_memory)
    for machines in (
        lost_twice(died="rank 0: the node died"),
        lost_twice(error="rank 1: connection closed by peer", died="rank 0: the node died"),
        lost_twice(error="rank 0: the store did not answer", may_pass=True),
    ):
        assert isinstance(machines, WorkersLost)
        assert not is_own_fault(machines)


# ---- the end of the sweep --------------------------------------------------------------------------------------------


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Ray's head were lost: nothing can be counted."""

    def gone(*_: Any) -> Any:
        raise ray.exceptions.RaySystemError("Ray is gone")

    monkeypatch.setattr(ray_sweep, "left_now", lambda: None)
    monkeypatch.setattr(ray_sweep, "left_since", gone)


def sweeping(sweep: SweepFolder, *watchers: Any) -> _Sweeping:
    found = _Sweeping(sweep, sweep.begin_driver(), watchers, StopRequest())
    for trial in sweep.trials():
        found._board.show(trial)
    return found


@pytest.mark.usefixtures("no_ray")
def test_what_ended_a_sweep_is_told_and_results_are_written_though_ray_is_gone(
    sweep_of: Callable[..., SweepFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_of()
    here = sweeping(sweep)

    def fail() -> None:
        raise CinerayError("the first error")

    monkeypatch.setattr(here, "_trials", fail)
    with pytest.raises(CinerayError, match=r"^the first error$"):
        here.whole()
    told = json.loads(Path(sweep.place("sweep-result.json")).read_text())
    assert (told["best"], told["leaks"]) == (0, {})


def test_what_only_shows_a_sweep_does_not_end_it(
    sweep_of: Callable[..., SweepFolder], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def changed(self, _: Any) -> None:
            raise ValueError("no terminal")

    def unwritable(_: Any) -> None:
        raise PlaceError("the store did not answer")

    sweep = sweep_of()
    here, listener = sweeping(sweep, Broken()), listener_of(sweep)
    listener._end_is_told(0)
    monkeypatch.setattr(ray_sweep, "write_results", unwritable)
    monkeypatch.setattr(ray_sweep, "remove_orphans", lambda: 0)
    proposals: Any = SimpleNamespace(closed="")
    desk: Any = Wishes()
    with caplog.at_level(logging.WARNING, "cineray.sweep"):
        here._look(proposals, listener, desk)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "a watcher failed",
        "the results could not be written; they will be at the next end of a trial",
    ]


def test_weights_of_trials_that_were_stopped_go_while_others_train(
    sweep_of: Callable[..., SweepFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_of(state="")
    here, listener = sweeping(sweep), listener_of(sweep)
    weights = [Path(trial.run_uri(), "checkpoints", "step-1", "model") for trial in sweep.trials()]
    for path in weights:
        path.parent.mkdir(parents=True)
        path.write_text("weights")
    monkeypatch.setattr(ray_sweep, "remove_orphans", lambda: 0)
    listener.stopped(1, "stopped", "asha: others are better")
    listener.left(1)
    proposals: Any = SimpleNamespace(closed="")
    desk: Any = Wishes()
    here._look(proposals, listener, desk)
    assert [path.exists() for path in weights] == [True, False]


def test_a_trial_that_is_lost_after_its_last_step_is_done_though_it_was_to_stop(
    sweep_of: Callable[..., SweepFolder], made: ModuleType
) -> None:
    """It was at its evaluation when its actor died; a sweep that goes on evaluates it again."""
    sweep = sweep_of(state="")
    first, second = sweep.trials()
    run = Path(first.run_uri(), "run.json")
    run.parent.mkdir()
    run.write_text(json.dumps({"format": RUN_FORMAT}))
    first.open_reports().add(made.report(first.job().steps, 20.0))
    for trial in (first, second):
        listener = listener_of(sweep)
        listener.stopped(trial.number, "stopped", "asha: others are better")
        listener.left(trial.number)
    ends = [(trial.ended() or {})["state"] for trial in (first, second)]
    assert ends == ["done", "stopped"]


def test_an_error_of_the_driver_lets_trials_save_before_ray_goes() -> None:
    class Tuning:
        left = 3

        def wait(self, _: float) -> bool:
            Tuning.left -= 1
            return Tuning.left > 0

    closed: list[str] = []
    proposals: Any = SimpleNamespace(close=closed.append)
    tuning: Any = Tuning()
    desk: Any = Wishes(DeskLost("gone"))
    ray_sweep._let_end(tuning, proposals, desk, "it failed")
    assert (closed, desk.told_of, Tuning.left) == (["it failed"], [("it failed", None)], 0)


def test_a_lost_desk_is_said_in_words_to_the_driver_and_ends_trials() -> None:
    def gone(*_: Any) -> Any:
        raise ray.exceptions.ActorDiedError

    lost = SimpleNamespace(remote=gone)
    desk = Desk("desk", SimpleNamespace(wish=lost, wish_one=lost, told=lost, tell=lost))
    for ask in (desk.told, lambda: desk.wish("Ctrl-C"), lambda: desk.wish("asha", 3)):
        with pytest.raises(DeskLost, match=r"no memory left.*cineray sweep FOLDER"):
            ask()
    assert desk.tell(3, {"state": "running"}) == NO_DRIVER


# ---- after the trials ------------------------------------------------------------------------------------------------


def test_a_finalist_that_cannot_be_measured_alone_is_told_of_and_the_sweep_goes_on(
    sweep_of: Callable[..., SweepFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_of(finalists=FinalistsConfig(most=2), failures=2)
    asked: list[int] = []

    def measure(_: Any, trial: Any, __: Any) -> dict[str, Any]:
        asked.append(trial.number)
        if len(asked) == 1:
            raise PlaceError("the store did not answer")
        if asked.count(0) == 2 and len(asked) == 2:
            raise UsageError("in finalists.seconds=1 it did no more than the warm-up")
        facts = {"figures": {"clips_per_s": {"value": 4.0}}}
        trial.keep("alone", facts)
        return facts

    monkeypatch.setattr(ray_sweep, "measure_alone", measure)
    monkeypatch.setattr(_Sweeping, "_chosen", lambda _: [0, 1])
    sweeping(sweep)._finalists()
    assert asked == [0, 0, 1], "what may pass is tried again, and what will not is not"
    told = write_results(sweep)
    said = "trial 0 could not be measured alone: UsageError: in finalists.seconds=1 it did no more than the warm-up"
    assert said in told["notes"]

    sweeping(sweep)._finalists()
    assert asked == [0, 0, 1, 0], "another start measures whom it lacks"
    assert said not in write_results(sweep)["notes"]


def test_an_interrupt_while_finalists_are_measured_is_no_failure_of_theirs(
    sweep_of: Callable[..., SweepFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: Any) -> dict[str, Any]:
        raise Interrupted("Ctrl-C")

    monkeypatch.setattr(ray_sweep, "measure_alone", measure)
    with pytest.raises(Interrupted, match="while finalists were measured; all trials are done"):
        sweeping(sweep_of(finalists=FinalistsConfig(most=1)))._finalists()


def test_trained_trials_without_an_evaluation_get_one_at_the_next_start(
    sweep_of: Callable[..., SweepFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_of(state="", judge=JudgeConfig(evaluate=EvaluateConfig(clips=2)))
    for trial in sweep.trials():
        trial.end("done", "it could not be evaluated: CUDA out of memory")
        Path(trial.run_uri(), "checkpoints").mkdir(parents=True)
    assert TrialRecord.read(sweep.trial(1)).why.endswith("CUDA out of memory")

    def evaluate(run: str, _: Any) -> dict[str, Any]:
        if "0000" in run:
            raise ValueError("still not")
        return {"metrics": {"flicker": {"value": 0.5}}}

    monkeypatch.setattr(ray_sweep, "evaluate_aside", evaluate)
    monkeypatch.setattr(ray_sweep, "steps_in", lambda _: [8])
    here = sweeping(sweep)
    here._evaluate_again()
    first, second = (TrialRecord.read(trial) for trial in sweep.trials())
    assert (first.why, second.why) == ("it could not be evaluated: CUDA out of memory", "")
    assert second.last["evaluate/flicker"] == 0.5
    assert here._board.news()[1] == ["trial 0: it could not be evaluated: ValueError: still not"]


def test_what_killed_drivers_left_on_this_machine_is_found_though_the_sweep_lies_in_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    here: Any = SimpleNamespace(uri="s3://bucket/sweeps/a")
    other: Any = SimpleNamespace(uri="s3://bucket/sweeps/b")
    left, others = (tempfile.mkdtemp(prefix=ray_tune._scratch_prefix(one)) for one in (here, other))
    assert (ray_tune.scratch_of(here), ray_tune.scratch_of(other)) == ([left], [others])
    ray_tune.remove_scratch(here)
    assert [path.name for path in tmp_path.iterdir()] == [Path(others).name]
