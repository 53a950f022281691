"""A trial at work, without Ray: a small training by the plain loop in its thread, its reports, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cineray.errors import Interrupted, PlaceError, UsageError
from cineray.evaluate import EvaluateConfig
from cineray.sweep import FloatRange, JudgeConfig, ObjectiveSpec, Pbt, SweepFolder, SweepJob, TrialBudget
from cineray.sweep.at_work import TrialAtWork
from cineray.sweep.judging import definite
from cineray.sweep.reporting import report_of
from cineray.sweep.training import Ended, Judged, Training
from cineray.sweep.trial_folder import TrialFolder
from cineray.sweep.trial_job import trial_job
from cineray.train import RunFolder, run_local
from cineray.train.checkpoint_manifest import steps_in
from cineray.train.clip_losses import read_clip_losses
from cineray.train.recorder import summary_of
from cineray.train.run_folder import RunSuperseded
from cineray.train.stop import StopRequest

pytestmark = pytest.mark.slow
LR = FloatRange(field="optimiser.lr", low=1e-5, high=1e-1, log=True)


def plainly(job: Any, **how: Any) -> dict[str, Any]:
    """As `run_on_ray`, by the plain loop in this process."""
    return run_local(job.model_copy(update={"feed": job.feed.model_copy(update={"driver": "local"})}), **how)


@pytest.fixture
def begun(made: ModuleType, lake: str, tmp_path: Path) -> Callable[..., SweepFolder]:
    """A sweep of trials of 8 steps, judged after 4 and 8, with one trial per learning rate."""

    def make(*rates: float, **told: Any) -> SweepFolder:
        values: dict[str, Any] = {
            "space": {"lr": LR},
            "budget": TrialBudget(steps=8),
            "objectives": (ObjectiveSpec(name="noisiest_loss"),),
            "judge": JudgeConfig(times=2),
        }
        job: SweepJob = definite(made.sweep_job(lake, **(values | told)))
        sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
        for number, rate in enumerate(rates):
            mine = trial_job(job, {"lr": rate}, number=number)
            sweep.add_trial(number, values={"lr": rate}, fields={"optimiser.lr": rate}, job=mine, rate_per_hour=36.0)
        return sweep

    return make


def at_work(sweep: SweepFolder, number: int = 0, **told: Any) -> TrialAtWork:
    how: dict[str, Any] = {"train": plainly, "evaluate": _no_evaluation, "is_own_fault": _ours}
    return TrialAtWork(sweep, number, **(how | told))


def _no_evaluation(run: str, job: SweepJob) -> dict[str, Any]:
    raise AssertionError("not asked for")


def _ours(error: BaseException) -> bool:
    return isinstance(error, UsageError)


def reports(work: TrialAtWork) -> list[dict[str, Any]]:
    told = [work.next_report()]
    while not told[-1].get("done"):
        told.append(work.next_report())
    work.end("the test")
    return told


def test_each_judgement_is_a_report_and_the_last_says_that_it_is_done(begun: Callable[..., SweepFolder]) -> None:
    sweep = begun(1e-3)
    told = reports(at_work(sweep))
    trial = sweep.trial(0)
    assert [(one["trial"], one["generation"], one["step"], one["clips"], one["frames"]) for one in told] == [
        (0, 1, 4, 16, 64),
        (0, 1, 8, 32, 128),
    ]
    assert [one.get("done", False) for one in told] == [False, True]
    assert 0 < told[0]["seconds"] < told[1]["seconds"] < told[1]["wall_seconds"]
    assert told[1]["cost"] == pytest.approx(told[1]["seconds"] * 36 / 3600)
    judged = [event for event in RunFolder.open(trial.run_uri()).events() if event["event"] == "validated"]
    assert [one["validation/headline"] for one in told] == [one["metrics"]["validation/headline"] for one in judged]
    assert trial.reports() == [{name: value for name, value in one.items() if name != "done"} for one in told]
    kept = read_clip_losses(trial.run_uri())
    assert kept is not None, "for comparisons clip by clip, of the last judgement"
    assert (kept.step, len(kept.right)) == (8, 8)
    late = report_of(trial, step=4, metrics=judged[0]["metrics"], wall_seconds=1.0)
    assert (late["clips"], late["frames"]) == (16, 64), "however far the run has come since"
    ended = trial.ended()
    assert ended is not None
    assert (ended["state"], ended["why"]) == ("done", "")


def test_what_bounds_a_trial_is_not_what_the_sweep_asks_of_it(begun: Callable[..., SweepFolder]) -> None:
    """It is judged and saved as often as the sweep says; that takes most of this small one's life."""
    sweep = begun(1e-3)
    reports(at_work(sweep))
    trial = sweep.trial(0)
    run = RunFolder.open(trial.run_uri())
    seconds = summary_of(run)["seconds"]
    assert seconds["evaluation"] > 0
    assert seconds["checkpoint_save"] > 0
    own = sum(spent for cause, spent in seconds.items() if cause not in ("evaluation", "checkpoint_save"))
    told = report_of(trial, step=8, metrics={}, wall_seconds=1.0)
    assert told["goodput"] == pytest.approx(seconds["productive"] / own)
    assert told["bound"] not in ("validation", "checkpoints")
    searched = TrialFolder(trial.uri, {**trial.facts, "fields": {"checkpoint.every_seconds": 1}})
    own += seconds["checkpoint_save"]
    assert report_of(searched, step=8, metrics={}, wall_seconds=1.0)["goodput"] == pytest.approx(
        seconds["productive"] / own
    ), "what a search decides about counts"


