"""How all trials are getting on, for those who watch: rows follow reports, progress and ends, and come when changed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from cineray.sweep import ObjectiveSpec, SweepFolder, TrialBudget
from cineray.sweep.board import Board


@pytest.fixture
def sweep(made: ModuleType, tmp_path: Path) -> SweepFolder:
    job = made.judged(
        made.sweep_job(
            objectives=(ObjectiveSpec(name="skill"), ObjectiveSpec(name="clips_per_s")), budget=TrialBudget(seconds=40)
        )
    )
    made_sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    made.add_trial(made_sweep, 0, {"stride": 1}, made.report(10, 20.0, **{"validation/skill_linear": 0.3}))
    made.add_trial(made_sweep, 1, {"stride": 2}, state="")
    return made_sweep


def test_rows_are_what_the_folders_say_and_come_once(sweep: SweepFolder) -> None:
    board = Board(sweep.job())
    for trial in sweep.trials():
        board.show(trial)
    rows, said = board.news()
    assert rows is not None
    assert [(row.number, row.state, row.step, row.spent, row.budget, row.unit) for row in rows] == [
        (0, "done", 10, 20.0, 40.0, "seconds"),
        (1, "waiting", 0, 0.0, 40.0, "seconds"),
    ]
    assert rows[0].objectives == {"skill": 0.3, "clips_per_s": 2.0}
    assert said == []
    assert board.news() == (None, []), "nothing is new"


def test_progress_reports_and_the_end_change_a_row(made: ModuleType, sweep: SweepFolder) -> None:
    board = Board(sweep.job())
    for trial in sweep.trials():
        board.show(trial)
    board.progress({1: {"state": "running", "step": 5, "seconds": 9.0}, 7: {"state": "running"}})
    rows, _ = board.news()
    assert rows is not None
    assert (rows[1].state, rows[1].step, rows[1].spent) == ("running", 5, 9.0)

    board.report(1, made.report(8, 15.0, **{"validation/skill_linear": 0.4}))
    board.progress({1: {"state": "running", "step": 7, "seconds": 14.0}})
    rows, _ = board.news()
    assert rows is not None
    assert (rows[1].step, rows[1].spent, rows[1].objectives["skill"]) == (8, 15.0, 0.4), "what is older does not count"

    board.change(1, state="stopped", why="asha: worse")
    board.progress({1: {"state": "running", "step": 9, "seconds": 16.0}})
    board.say("trial 1: stopped")
    rows, said = board.news()
    assert rows is not None
    assert (rows[1].state, rows[1].why, rows[1].step) == ("stopped", "asha: worse", 8)
    assert said == ["trial 1: stopped"]


def test_what_is_no_number_is_not_shown(made: ModuleType, sweep: SweepFolder) -> None:
    board = Board(sweep.job())
    board.show(sweep.trial(1))
    board.report(1, made.report(8, 15.0) | {"clips_per_s": None})
    rows, _ = board.news()
    assert rows is not None
    assert rows[0].objectives == {}
