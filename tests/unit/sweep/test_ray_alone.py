"""Finalists again, alone: as they were in the sweep but for neighbours, for a few seconds, several times."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cineray.sweep import FinalistsConfig, ObjectiveSpec, SweepFolder, TrialBudget
from cineray.sweep.capacity import Share
from cineray.sweep.judging import definite
from cineray.sweep.measured import step_seconds
from cineray.sweep.trial_job import trial_job
from cineray.train import RunFolder, run_local
from cineray.train.ledger import last_of_each_step, read_all_rows
from cineray.train.stop import StopRequest

pytest.importorskip("ray")
from cineray.sweep import ray_alone


@pytest.fixture
def sweep(made: ModuleType, lake: str, tmp_path: Path) -> SweepFolder:
    """One trial, of stride 2."""
    job = definite(
        made.sweep_job(
            lake,
            objectives=(ObjectiveSpec(name="clips_per_s"),),
            budget=TrialBudget(steps=100),
            finalists=FinalistsConfig(seconds=1, warmup_seconds=0.5, repeats=2),
        )
    )
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    mine = trial_job(job, {"stride": 2}, share=Share(2.0, 1000))
    sweep.add_trial(0, values={"stride": 2}, fields={"recipe.sampling.stride": 2}, job=mine, rate_per_hour=3.6)
    return sweep


def test_it_is_the_trials_training_with_its_share_and_nothing_beside(sweep: SweepFolder) -> None:
    short = ray_alone.measuring_job(sweep.job(), sweep.trial(0))
    trial = sweep.trial(0).job()
    assert (short.recipe, short.model, short.feed) == (trial.recipe, trial.model, trial.feed)
    assert (short.feed.workers, short.feed.ahead_bytes) == (2, 1000)
    assert short.budget.seconds == 1.5, "its warm-up beside what is measured"
    assert not short.validation.is_on
    assert (short.checkpoint.every_steps, short.checkpoint.every_seconds, short.checkpoint.keep_best) == (None, None, 0)
    assert short.samples.every_steps == 0


@pytest.mark.slow
def test_only_ledgers_stay_and_figures_have_intervals(sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def plainly(job: Any, **how: Any) -> dict[str, Any]:
        return run_local(job.model_copy(update={"feed": job.feed.model_copy(update={"driver": "local"})}), **how)

    monkeypatch.setattr(ray_alone, "run_on_ray", plainly)
    trial = sweep.trial(0)
    facts = ray_alone.measure_alone(sweep.job(), trial, StopRequest())
    assert trial.kept("alone") == facts
    figure = facts["figures"]["clips_per_s"]
    assert 0 < figure["low"] <= figure["value"] <= figure["high"]
    assert (facts["repeats"], figure["n"]) == (2, sum(facts["steps"]))
    assert "cost_per_million_clips" in facts["figures"]
    for place in facts["runs"]:
        left = {path.name for path in Path(place).iterdir()}
        assert "ledger" in left
        assert not {"checkpoints", "ray", "compile-cache"} & left
    again = ray_alone.measure_alone(sweep.job(), trial, StopRequest())
    assert again["steps"] != facts["steps"] or again["figures"] != facts["figures"], "it was trained anew"


@pytest.mark.slow
def test_what_it_was_in_the_sweep_is_without_the_same_seconds_of_warm_up(
    made: ModuleType, lake: str, sweep: SweepFolder
) -> None:
    trial = sweep.trial(0)
    assert ray_alone.in_the_sweep(sweep.job(), trial) == {}, "it has no run any more"
    run_local(made.base_job(lake, steps=12, feed={"driver": "local"}), uri=trial.run_uri())
    rows = last_of_each_step(read_all_rows(RunFolder.open(trial.run_uri()).folder("ledger")))
    times = [step_seconds(row) for row in rows]

    def told(warmup_seconds: float) -> dict[str, float]:
        finalists = FinalistsConfig(warmup_seconds=warmup_seconds)
        return ray_alone.in_the_sweep(sweep.job().model_copy(update={"finalists": finalists}), trial)

    assert told(0.0)["clips_per_s"] == pytest.approx(4 * 12 / sum(times))
    assert told(sum(times[:5]))["clips_per_s"] == pytest.approx(4 * 7 / sum(times[5:]))
    assert told(sum(times) + 1) == {}, "it did not train for longer"