def test_a_trial_that_is_told_to_end_saves_and_another_start_goes_on(begun: Callable[..., SweepFolder]) -> None:
    sweep = begun(1e-3)
    seen: list[Mapping[str, Any]] = []

    def tell(facts: Mapping[str, Any]) -> str:
        seen.append(facts)
        return "the test" if sweep.trial(0).reports() else ""

    work = at_work(sweep, tell=tell, train=_held_at_its_judgements)
    first, last = work.next_report(), work.next_report()
    work.end("the test")
    assert (first["step"], first.get("done"), last.get("interrupted")) == (4, None, True)
    assert last["done"]
    assert sweep.trial(0).ended() is None, "it is to go on another time"
    assert seen[-1]["state"] == "running"
    saved = steps_in(f"{sweep.trial(0).run_uri()}/checkpoints")
    told = reports(at_work(sweep))
    assert told[-1]["step"] == 8
    assert [one["step"] for one in sweep.trial(0).reports()] == [4, 8]
    restored = [event for event in RunFolder.open(sweep.trial(0).run_uri()).events() if event["event"] == "restored"]
    assert [event["step"] for event in restored] == [saved[-1]]
    assert told[-1]["wall_seconds"] > last["wall_seconds"], "the time of both starts"


class _Holding:
    """A sink that keeps a training at its first judgement until it is told to stop."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop

    def row(self, row: Mapping[str, Any]) -> None:
        pass

    def judged(self, step: int, metrics: Mapping[str, float]) -> None:
        while not self._stop.reason:
            time.sleep(0.01)

    def close(self, summary: Mapping[str, Any]) -> None:
        pass


def _held_at_its_judgements(job: Any, *, uri: str, sinks: list[Any], stop: StopRequest) -> dict[str, Any]:
    return plainly(job, uri=uri, sinks=[*sinks, _Holding(stop)], stop=stop)


def test_a_run_that_was_done_before_its_end_was_written_is_only_reported(begun: Callable[..., SweepFolder]) -> None:
    """The driver was killed in between."""
    sweep = begun(1e-3)
    plainly(sweep.trial(0).job(), uri=sweep.trial(0).run_uri())
    (told,) = reports(at_work(sweep))
    assert (told["step"], told["done"]) == (8, True)
    assert told["validation/headline"] > 0


@pytest.mark.parametrize("error", [Interrupted("Ctrl-C"), RunSuperseded("started again")])
def test_what_only_interrupts_leaves_the_trial_open(begun: Callable[..., SweepFolder], error: Exception) -> None:
    sweep = begun(1e-3)
    (told,) = reports(at_work(sweep, train=_raising(error)))
    assert (told["done"], told["interrupted"]) == (True, True)
    assert sweep.trial(0).ended() is None


def test_a_config_that_cannot_be_trained_is_marked(begun: Callable[..., SweepFolder]) -> None:
    sweep = begun(1e-3)
    (told,) = reports(at_work(sweep, train=_raising(UsageError("no such autoencoder"))))
    assert told == {"trial": 0, "done": True}
    ended = sweep.trial(0).ended()
    assert ended is not None
    assert (ended["state"], ended["why"]) == ("failed", "UsageError: no such autoencoder")


def test_what_a_machine_did_is_raised_for_another_try(begun: Callable[..., SweepFolder]) -> None:
    sweep = begun(1e-3)
    with pytest.raises(PlaceError, match="store did not answer"):
        at_work(sweep, train=_raising(PlaceError("the store did not answer"))).next_report()
    assert sweep.trial(0).ended() is None


def test_a_trial_that_is_tried_again_waits_first_and_can_be_told_to_stop(
    begun: Callable[..., SweepFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, clock, slept = begun(1e-3), [1000.0], []
    monkeypatch.setattr("cineray.sweep.at_work.time.time", lambda: clock[0])

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("cineray.sweep.at_work.time.sleep", sleep)
    seen: list[Mapping[str, Any]] = []

    def tell(facts: Mapping[str, Any]) -> str:
        seen.append(facts)
        return "the test" if len(seen) == 3 else ""

    failing = _raising(UsageError("it has begun"))
    (told,) = reports(at_work(sweep, train=failing, tell=tell, not_before=1001.2))
    assert (told["interrupted"], sweep.trial(0).ended(), slept) == (True, None, [0.5, 0.5])
    assert seen == [{"state": "waiting"}] * 3
    (told,) = reports(at_work(sweep, train=failing, not_before=1001.2))
    ended = sweep.trial(0).ended()
    assert ended is not None
    assert ended["why"] == "UsageError: it has begun"
    assert slept[2:] == [pytest.approx(0.2)]


def test_an_error_of_no_machine_that_comes_twice_without_a_step_in_between_is_the_trials_own(
    begun: Callable[..., SweepFolder],
) -> None:
    sweep = begun(1e-3, 2e-3)

    def start(number: int, error: Exception) -> list[dict[str, Any]]:
        work = at_work(
            sweep, number, train=_raising(error), may_be_the_machine=lambda error: isinstance(error, PlaceError)
        )
        return reports(work)

    for error in (RuntimeError("CUDA out of memory"), RuntimeError("another one"), PlaceError("no answer")):
        with pytest.raises(type(error)):
            start(0, error)
    for _ in range(3):
        with pytest.raises(PlaceError):
            start(1, PlaceError("the store did not answer"))
    assert [trial.ended() for trial in sweep.trials()] == [None, None]

    assert start(0, RuntimeError("another one"))[-1]["done"]
    ended = sweep.trial(0).ended()
    assert ended is not None
    assert (ended["state"], ended["why"]) == ("failed", "RuntimeError: another one")


def test_the_same_error_after_more_steps_may_be_another_ones(begun: Callable[..., SweepFolder]) -> None:
    sweep = begun(1e-3)
    told: dict[str, Any] = {"train": _raising(RuntimeError("once more")), "may_be_the_machine": lambda _: False}
    with pytest.raises(RuntimeError):
        at_work(sweep, **told).next_report()
    half = sweep.trial(0).job().model_copy(update={"steps": 4})
    plainly(half, uri=f"{sweep.trial(0).uri}/half")
    Path(f"{sweep.trial(0).uri}/half/checkpoints").rename(_made(Path(sweep.trial(0).run_uri())) / "checkpoints")
    with pytest.raises(RuntimeError):
        at_work(sweep, **told).next_report()
    assert sweep.trial(0).ended() is None


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_trial_that_is_told_to_end_before_it_begins_is_not_begun(begun: Callable[..., SweepFolder]) -> None:
    sweep = begun(1e-3)
    told = at_work(sweep, train=_raising(AssertionError("begun")), tell=lambda _: "Ctrl-C").next_report()
    assert (told["done"], told["interrupted"], sweep.trial(0).ended()) == (True, True, None)


def _raising(error: Exception) -> Callable[..., dict[str, Any]]:
    def train(*_: Any, **__: Any) -> dict[str, Any]:
        raise error

    return train


def test_a_finished_trial_is_evaluated_and_a_wrong_evaluation_does_not_undo_it(
    begun: Callable[..., SweepFolder],
) -> None:
    judge = JudgeConfig(times=1, evaluate=EvaluateConfig(clips=2))
    sweep = begun(1e-3, 2e-3, 3e-3, 4e-3, judge=judge)
    asked: list[str] = []

    def evaluate(run: str, job: SweepJob) -> dict[str, Any]:
        asked.append(run)
        return {"uri": f"{run}/evaluations/one", "metrics": {"flicker": {"value": 0.5}, "sharpness": {"value": None}}}

    trained, told = reports(at_work(sweep, evaluate=evaluate))
    assert (trained["step"], trained["last"]) == (8, True), "what it learnt is known before it is evaluated"
    assert told["evaluate/flicker"] == 0.5
    assert "evaluate/sharpness" not in told
    kept = sweep.trial(0).kept("evaluation")
    assert kept is not None
    assert asked == [sweep.trial(0).run_uri()]

    # What ours say stands as it is; of others the kind is told, too: a lost machine, memory, a metric's own error.
    others = {2: RuntimeError("CUDA out of memory"), 3: PlaceError("the store did not answer")}
    for number, error in ({1: UsageError("no held-out clips")} | others).items():
        assert reports(at_work(sweep, number, evaluate=_raising(error)))[-1]["done"]
    assert [(end["state"], end["why"]) for trial in sweep.trials()[1:] if (end := trial.ended())] == [
        ("done", "it could not be evaluated: no held-out clips"),
        ("done", "it could not be evaluated: RuntimeError: CUDA out of memory"),
        ("done", "it could not be evaluated: the store did not answer"),
    ]


def test_a_trial_takes_over_anothers_checkpoint_and_values(begun: Callable[..., SweepFolder]) -> None:
    sweep = begun(1e-3, 1e-2, scheduler=Pbt(explore=("lr",)))
    better = at_work(sweep, 0)
    better.next_report()
    pointer = better.pointer()
    better.end("the test")
    assert pointer == {"run": sweep.trial(0).run_uri(), "step": 4, "clips": 16, "frames": 64}

    worse = at_work(sweep, 1)
    worse.take_over(pointer, {"lr": 2e-3})
    told = reports(worse)
    trial = sweep.trial(1)
    assert [(one["generation"], one["step"], one["clips"]) for one in told][-1] == (2, 8, 32)
    second = trial.generations()[-1]
    assert (second["values"], second["begins_from"]["run"], second["begins_from"]["step"]) == (
        {"lr": 2e-3},
        pointer["run"],
        4,
    )
    assert trial.job().optimiser.lr == 2e-3
    assert trial.run_uri().endswith("run-0002")
    with_both = float(told[-1]["seconds"])
    assert with_both > float(sweep.trial(0).reports()[0]["seconds"]), "what the other had spent counts"

    worse = at_work(sweep, 1)
    worse.take_over(pointer, {"lr": 2e-3})
    assert len(trial.generations()) == 2, "told a second time, it is the same one"
    worse.take_over({"run": trial.run_uri(), "step": 8}, {"lr": 2e-3})
    assert len(trial.generations()) == 2, "its own checkpoint is no other's"


def test_a_checkpoint_that_was_tidied_away_is_replaced_by_the_next_one(
    begun: Callable[..., SweepFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begun(1e-3, 1e-2, scheduler=Pbt(explore=("lr",)))
    pointer = {"run": sweep.trial(0).run_uri(), "step": 2}
    for still_there in ([4, 8], [8]):
        monkeypatch.setattr("cineray.sweep.at_work.steps_in", lambda _, saved=still_there: saved)
        at_work(sweep, 1).take_over(pointer, {"lr": 2e-3})
    (_, second) = sweep.trial(1).generations()
    assert (second["begins_from"]["step"], second["begins_from"]["pointer"]["step"]) == (4, 2), "told twice, begun once"


# ---- the thread ------------------------------------------------------------------------------------------------------


def test_ending_a_training_waits_until_it_has_saved() -> None:
    happened: list[str] = []

    def train(job: Any, *, uri: str, sinks: list[Any], stop: Any) -> dict[str, Any]:
        sinks[0].judged(4, {"validation/headline": 0.5})
        while not stop.reason:
            pass
        happened.append(f"saved: {stop.reason}")
        raise Interrupted("stopped")

    training = Training(train, None, "here")  # type: ignore[arg-type]  # the job is only handed on
    judged = training.next(wait_seconds=10)
    assert judged == Judged(4, {"validation/headline": 0.5})
    assert training.next(wait_seconds=0) is None
    training.end("the sweep")
    assert happened == ["saved: the sweep"]
    ended = training.next(wait_seconds=0)
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, Interrupted)
