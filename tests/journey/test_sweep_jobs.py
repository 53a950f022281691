"""The sweeps of jobs/: what their docstrings say to type works, all they may try is possible, a planted truth is found.

Sweeping itself takes minutes of two cores, so it runs when it is asked for:

    CINERAY_SWEEP=1 .venv/bin/python -m pytest tests/journey/test_sweep_jobs.py
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cineray.config import load_job, override
from cineray.sweep import SWEEP_KINDS, ObjectiveSpec, SweepJob
from cineray.sweep.check import check_sweep
from cineray.sweep.judging import definite
from cineray.sweep.objectives import objectives_of
from cineray.sweep.pareto import best_of
from cineray.sweep.space import combination, grid_size
from cineray.train.ledger import last_of_each_step, read_all_rows

JOBS = Path(__file__).resolve().parents[2] / "jobs"
SWEEPS = ["sweep_learning_rate.py", "sweep_temporal_sampling.py"]

asked_for = pytest.mark.skipif(not os.environ.get("CINERAY_SWEEP"), reason="minutes of two cores; set CINERAY_SWEEP=1")


def commands_of(name: str) -> list[list[str]]:
    """The words of each command of a job's docstring, without those that go on over a line's end."""
    return [line.split() for line in re.findall(r"^    cineray (.*[^\\])$", (JOBS / name).read_text(), flags=re.M)]


def run(words: list[str], folder: Path) -> dict[str, Any]:
    line = [sys.executable, "-m", "cineray", *(word.replace("jobs/", f"{JOBS}/") for word in words), "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lakes lie that the jobs name, made by the docstrings' own commands: fewer videos, all else the same."""
    folder = tmp_path_factory.mktemp("sweep-jobs")
    for name in SWEEPS:
        demo = commands_of(name)[0]
        assert demo[0] == "demo"
        videos = [] if os.environ.get("CINERAY_SWEEP") else ["--videos", "40"]
        run([*demo, *videos], folder)
    return folder


def job_of(name: str, *, quick: bool) -> SweepJob:
    job = load_job(JOBS / name, SWEEP_KINDS)
    assert isinstance(job, SweepJob)
    return override(job, job.quick) if quick else job


def test_every_sweep_of_the_folder_is_known_here() -> None:
    assert sorted(path.name for path in JOBS.glob("sweep_*.py")) == SWEEPS


@pytest.mark.parametrize("quick", [False, True], ids=["whole", "quick"])
@pytest.mark.parametrize("name", SWEEPS)
def test_all_that_a_sweeps_space_allows_can_be_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, quick: bool
) -> None:
    monkeypatch.chdir(folder)
    check_sweep(definite(job_of(name, quick=quick)))


@pytest.mark.parametrize("name", SWEEPS)
def test_quick_is_six_trials_one_of_each_kind(name: str) -> None:
    job = job_of(name, quick=True)
    assert (job.trials, grid_size(job.space), job.search.kind) == (6, 6, "grid")


def test_everyone_is_asked_for_the_same_instants_in_real_time() -> None:
    """Eight frames, a twentieth of a second apart: what stride 1 shows of videos with 20 frames a second, and no other
    trial of the quick sweep trains on."""
    job = job_of("sweep_temporal_sampling.py", quick=True)
    asked = job.judge.sampling
    assert asked is not None
    assert (asked.mode, asked.fps, asked.frames) == ("fps", "20", 8)
    tried = [combination(job.space, number) for number in range(6)]
    assert {(one["frames"], one["stride"]) for one in tried} == {(f, s) for f in (4, 8) for s in (1, 2, 8)}


# ---- the planted truth -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(folder: Path) -> dict[str, Any]:
    return run(["sweep", "jobs/sweep_temporal_sampling.py", "--quick", "--sweep", "sweeps/found"], folder)


