"""Which trial is next: unfinished ones first, then new ones, and none when it is over, late, or somebody else's."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from cineray.sweep import Choice, SearchConfig, SweepFolder
from cineray.sweep.capacity import Share
from cineray.sweep.folder import SweepSuperseded
from cineray.sweep.judging import definite
from cineray.sweep.proposals import Proposals
from cineray.sweep.trial_folder import TrialFolder


@pytest.fixture
def sweep(made: ModuleType, lake: str, tmp_path: Path) -> SweepFolder:
    """A grid of three strides."""
    job = definite(made.sweep_job(lake, search=SearchConfig(kind="grid")))
    return SweepFolder.create(job, str(tmp_path / "sweep"))


def proposals(sweep: SweepFolder, asked: list[TrialFolder] | None = None) -> Proposals:
    told = asked if asked is not None else []
    return Proposals(sweep, sweep.begin_driver(), Share(2.0, 1000), told.append)


def test_each_trial_is_written_down_before_it_begins(sweep: SweepFolder) -> None:
    asked: list[TrialFolder] = []
    told = proposals(sweep, asked)
    assert [told.next(), told.next(), told.next(), told.next()] == [0, 1, 2, None]
    assert [trial.number for trial in asked] == [0, 1, 2]
    assert [trial.values for trial in sweep.trials()] == [{"stride": 1}, {"stride": 2}, {"stride": 4}]
    second = sweep.trial(1)
    assert second.facts["fields"] == {"recipe.sampling.stride": 2}
    assert second.facts["share"] == {"decode_cpus": 2.0, "object_store_bytes": 1000}
    assert second.job().recipe.sampling.stride == 2
    assert (second.job().feed.workers, second.job().feed.ahead_bytes) == (2, 1000)
    assert second.job().tracking.wandb_group == sweep.sweep_id


def test_unfinished_trials_are_handed_out_again_before_new_ones(sweep: SweepFolder) -> None:
    first = proposals(sweep)
    assert [first.next(), first.next()] == [0, 1]
    sweep.trial(0).end("done")
    again = proposals(sweep)
    assert [again.next(), again.next(), again.next()] == [1, 2, None]


def test_what_machines_failed_is_tried_again_by_another_start_of_the_sweep(sweep: SweepFolder) -> None:
    first = proposals(sweep)
    assert [first.next(), first.next()] == [0, 1]
    sweep.trial(0).end("lost", "failed 3 times")
    sweep.trial(0).keep("spent", {"by_run": {"run": 7.0}})
    sweep.trial(1).end("failed", "no such autoencoder")
    assert first.next() == 2, "not by the same one"
    again = proposals(sweep)
    assert [again.next(), again.next(), again.next()] == [0, 2, None]
    assert sweep.trial(0).ended() is None
    assert sweep.trial(0).kept("spent") is None, "it goes on"
    before = sweep.trial(0).kept("lost-0001")
    assert before is not None
    assert before["why"] == "failed 3 times"
    assert [event["trial"] for event in sweep.events() if event["event"] == "reopened"] == [0]
    sweep.trial(0).end("lost", "failed again")
    assert proposals(sweep).next() == 0
    assert sweep.trial(0).kept("lost-0002") is not None


def test_an_older_driver_begins_no_more_trials(sweep: SweepFolder) -> None:
    older = proposals(sweep)
    assert older.next() == 0
    newer = proposals(sweep)
    assert older.next() is None
    assert isinstance(older.superseded, SweepSuperseded)
    assert older.closed == "somebody started the sweep again"
    assert newer.next() == 0
    assert len(sweep.trials()) == 1


def test_no_trial_begins_once_the_sweep_is_to_stop(sweep: SweepFolder) -> None:
    told = proposals(sweep)
    told.close("SIGTERM")
    assert told.next() is None
    assert sweep.trials() == []


def test_no_trial_begins_after_the_time_of_the_sweep(
    made: ModuleType, lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = definite(made.sweep_job(lake, search=SearchConfig(kind="grid"), total_seconds=100))
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    told = proposals(sweep)
    assert told.next() == 0
    now = told._began
    monkeypatch.setattr("cineray.sweep.proposals.time.monotonic", lambda: now + 101)
    assert told.next() is None


def test_values_that_make_no_trial_are_written_down_as_failed(made: ModuleType, lake: str, tmp_path: Path) -> None:
    """A large space is not tried as a whole before it begins."""
    space = {"stride": Choice(field="recipe.sampling.stride", values=(1, 0, 2))}
    job = definite(made.sweep_job(lake, search=SearchConfig(kind="grid"), space=space))
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    told = proposals(sweep)
    assert [told.next(), told.next(), told.next()] == [0, 2, None]
    ended = sweep.trial(1).ended()
    assert ended is not None
    assert ended["state"] == "failed"
    assert "stride" in ended["why"]
