"""What came out: who won at equal budget, by which figures, as a table, a job and one JSON object."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

from cineray.config import load_job
from cineray.errors import PlaceError
from cineray.evaluate import EvaluateConfig
from cineray.evaluate.evaluation import write_evaluation
from cineray.report.sweep_record import read_sweep
from cineray.sweep import (
    Asha,
    Choice,
    FloatRange,
    JudgeConfig,
    NodePrice,
    ObjectiveSpec,
    Pbt,
    PricesConfig,
    SweepFolder,
    TrialFolder,
)
from cineray.sweep import tidy as tidying
from cineray.sweep.results import result_of, write_results
from cineray.sweep.tidy import NEVER_CHOSEN, bytes_left, tidy, tidy_ended
from cineray.sweep.trial_record import TrialRecords
from cineray.train.job_kinds import JOB_KINDS

SPACE = {
    "stride": Choice(field="recipe.sampling.stride", values=(1, 2, 4)),
    "patch": Choice(field="model.patch", values=([1, 8, 8], [1, 4, 4])),
}


# ---- the files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sweep(made: ModuleType, tmp_path: Path) -> SweepFolder:
    """Three trials that reached their budget, one that was stopped, one that could not be trained, one at work."""
    specs = (ObjectiveSpec(name="skill", tolerance=0.1), ObjectiveSpec(name="clips_per_s"))
    job = made.judged(made.sweep_job(space=SPACE, objectives=specs))
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    driver = sweep.begin_driver()

    def add(number: int, stride: int, *skills: float, pace: float = 10.0, state: str = "done") -> TrialFolder:
        told = [
            made.report(
                10 * at, 2.5 * at, clips_per_s=pace, data_wait_fraction=0.1, verdict="compute-bound", cost=at / 10
            )
            | {"validation/skill_linear": skill}
            for at, skill in enumerate(skills, start=1)
        ]
        found: TrialFolder = made.add_trial(sweep, number, {"stride": stride, "patch": [1, 8, 8]}, *told, state=state)
        return found

    add(0, 1, 0.1, 0.2, 0.3, 0.40)
    add(1, 2, 0.2, 0.4, 0.6, 0.70, pace=20.0)
    add(2, 4, 0.2, 0.4, 0.6, 0.69, pace=30.0).keep(
        "alone", {"figures": {"clips_per_s": {"value": 33.0, "low": 32.0, "high": 34.0, "n": 50}}}
    )
    add(3, 1, 0.05, state="stopped")
    add(4, 2, state="failed")
    add(5, 4, math.nan, state="")
    driver.note("capacity", concurrent=3, limited_by="CPU")
    driver.note("leaks", placement_groups=0, actors=0, store_bytes=0)
    driver.close("done")
    return sweep


def test_the_result_says_who_won_and_by_which_figures(sweep: SweepFolder) -> None:
    told = write_results(sweep)
    assert json.loads(Path(sweep.uri, "sweep-result.json").read_text()) == told, "plain values, and nothing that is NaN"
    assert (told["pareto"], told["best"], told["best_job"]) == ([1, 2], 2, "best.yaml")
    first, best = told["trials"][1], told["trials"][2]
    assert told["concurrent"] == 3
    assert best["objectives"]["clips_per_s"] == {
        **{"value": 33.0, "low": 32.0, "high": 34.0, "n": 50},
        **{"measured": "alone", "in_the_sweep": 30.0, "in_the_sweep_warm": None},
    }
    assert first["objectives"]["clips_per_s"]["measured"] == "in the sweep"
    assert [point["skill"] for point in first["curve"]] == [0.2, 0.4, 0.6, 0.7]
    assert (best["best"], best["pareto"], first["best"]) == (True, True, False)
    assert [trial["state"] for trial in told["trials"]] == ["done", "done", "done", "stopped", "failed", "running"]
    assert told["trials"][5]["objectives"] == {"clips_per_s": told["trials"][5]["objectives"]["clips_per_s"]}
    assert told["leaks"] == {"placement_groups": 0, "actors": 0, "store_bytes": 0}
    assert told["trials"][2]["run"] == "trials/0002/run"


def test_what_was_measured_alone_is_told_also_when_nobody_chose_by_it(made: ModuleType, tmp_path: Path) -> None:
    job = made.judged(made.sweep_job(objectives=(ObjectiveSpec(name="noisiest_loss"),)))
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    report = made.report(10, 10.0, clips_per_s=100.0) | {"validation/headline": 0.1}
    figures = {"clips_per_s": {"value": 300.0, "low": 290.0, "high": 310.0, "n": 9}}
    trial = made.add_trial(sweep, 0, {"stride": 1}, report)
    trial.keep("alone", {"figures": figures, "in_the_sweep": {"clips_per_s": 250.0}, "repeats": 3})
    told = write_results(sweep)
    alone = {**figures["clips_per_s"], "measured": "alone", "in_the_sweep": 100.0, "in_the_sweep_warm": 250.0}
    assert told["trials"][0]["figures"] == {"clips_per_s": alone}
    assert list(told["trials"][0]["objectives"]) == ["noisiest_loss"]
    (row,) = pq.read_table(Path(sweep.uri, "trials.parquet")).to_pylist()
    assert [row[f"alone/clips_per_s/{part}"] for part in ("value", "low", "high")] == [300.0, 290.0, 310.0]
    shown = read_sweep(sweep.uri, told).trials[0]
    assert shown.value("clips_per_s") == 300.0, "as the page draws it"
    assert shown.alone["clips_per_s"].said("") == "290 to 310, alone; 250 in the sweep, as warm"


def test_seconds_of_trials_that_made_no_candidate_are_told(sweep: SweepFolder) -> None:
    wasted = write_results(sweep)["wasted"]
    seconds = {"seconds_of_stopped": 2.5, "seconds_of_failed": 0.0, "seconds_of_replaced": 0.0}
    assert wasted == seconds | {"share": 2.5 / (3 * 10 + 2.5 + 2.5)}


def test_what_machines_cost_and_what_all_of_it_came_to_are_told(sweep: SweepFolder) -> None:
    prices = PricesConfig(currency="EUR", nodes={"a": NodePrice(per_hour=36, cpus=4)}, train="a")
    priced = sweep.job().model_copy(update={"prices": prices})
    told = result_of(sweep, priced, TrialRecords(sweep).read())
    assert told["prices"]["currency"] == "EUR"
    lives = sum(trial["wall_seconds"] or 0.0 for trial in told["trials"])
    assert told["bill"] == {"training": 0.0, "whole": pytest.approx(3.6 / 3600 * lives)}, "these trials have no ledgers"
    assert lives > 0
    assert write_results(sweep)["prices"] is None


def test_the_table_has_a_row_per_trial(sweep: SweepFolder) -> None:
    told = write_results(sweep)
    table = pq.read_table(Path(sweep.uri, "trials.parquet")).to_pylist()
    assert [row["number"] for row in table] == [0, 1, 2, 3, 4, 5]
    assert (table[2]["values/stride"], table[2]["values/patch"]) == (4, "[1, 8, 8]")
    assert (table[2]["objectives/clips_per_s/low"], table[2]["objectives/clips_per_s/measured"]) == (32.0, "alone")
    assert table[4]["objectives/skill/value"] is None
    assert [row["best"] for row in table].index(True) == told["best"]


def test_the_best_trial_is_a_job_as_it_lies_there(sweep: SweepFolder) -> None:
    write_results(sweep)
    job = load_job(Path(sweep.uri, "best.yaml"), JOB_KINDS)
    assert (job.name, job.steps, job.recipe.sampling.stride) == ("made-best", 40, 4)  # type: ignore[attr-defined]


def test_trials_that_could_not_be_chosen_are_told(sweep: SweepFolder, made: ModuleType) -> None:
    (note,) = write_results(sweep)["notes"]
    assert note.startswith("clips per second of trial 2 was measured alone, of trials 0, 1 in the sweep, beside others")
    without_pace = made.report(3, 10.0, clips_per_s=math.nan) | {"validation/skill_linear": 0.9}
    made.add_trial(sweep, 6, {"stride": 1, "patch": [1, 4, 4]}, without_pace)
    told = write_results(sweep)
    assert told["notes"][0].startswith(
        "clips per second is not known of 1 of 4 trials that had the whole budget (6), so"
    )
    assert (told["pareto"], told["best"]) == ([1, 2], 2)


def test_trials_one_at_a_time_had_nobody_beside_them(sweep: SweepFolder) -> None:
    drivers = Path(sweep.uri, "drivers")
    for log in (path for path in drivers.rglob("*") if path.is_file()):
        log.write_text(re.sub('"concurrent": ?3', '"concurrent": 1', log.read_text()))
    told = write_results(sweep)
    assert told["concurrent"] == 1
    (note,) = told["notes"]
    assert "of trials 0, 1 in the sweep, one trial at a time, with their first seconds: two" in note


@pytest.mark.parametrize("name", ["goodput", "wall_seconds"])
def test_what_cannot_be_measured_alone_is_told(made: ModuleType, tmp_path: Path, name: str) -> None:
    job = made.judged(made.sweep_job(objectives=(ObjectiveSpec(name="skill"), ObjectiveSpec(name=name))))
    (note,) = write_results(SweepFolder.create(job, str(tmp_path / "sweep")))["notes"]
    assert "is as it was in the sweep, beside other trials, and is not measured alone: it counts" in note


def test_budgets_that_were_not_equal_are_told(sweep: SweepFolder, made: ModuleType) -> None:
    for number, seconds in ((6, 10.5), (7, 13.0), (8, 8.0)):
        told = made.report(40, seconds) | {"validation/skill_linear": 0.1}
        made.add_trial(sweep, number, {"stride": 1, "patch": [1, 4, 4]}, told)
    note = write_results(sweep)["notes"][0]
    assert note.startswith("budgets are not quite equal: of theirs spent trials 7 (130%), 8 (80%);")


def test_clips_of_an_evaluation_are_found_from_the_sweeps_folder(sweep: SweepFolder) -> None:
    trial = sweep.trial(2)
    place = f"{trial.run_uri()}/evaluations/step-00000040"
    shown = {"file": "clips/0000.mp4", "real_file": "", "name": "a", "label": "left", "caption": None, "facts": {}}
    write_evaluation(place, {"format": 1, "samples": [shown]}, {}, {})
    trial.keep("evaluation", {"uri": place, "metrics": {}})
    expected = {"file": "trials/0002/run/evaluations/step-00000040/clips/0000.mp4", "name": "a", "label": "left"}
    assert write_results(sweep)["trials"][2]["samples"] == [expected | {"caption": None}]
    Path(place, "evaluation.json").write_text("{")
    assert write_results(sweep)["trials"][2]["samples"] == [], "what is damaged there does not cost the result"


def test_figures_of_an_evaluation_come_with_their_intervals(made: ModuleType, tmp_path: Path) -> None:
    judge = JudgeConfig(evaluate=EvaluateConfig())
    specs = (ObjectiveSpec(name="evaluate/motion_ok"), ObjectiveSpec(name="evaluate/speed_error"))
    job = made.judged(made.sweep_job(objectives=specs, judge=judge))
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    trial = made.add_trial(sweep, 0, {"stride": 1}, made.report(10, 1.0))
    unknown = {"value": None, "low": None, "high": None, "n": 0}
    known = {"value": 0.75, "low": 0.5, "high": 0.9, "n": 64}
    trial.keep("evaluation", {"metrics": {"motion_ok": known, "speed_error": unknown}})
    (told,) = write_results(sweep)["trials"]
    assert told["objectives"] == {"evaluate/motion_ok": known | {"measured": "in the sweep"}}


def test_a_sweep_that_has_not_ended_has_a_result_too(made: ModuleType, tmp_path: Path) -> None:
    sweep = SweepFolder.create(made.judged(made.sweep_job()), str(tmp_path / "sweep"))
    told = write_results(sweep)
    assert (told["trials"], told["pareto"], told["best"], told["importance"]) == ([], [], None, {})
    assert not Path(sweep.uri, "best.yaml").exists()


@pytest.mark.parametrize(("keep", "left"), [("all", {0, 1, 2, 3, 5}), ("finalists", {1, 2, 5}), ("best", {2, 5})])
def test_a_finished_sweep_keeps_the_weights_that_it_was_told_to(sweep: SweepFolder, keep: str, left: set[int]) -> None:
    for number in (0, 1, 2, 3, 5):
        weights = Path(sweep.trial(number).run_uri(), "checkpoints", "step-1", "model")
        weights.parent.mkdir(parents=True)
        weights.write_text("weights")
        Path(sweep.trial(number).run_uri(), "ledger").mkdir()
    tidy(sweep, sweep.job().model_copy(update={"keep": keep}), best=2, finalists=[1, 2])
    there = {n for n in range(6) if list(Path(sweep.trial(n).run_uri()).glob("checkpoints/*/model"))}
    assert there == left, "trial 5 has not ended and will go on"
    assert all(Path(sweep.trial(number).run_uri(), "ledger").is_dir() for number in (0, 1, 2, 3, 5))


def weights_of(trial: TrialFolder) -> Path:
    """As a training leaves them."""
    weights = Path(trial.run_uri(), "checkpoints", "step-1", "model")
    weights.parent.mkdir(parents=True)
    weights.write_text("weights")
    return weights


def test_a_sweep_that_chose_nobody_keeps_all_that_may_still_be_chosen(made: ModuleType, tmp_path: Path) -> None:
    """Nobody knows how the trials stand by an objective; their weights are all that there is to find it out by."""
    objectives = (ObjectiveSpec(name="skill"), ObjectiveSpec(name="mfu"))
    job = made.judged(made.sweep_job(objectives=objectives))
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    states = ("done", "stopped", "failed")
    kept = [
        weights_of(made.add_trial(sweep, number, {"stride": 1}, made.report(8, 9.0), state=state))
        for number, state in enumerate(states)
    ]
    result = write_results(sweep)
    tidy(sweep, job, best=result["best"], finalists=[])
    assert [path.exists() for path in kept] == [True, False, False], "those without the whole budget cannot be chosen"
    told = "no trial was chosen, so all that are done keep their checkpoints, though keep is finalists"
    assert result["notes"][-1] == told


@pytest.mark.parametrize("state", ["done", "stopped", "data-bound", "failed", "lost", ""])
@pytest.mark.parametrize(
    ("keep", "scheduler"), [("finalists", Asha()), ("all", Asha()), ("best", Pbt(explore=("stride",)))]
)
def test_weights_of_a_trial_that_cannot_be_chosen_go_while_others_train(
    made: ModuleType, tmp_path: Path, state: str, keep: str, scheduler: Any
) -> None:
    job = made.judged(made.sweep_job(keep=keep, scheduler=scheduler))
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    trial = made.add_trial(sweep, 0, {"stride": 1}, made.report(8, 9.0), state=state)
    weights = weights_of(trial)
    tidy_ended(trial, job)
    assert weights.exists() == (keep != "finalists" or state in ("done", "lost", ""))
    kept: dict[str, Any] = {"best": None, "finalists": []}
    assert bytes_left(sweep, job, **kept) == (7 if weights.exists() and keep == "best" and state in NEVER_CHOSEN else 0)
    tidy(sweep, job, **kept)
    assert bytes_left(sweep, job, **kept) == 0


def test_a_trial_that_still_has_to_be_evaluated_keeps_its_weights(made: ModuleType, tmp_path: Path) -> None:
    """Its evaluation failed: the next start of the sweep makes it, of these weights."""
    job = made.judged(made.sweep_job(judge=JudgeConfig(evaluate=EvaluateConfig())))
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    trials = [made.add_trial(sweep, number, {"stride": 1}, made.report(8, 9.0)) for number in range(3)]
    for trial in trials[:2]:
        trial.keep("evaluation", {"metrics": {}})
    weights = [weights_of(trial) for trial in trials]
    tidy(sweep, job, best=0, finalists=[0])
    assert [path.exists() for path in weights] == [True, False, True]
    assert bytes_left(sweep, job, best=0, finalists=[0]) == 0


def test_weights_that_nobody_keeps_are_counted_wherever_they_lie(sweep: SweepFolder) -> None:
    """Of a finalist's measurement that was killed, and of a trial whose weights could not be removed."""
    kept, left = weights_of(sweep.trial(2)), weights_of(sweep.trial(0))
    stray = Path(sweep.trial(2).place("alone/1/checkpoints/step-1/model"))
    stray.parent.mkdir(parents=True)
    stray.write_text("stray")
    assert kept.exists()
    assert bytes_left(sweep, sweep.job(), best=2, finalists=[1, 2]) == len(left.read_text()) + len("stray")


