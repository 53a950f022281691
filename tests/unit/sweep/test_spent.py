"""What trials took, by their own ledgers: of all their runs, with every step, on whatever machines."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cineray.sweep import SweepFolder
from cineray.sweep.notes import lost, unlike_machines
from cineray.sweep.results import write_results
from cineray.sweep.spent import own_seconds, spent_by
from cineray.train import RunFolder, run_local
from cineray.train.ledger import read_all_rows


@pytest.fixture
def sweep(made: ModuleType, tmp_path: Path) -> SweepFolder:
    """Of trials that are only written down."""
    return SweepFolder.create(made.judged(made.sweep_job()), str(tmp_path / "sweep"))


@pytest.mark.slow
def test_every_step_counts_that_a_trial_took_itself(made: ModuleType, lake: str, sweep: SweepFolder) -> None:
    """It was stopped, and its last judgement was after a tenth of a second; its ledger knows of more."""
    trial = made.add_trial(sweep, 0, {"stride": 1}, made.report(1, 0.1), state="")
    run_local(made.base_job(lake, steps=6, feed={"driver": "local"}), uri=trial.run_uri())
    before = spent_by(trial)
    assert trial.kept("spent") is None, "it may still go on"
    trial.end("stopped")
    run = RunFolder.open(trial.run_uri())
    seconds = read_all_rows(run.folder("ledger"))[-1]["training_seconds"]
    told = write_results(sweep)
    assert told["trials"][0]["spent_seconds"] == pytest.approx(seconds, abs=1e-3)
    assert told["wasted"]["seconds_of_stopped"] == pytest.approx(seconds, abs=1e-3) != 0.1
    assert told["trials"][0]["seconds_by_cause"]["productive"] > 0
    assert (before.by_run.keys(), len(before.machines)) == ({"run"}, 1)
    assert spent_by(trial) == before, "kept, and read again"
    assert trial.kept("spent") is not None


@pytest.mark.slow
def test_what_a_killed_run_took_is_read_again_each_time(made: ModuleType, lake: str, sweep: SweepFolder) -> None:
    """Nothing says that it has ended: it may still be at work."""
    trial = made.add_trial(sweep, 0, {"stride": 1}, state="stopped")
    run_local(made.base_job(lake, steps=4, feed={"driver": "local"}), uri=trial.run_uri())
    (events,) = Path(trial.run_uri(), "events").glob("*.jsonl")
    lines = [line for line in events.read_text().splitlines() if json.loads(line)["event"] != "end"]
    events.write_text("".join(f"{line}\n" for line in lines))
    (attempt,) = Path(trial.run_uri(), "attempts").glob("*.json")
    told = json.loads(attempt.read_text())
    attempt.write_text(json.dumps(told | {"machine": {"processor": "a processor", "gpus": ["a GPU", "a GPU"]}}))
    assert spent_by(trial).machines == ("a GPU",)
    assert trial.kept("spent") is None


def test_a_step_that_was_done_again_counts_twice_and_a_donors_seconds_not_at_all() -> None:
    def row(attempt: int, step: int, clock: float, **told: float) -> dict[str, float]:
        between = {"checkpoint_s": 0.0, "validation_s": 0.0, "data_wait_s": 0.0}
        return {"attempt": attempt, "step": step, "training_seconds": clock, "step_s": 9.0, **between, **told}

    first = [row(1, 0, 1.0), row(1, 1, 2.0), row(1, 2, 3.0)]
    assert own_seconds(first) == 3.0, "as its clock says; the wait before the first step is in step_s alone"
    again = [row(2, 2, 4.5), row(2, 3, 6.0)]  # killed, and gone on from the checkpoint after step 1
    assert own_seconds([*again, *first]) == 3.0 + 2.5 + 1.5
    taken_over = [row(1, 75, 100.0, step_s=2.5, data_wait_s=1.5), row(1, 76, 101.0)]
    assert own_seconds(taken_over) == 1.0 + 1.0


def test_trials_on_different_machines_are_told() -> None:
    def trials(*machines: str) -> list[dict[str, Any]]:
        return [{"number": n, "state": "done", "machines": [kind]} for n, kind in enumerate(machines)]

    assert unlike_machines(trials("A100", "A100")) == []
    (note,) = unlike_machines(trials("A100", "H100", "A100"))
    assert "different machines (A100: trials 0, 2; H100: trial 1)" in note
    stopped = {"number": 3, "state": "stopped", "machines": ["T4"]}
    assert unlike_machines([*trials("A100"), stopped]) == [], "it is not compared with them"


def test_what_machines_failed_is_told_with_what_to_do() -> None:
    trials = [{"number": n, "state": state} for n, state in enumerate(("done", "lost", "failed", "lost"))]
    (note,) = lost(trials)
    assert note == "machines failed trials 1, 3 too often; `cineray sweep` with this sweep's folder tries again"
    assert lost(trials[:1]) == []