@asked_for
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
class TestPlantedTruth:
    """One disk, a lap in 0.8 s: looked at every 0.4 s it goes in either direction."""

    def test_all_six_trials_had_the_whole_budget_in_less_than_ten_minutes(self, swept: dict[str, Any]) -> None:
        assert [trial["state"] for trial in swept["trials"]] == ["done"] * 6
        assert all(abs(trial["seconds"] - 18) < 3 for trial in swept["trials"])
        assert swept["wall_seconds"] < 600
        assert not any(swept["leaks"].values())

    def test_quality_alone_finds_that_every_frame_is_needed(self, swept: dict[str, Any]) -> None:
        best = swept["trials"][swept["best"]]
        assert (best["values"]["frames"], best["values"]["stride"]) == (8, 1)

    def test_a_stride_of_half_a_lap_is_worse_than_every_other(self, swept: dict[str, Any]) -> None:
        loss = {trial["number"]: value(trial, "noisiest_loss") for trial in swept["trials"]}
        halves = {trial["number"] for trial in swept["trials"] if trial["values"]["stride"] == 8}
        assert min(loss[n] for n in halves) > max(loss[n] for n in loss if n not in halves)

    def test_who_wants_speed_first_gets_fewer_frames_and_still_no_half_laps(self, swept: dict[str, Any]) -> None:
        job = job_of("sweep_temporal_sampling.py", quick=True)
        speed = [ObjectiveSpec(name="clips_per_s", tolerance=0.15), ObjectiveSpec(name="noisiest_loss")]
        objectives = objectives_of(job.model_copy(update={"objectives": tuple(speed)}))
        trials = {t["number"]: {one.name: in_the_sweep(t, one.name) for one in objectives} for t in swept["trials"]}
        fast = swept["trials"][best_of(trials, objectives)]
        assert (fast["values"]["frames"], fast["values"]["stride"] < 8) == (4, True)
        assert trials[fast["number"]]["clips_per_s"] > trials[swept["best"]]["clips_per_s"]

    def test_the_best_trains_as_it_is(self, swept: dict[str, Any], folder: Path) -> None:
        sets = ["--set", "steps=4", "--set", "validation.every_steps=4", "--set", "feed.driver=local"]
        told = run(["train", f"{swept['sweep']}/best.yaml", *sets], folder)
        assert told["step"] == 4


POPULATION = (
    *("scheduler={kind: pbt, every: 0.5, quantile: 0.5, explore: [lr]}", "search.kind=random", "trials=2"),
    *("budget={steps: 60}", "judge.times=2", "finalists.most=0"),
)


@asked_for
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_of_two_learning_rates_the_worse_goes_on_from_the_betters_checkpoint(folder: Path) -> None:
    """Population-based training of whole trainings, each under Ray Train in Ray Tune: judged after 30 steps of 60."""
    sets = [word for told in POPULATION for word in ("--set", told)]
    told = run(["sweep", "jobs/sweep_learning_rate.py", "--quick", "--sweep", "sweeps/population", *sets], folder)
    assert [trial["state"] for trial in told["trials"]] == ["done"] * 2
    assert not any(told["leaks"].values())
    (worse,) = (trial for trial in told["trials"] if trial["lineage"])
    better = told["trials"][1 - worse["number"]]
    taken, own = worse["lineage"]
    assert (taken["trial"], taken["values"], taken["to_step"]) == (better["number"], better["values"], 30)
    assert (own["trial"], own["from_step"]) == (worse["number"], 30)
    assert own["values"]["lr"] != better["values"]["lr"]
    run_of = Path(told["sweep"]) / worse["run"]
    rows = last_of_each_step(read_all_rows(str(run_of / "ledger")))
    assert [row["step"] for row in rows] == list(range(30, 60)), "nothing of the first half is done again"
    assert worse["clips"] == 60 * worse["values"]["batch"]


def value(trial: dict[str, Any], objective: str) -> float:
    return float(trial["objectives"][objective]["value"])


def in_the_sweep(trial: dict[str, Any], objective: str) -> float:
    """Beside others, as all of them were measured."""
    return float(trial["objectives"][objective].get("in_the_sweep") or value(trial, objective))
