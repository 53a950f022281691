"""A sweep under Ray Tune. Trials are Tune's actors as always; what trains in them is the plain loop, which needs no
other processes: how a whole training under Ray Train ends in one is shown in tests/faults/test_sweep_kill.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cineray.errors import CinerayError, Interrupted, PlaceError, UsageError
from cineray.sweep import (
    Asha,
    Choice,
    FinalistsConfig,
    JudgeConfig,
    ObjectiveSpec,
    Pbt,
    SearchConfig,
    SweepFolder,
    SweepJob,
    TrialBudget,
    TrialRow,
)
from cineray.sweep.folder import SweepSuperseded
from cineray.train import RunFolder

pytest.importorskip("ray")
from cineray.sweep import ray_sweep, ray_tune
from cineray.sweep.ray_sweep import run_sweep
from cineray.sweep.ray_trial import SweptTrial
from cineray.telemetry.ray_session import connected

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
WRONG, DIES_ONCE, ALWAYS_DIES = 0.5, 0.25, 0.125
"""Learning rates with which something happens."""


@pytest.fixture(scope="module", autouse=True)
def a_ray() -> Iterator[None]:
    with connected(num_cpus=3, object_store_memory=160_000_000):
        yield


@pytest.fixture(autouse=True)
def plain_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class is made in here so that it is pickled whole: Ray's workers cannot import a test."""
    wrong, once, always = WRONG, DIES_ONCE, ALWAYS_DIES

    class Plainly(SweptTrial):
        @staticmethod
        def trainer() -> Any:
            def train(job: Any, *, uri: str, sinks: Sequence[Any], stop: Any) -> dict[str, Any]:
                import time

                from cineray.train import run_local

                rate = job.optimiser.lr
                if rate == wrong:
                    raise UsageError("no such autoencoder")
                if rate == always:
                    raise PlaceError("the store is on fire")

                class AsIf:
                    """Hands on what is judged, with the learning rate as the loss: so it is known who is better."""

                    def row(self, row: Mapping[str, Any]) -> None:
                        sinks[0].row(row)

                    def judged(self, step: int, metrics: Mapping[str, float]) -> None:
                        sinks[0].judged(step, {**metrics, "validation/headline": rate})
                        if rate == once and not os.path.exists(f"{uri}.died"):
                            open(f"{uri}.died", "w").close()
                            os._exit(1)
                        ends = time.monotonic() + 5 * (rate > 0.01)
                        while not stop.reason and time.monotonic() < ends:
                            time.sleep(0.05)  # those that are ended hear of it before they are done by themselves

                    def close(self, summary: Mapping[str, Any]) -> None:
                        sinks[0].close(summary)

                plain = job.model_copy(update={"feed": job.feed.model_copy(update={"driver": "local"})})
                return run_local(plain, uri=uri, sinks=[AsIf()], stop=stop)

            return train

    monkeypatch.setattr(ray_tune, "SweptTrial", Plainly)


class Seen:
    """A watcher."""

    def __init__(self) -> None:
        self.states: dict[int, list[str]] = {}
        self.said: list[str] = []
        self.closed = 0
        self.on_change: Callable[[Sequence[TrialRow]], None] = lambda _: None

    def changed(self, rows: Sequence[TrialRow]) -> None:
        for row in rows:
            course = self.states.setdefault(row.number, [])
            if not course or course[-1] != row.state:
                course.append(row.state)
        self.on_change(rows)

    def say(self, text: str) -> None:
        self.said.append(text)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def sweep_of(made: ModuleType, lake: str) -> Callable[..., SweepJob]:
    """Trials of 8 steps, judged after 4 and 8, one for each learning rate in turn."""

    def make(*rates: float, **told: Any) -> SweepJob:
        values: dict[str, Any] = {
            "space": {"lr": Choice(field="optimiser.lr", values=rates)},
            "budget": TrialBudget(steps=8),
            "objectives": (ObjectiveSpec(name="noisiest_loss"),),
            "judge": JudgeConfig(times=2),
            "search": SearchConfig(kind="grid"),
            "finalists": FinalistsConfig(most=0),
            "failures": 1,
            "retry_seconds": 0,
        }
        return made.sweep_job(lake, **(values | told))

    return make


def states(result: Mapping[str, Any]) -> dict[float, str]:
    return {trial["values"]["lr"]: trial["state"] for trial in result["trials"]}


def test_failures_by_config_are_marked_and_failures_by_machines_tried_again(
    sweep_of: Callable[..., SweepJob], tmp_path: Path
) -> None:
    seen = Seen()
    job = sweep_of(DIES_ONCE, WRONG, ALWAYS_DIES)
    result = run_sweep(job, uri=str(tmp_path / "sweep"), watchers=[seen])
    assert states(result) == {DIES_ONCE: "done", WRONG: "failed", ALWAYS_DIES: "lost"}
    why = {trial["values"]["lr"]: trial["why"] for trial in result["trials"]}
    assert why[WRONG] == "UsageError: no such autoencoder"
    assert why[ALWAYS_DIES] == "failed 2 times; the last time: PlaceError: the store is on fire"
    assert result["best"] == 0
    assert result["leaks"] == {"placement_groups": 0, "actors": 0, "store_bytes": 0, "disk_bytes": 0}
    assert not (tmp_path / "sweep" / "tune").exists() or not list((tmp_path / "sweep" / "tune").iterdir())

    sweep = SweepFolder.open(str(tmp_path / "sweep"))
    events = sweep.events()
    assert [event["trial"] for event in events if event["event"] == "retry"] == [0, 2]
    assert events[-1] == {"driver": 1, "at": events[-1]["at"], "event": "end", "reason": "done"}
    assert seen.states[0][0] == "waiting"
    assert seen.states[0][-1] == "done"
    assert "trial 1: failed: UsageError: no such autoencoder" in seen.said
    assert seen.closed == 1