def test_a_folder_that_cannot_be_removed_does_not_keep_the_others(
    sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = [weights_of(sweep.trial(number)) for number in (0, 3)]
    remove = tidying.delete_object

    def refusing(uri: str, *, recursive: bool) -> None:
        if "0000" in uri:
            raise PlaceError("the store did not answer")
        remove(uri, recursive=recursive)

    monkeypatch.setattr(tidying, "delete_object", refusing)
    with pytest.raises(PlaceError, match="did not answer"):
        tidy(sweep, sweep.job(), best=2, finalists=[1, 2])
    assert [path.exists() for path in weights] == [True, False]


def test_a_population_keeps_its_weights_while_a_member_may_go_on(population: SweepFolder) -> None:
    """The member's next generation may begin from any of them."""
    weights = Path(population.trial(1).run_uri(), "checkpoints", "step-20", "model")
    weights.parent.mkdir(parents=True)
    weights.write_text("weights")
    job = population.job()
    made_lost = population.add_trial(2, values={"lr": 0.1}, fields={}, job=population.trial(0).job(), rate_per_hour=1.0)
    made_lost.end("lost", "its machines failed it")
    tidy(population, job, best=0, finalists=[0])
    assert weights.exists()
    made_lost.reopen()
    made_lost.end("failed", "")
    tidy(population, job, best=0, finalists=[0])
    assert not weights.exists()


def test_a_trial_that_lost_its_machines_keeps_its_weights(sweep: SweepFolder, made: ModuleType) -> None:
    lost = weights_of(made.add_trial(sweep, 6, {"stride": 1, "patch": [1, 8, 8]}, state="lost"))
    failed = weights_of(made.add_trial(sweep, 7, {"stride": 1, "patch": [1, 8, 8]}, state="failed"))
    tidy(sweep, sweep.job(), best=2, finalists=[1, 2])
    assert (lost.exists(), failed.exists()) == (True, False)


# ---- populations -----------------------------------------------------------------------------------------------------


@pytest.fixture
def population(made: ModuleType, tmp_path: Path) -> SweepFolder:
    """Trial 0 went on from trial 1's step 20 with another rate; and from its own, once more, at 30."""
    space = {"lr": FloatRange(field="optimiser.lr", low=0.01, high=1.0, log=True)}
    job = made.judged(made.sweep_job(space=space, scheduler=Pbt(explore=("lr",))))
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    worse = made.add_trial(sweep, 0, {"lr": 0.1}, made.report(20, 5.0) | {"validation/skill_linear": 0.1}, state="")
    better = made.add_trial(sweep, 1, {"lr": 0.2}, made.report(40, 10.0) | {"validation/skill_linear": 0.5})
    for values, run, step in (({"lr": 0.25}, better.run_uri(), 20), ({"lr": 0.3}, worse.place("run-0002"), 30)):
        worse.begin_generation(values=values, job=made.base_job(), begins_from={"run": run, "step": step})
    log = worse.open_reports()
    log.add(made.report(40, 10.0) | {"validation/skill_linear": 0.6, "generation": 3})
    worse.end("done")
    return sweep


def test_of_a_population_it_is_told_what_best_yaml_is_and_what_it_is_not(population: SweepFolder) -> None:
    told = write_results(population)
    assert told["best"] == 0
    assert [trial["lineage"] for trial in told["trials"]] == [
        [
            {"trial": 1, "values": {"lr": 0.2}, "from_step": 0, "to_step": 20},
            {"trial": 0, "values": {"lr": 0.25}, "from_step": 20, "to_step": 30},
            {"trial": 0, "values": {"lr": 0.3}, "from_step": 30, "to_step": None},
        ],
        [],
    ]
    came_by = "trial 1 to step 20 (lr 0.2), then trial 0 to step 30 (lr 0.25), then trial 0 to its end (lr 0.3)"
    assert told["notes"] == [
        f"trial 0 is of a population, and its values changed on the way: {came_by}. best.yaml has its last values for "
        "all steps, from the start, which nobody has trained: it may do better or worse. The trial's own weights are "
        "in trials/0000/run-0003"
    ]
    text = Path(population.uri, "best.yaml").read_text()
    comment = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))
    assert comment.startswith(f"Of trial 0 of the sweep sweep. It came to its figures by {came_by}.")
    assert comment.endswith("nobody has trained that, and it may do better or worse.")
    job = load_job(Path(population.uri, "best.yaml"), JOB_KINDS)
    assert (job.optimiser.lr, job.steps) == (0.3, 40)  # type: ignore[attr-defined]


def test_best_yaml_of_a_trial_that_trained_from_the_start_says_nothing_of_that(sweep: SweepFolder) -> None:
    write_results(sweep)
    first, second = Path(sweep.uri, "best.yaml").read_text().splitlines()[:2]
    assert first == "# Of trial 2 of the sweep sweep."
    assert not second.startswith("#")
