"""A sweep's folder is its only memory: what is written there is found again by whoever starts the sweep next."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from cineray.errors import UsageError
from cineray.storage import object_exists, put_object
from cineray.sweep import SweepFolder, is_sweep, new_sweep_uri
from cineray.sweep.folder import SweepSuperseded
from cineray.sweep.results import write_results
from cineray.sweep.tidy import tidy
from cineray.sweep.trial_record import TrialRecord, TrialRecords


@pytest.fixture
def sweep(made: ModuleType, tmp_path: Path) -> SweepFolder:
    return SweepFolder.create(made.judged(made.sweep_job()), str(tmp_path / "sweep"))


def test_a_sweep_is_found_again_with_its_job(sweep: SweepFolder, made: ModuleType) -> None:
    again = SweepFolder.open(sweep.uri)
    assert is_sweep(sweep.uri)
    assert (again.job(), again.sweep_id, again.name) == (made.judged(made.sweep_job()), sweep.sweep_id, "made")
    assert Path(sweep.uri, "sweep.yaml").read_text() == again.job_text()
    with pytest.raises(UsageError, match="there is a sweep at"):
        SweepFolder.create(again.job(), sweep.uri)
    with pytest.raises(UsageError, match=r"it has no sweep\.json"):
        SweepFolder.open(sweep.uri + "-elsewhere")


def test_a_sweep_knows_what_its_trials_are_judged_on(made: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"judge\.recipe is not given"):
        SweepFolder.create(made.sweep_job(), str(tmp_path / "sweep"))


def test_a_sweep_is_not_gone_on_with_as_another_one(sweep: SweepFolder, made: ModuleType) -> None:
    sweep.check_same(sweep.job())
    other = sweep.job().model_copy(update={"trials": 3, "failures": 0})
    with pytest.raises(UsageError, match="what differs: trials, failures"):
        sweep.check_same(other)


def test_places_of_new_sweeps_differ(made: ModuleType, tmp_path: Path) -> None:
    job = made.sweep_job(sweeps=str(tmp_path))
    assert new_sweep_uri(job) != new_sweep_uri(job)
    assert new_sweep_uri(job).startswith(str(tmp_path / "made-2"))


# ---- trials ----------------------------------------------------------------------------------------------------------


def test_a_trial_is_written_down_once(sweep: SweepFolder, made: ModuleType) -> None:
    first = sweep.add_trial(0, values={"stride": 1}, fields={}, job=made.base_job(), share={"decode_cpus": 2.0})
    again = sweep.add_trial(0, values={"stride": 4}, fields={}, job=made.base_job())
    sweep.add_trial(1, values={"stride": 2}, fields={}, job=made.base_job())
    assert (first.values, again.values) == ({"stride": 1}, {"stride": 1})
    assert [(trial.number, trial.values) for trial in sweep.trials()] == [(0, {"stride": 1}), (1, {"stride": 2})]
    assert sweep.trial(0).job() == made.base_job()
    assert sweep.trial(0).facts["share"] == {"decode_cpus": 2.0}
    assert sweep.trial(1).run_uri() == f"{sweep.uri}/trials/0001/run"


def test_a_trial_ends_once(sweep: SweepFolder, made: ModuleType) -> None:
    trial = sweep.add_trial(0, values={}, fields={}, job=made.base_job())
    assert trial.ended() is None
    assert trial.end("stopped", "asha")
    assert not trial.end("done")
    ended = trial.ended()
    assert ended is not None
    assert (ended["state"], ended["why"]) == ("stopped", "asha")


def test_what_a_restart_did_again_is_reported_once(sweep: SweepFolder, made: ModuleType) -> None:
    trial = sweep.add_trial(0, values={}, fields={}, job=made.base_job())
    killed, after = trial.open_reports(), None
    for step in (10, 20, 30):
        killed.add(made.report(step, step / 10))
    after = trial.open_reports()  # from the checkpoint of step 10, at another pace
    for step in (18, 40):
        after.add(made.report(step, step / 8))
    assert [(one["step"], one["seconds"]) for one in trial.reports()] == [(10, 1.0), (18, 2.25), (40, 5.0)]


def test_starts_that_are_alive_at_once_do_not_mix_their_reports(sweep: SweepFolder, made: ModuleType) -> None:
    trial = sweep.add_trial(0, values={}, fields={}, job=made.base_job())
    older, newer = trial.open_reports(), trial.open_reports()  # the older one does not know yet that it is replaced
    newer.add(made.report(10, 1.0))
    older.add(made.report(12, 9.0))
    newer.add(made.report(20, 2.0))
    assert [(one["step"], one["seconds"]) for one in trial.reports()] == [(10, 1.0), (20, 2.0)]


def test_a_trial_that_goes_on_from_anothers_checkpoint_keeps_both_courses(sweep: SweepFolder, made: ModuleType) -> None:
    trial = sweep.add_trial(0, values={"lr": 1}, fields={}, job=made.base_job())
    begun = {"values": {"lr": 2}, "job": made.base_job(seed=9), "begins_from": {"run": "other/run", "step": 20}}
    log = trial.open_reports()
    log.add(made.report(30, 3.0))
    assert trial.begin_generation(**begun)["generation"] == 2
    assert trial.begin_generation(**begun)["generation"] == 2, "told a second time, after a kill, it is the same one"
    log.add(made.report(25, 4.0) | {"generation": 2})
    assert [(one["generation"], one["step"]) for one in trial.reports()] == [(1, 30), (2, 25)]
    assert trial.run_uri().endswith("/run-0002")
    assert trial.run_uri(1).endswith("/run")
    assert (trial.job().seed, trial.job(1).seed) == (9, 0)
    assert TrialRecord.read(trial).values == {"lr": 2}


def test_a_trials_evaluation_completes_its_last_report(sweep: SweepFolder, made: ModuleType) -> None:
    trial = made.add_trial(sweep, 0, {"stride": 1}, made.report(10, 1.0), made.report(20, 2.0))
    trial.keep("evaluation", {"metrics": {"motion_ok": {"value": 0.75, "low": 0.5, "high": 0.9, "n": 64}}})
    (record,) = TrialRecords(sweep).read()
    assert record.is_over
    assert (record.last["step"], record.last["evaluate/motion_ok"]) == (20, 0.75)


def test_what_comes_after_a_trials_end_is_read_too(sweep: SweepFolder, made: ModuleType) -> None:
    trial = made.add_trial(sweep, 0, {"stride": 1}, made.report(10, 1.0), state="")
    records = TrialRecords(sweep)
    assert [one.state for one in records.read()] == [""]
    trial.end("done")
    assert [(one.state, one.alone) for one in records.read()] == [("done", {})]
    trial.keep("alone", {"figures": {}, "repeats": 2})
    assert [one.alone["repeats"] for one in records.read()] == [2]


@pytest.mark.network
def test_in_an_object_store_a_report_is_there_before_the_trials_end(made: ModuleType, s3_bucket: str) -> None:
    sweep = SweepFolder.create(made.judged(made.sweep_job()), f"{s3_bucket}/sweeps/b")
    trial = sweep.add_trial(0, values={"stride": 1}, fields={}, job=made.base_job())
    log, records = trial.open_reports(), TrialRecords(sweep)
    for step in (10, 20):
        log.add(made.report(step, step / 10))
        assert [one.last["step"] for one in records.read()] == [step]
    trial.end("done")
    assert [(one.state, one.last["step"]) for one in records.read()] == [("done", 20)]


@pytest.mark.network
def test_in_an_object_store_a_sweep_is_the_same(made: ModuleType, s3_bucket: str) -> None:
    sweep = SweepFolder.create(made.judged(made.sweep_job()), f"{s3_bucket}/sweeps/a")
    driver = sweep.begin_driver()
    driver.note("asked", trial=0)
    driver.close("done")
    made.add_trial(sweep, 0, {"stride": 2}, made.report(10, 1.0) | {"validation/skill_linear": 0.5})
    made.add_trial(sweep, 1, {"stride": 4}, made.report(10, 1.0), state="")
    weights = f"{sweep.trial(0).run_uri()}/checkpoints/step-1/model"
    put_object(weights, b"weights")
    again = SweepFolder.open(f"{s3_bucket}/sweeps/a")
    assert [event["event"] for event in again.events()] == ["begin", "asked", "end"]
    assert [(one.values, one.state) for one in TrialRecords(again).read()] == [
        ({"stride": 2}, "done"),
        ({"stride": 4}, ""),
    ]
    told = write_results(again)
    assert (told["best"], told["trials"][0]["run"]) == (0, "trials/0000/run")
    assert object_exists(f"{sweep.uri}/best.yaml")
    assert tidy(again, again.job(), best=1, finalists=[]) == [f"{sweep.trial(0).run_uri()}/checkpoints"]
    assert not object_exists(weights)


# ---- drivers ---------------------------------------------------------------------------------------------------------


def test_only_the_time_that_drivers_lived_counts(sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 100.0, 130.0, 5000.0, 5000.0, 5010.0, 5025.0])
    monkeypatch.setattr("cineray.sweep.folder.time.time", lambda: next(clock))
    sweep.begin_driver().note("asked", trial=0)  # and is killed
    second = sweep.begin_driver()
    second.note("asked", trial=1)
    second.close("done")
    assert [event["event"] for event in sweep.events()] == ["begin", "asked", "begin", "asked", "end"]
    assert sweep.wall_seconds() == 30.0 + 25.0


def test_a_driver_puts_back_what_a_kill_left_out(sweep: SweepFolder) -> None:
    Path(sweep.uri, "sweep.yaml").unlink()
    sweep.begin_driver()
    assert Path(sweep.uri, "sweep.yaml").read_text() == sweep.job_text()


def test_a_driver_finds_out_that_a_newer_one_has_the_sweep(sweep: SweepFolder) -> None:
    first = sweep.begin_driver()
    first.check_newest()
    second = sweep.begin_driver()
    second.check_newest()
    with pytest.raises(SweepSuperseded, match="was started again while this start of it was at work"):
        first.check_newest()