def test_a_trial_that_asha_ends_saves_first_and_the_next_one_begins(
    sweep_of: Callable[..., SweepJob], tmp_path: Path
) -> None:
    job = sweep_of(1e-3, 0.05, scheduler=Asha(first=0.5))
    result = run_sweep(job, uri=str(tmp_path / "sweep"))
    assert states(result) == {1e-3: "done", 0.05: "stopped"}
    assert result["trials"][1]["why"].startswith("asha: noisiest loss was 0.05 after 4 step")
    assert result["trials"][1]["step"] == 4
    assert (result["pareto"], result["best"]) == ([0], 0)
    assert result["wasted"]["share"] > 0
    sweep = SweepFolder.open(str(tmp_path / "sweep"))
    reasons = [event["reason"] for event in RunFolder.open(sweep.trial(1).run_uri()).events() if "reason" in event]
    assert reasons == ["interrupted"], "it ended in order"


def test_a_population_goes_on_from_its_better_members(sweep_of: Callable[..., SweepJob], tmp_path: Path) -> None:
    pbt = Pbt(every=0.5, quantile=0.5, explore=("lr",), resample=0.0)
    result = run_sweep(
        sweep_of(0.1, 1e-3, scheduler=pbt, trials=2),
        uri=str(tmp_path / "sweep"),
    )
    sweep = SweepFolder.open(str(tmp_path / "sweep"))
    assert [trial["state"] for trial in result["trials"]] == ["done", "done"]
    first = [trial.values["lr"] for trial in sweep.trials()]
    worse, better = (0, 1) if first[0] > first[1] else (1, 0)
    taken = sweep.trial(worse).generations()
    assert len(sweep.trial(better).generations()) == 1
    assert len(taken) == 2
    assert (taken[1]["begins_from"]["run"], taken[1]["begins_from"]["step"]) == (sweep.trial(better).run_uri(), 4)
    assert taken[1]["values"]["lr"] != first[worse]
    assert [report["generation"] for report in sweep.trial(worse).reports()] == [1, 2]


def test_a_population_does_not_wait_for_a_member_that_fails(sweep_of: Callable[..., SweepJob], tmp_path: Path) -> None:
    pbt = Pbt(every=0.5, quantile=0.5, explore=("lr",), resample=0.0)
    job = sweep_of(1e-3, 2e-3, WRONG, scheduler=pbt, trials=3)
    result = run_sweep(job, uri=str(tmp_path / "sweep"))
    assert sorted(trial["state"] for trial in result["trials"]) == ["done", "done", "failed"]
    assert sum(len(trial.generations()) for trial in SweepFolder.open(str(tmp_path / "sweep")).trials()) == 4


def test_a_sweep_that_is_interrupted_goes_on_where_it_was(sweep_of: Callable[..., SweepJob], tmp_path: Path) -> None:
    job, uri = sweep_of(0.02), str(tmp_path / "sweep")
    seen = Seen()
    signals = iter([signal.SIGTERM])

    def at_its_first_judgement(rows: Sequence[TrialRow]) -> None:
        if rows[0].objectives:
            for number in signals:
                os.kill(os.getpid(), number)

    seen.on_change = at_its_first_judgement
    with pytest.raises(Interrupted, match=f"stopped by SIGTERM.*To go on: cineray sweep {uri}"):
        run_sweep(job, uri=uri, watchers=[seen])
    sweep = SweepFolder.open(uri)
    assert sweep.trial(0).ended() is None
    result = run_sweep(sweep.job(), uri=uri)
    assert [(trial["state"], trial["step"]) for trial in result["trials"]] == [("done", 8)]
    asked = [event for event in sweep.events() if event["event"] == "asked"]
    assert [(event["driver"], event["trial"]) for event in asked] == [(1, 0), (2, 0)]
    assert [event["reason"] for event in sweep.events() if event["event"] == "end"] == ["interrupted", "done"]
    attempts = [event["reason"] for event in RunFolder.open(sweep.trial(0).run_uri()).events() if "reason" in event]
    assert attempts == ["interrupted", "done"]


def test_of_two_drivers_the_newer_one_has_the_sweep(sweep_of: Callable[..., SweepJob], tmp_path: Path) -> None:
    uri = str(tmp_path / "sweep")
    seen = Seen()
    seen.on_change = lambda rows: _begin_another(uri) if len(rows) == 1 else None
    with pytest.raises(SweepSuperseded, match="was started again"):
        run_sweep(sweep_of(1e-3, 2e-3), uri=uri, watchers=[seen])
    assert len(SweepFolder.open(uri).trials()) == 1, "the older one has asked for no more"


def _begin_another(uri: str) -> None:
    sweep = SweepFolder.open(uri)
    if not [event for event in sweep.events() if event["driver"] == 2]:
        sweep.begin_driver()


def test_a_sweep_of_which_nothing_can_be_trained_says_the_first_reason(
    sweep_of: Callable[..., SweepJob], tmp_path: Path
) -> None:
    with pytest.raises(CinerayError, match=r"all 1 trials failed, the first one \(trial 0\) so: UsageError: no such"):
        run_sweep(sweep_of(WRONG), uri=str(tmp_path / "sweep"))
    assert (tmp_path / "sweep" / "sweep-result.json").exists()


def test_another_job_does_not_go_on_with_a_sweep(sweep_of: Callable[..., SweepJob], tmp_path: Path) -> None:
    ray_sweep.opened(sweep_of(1e-3), str(tmp_path / "sweep"))
    with pytest.raises(UsageError, match="begun with another job; what differs: space"):
        run_sweep(sweep_of(1e-3, 2e-3), uri=str(tmp_path / "sweep"))
