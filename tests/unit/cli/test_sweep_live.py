"""A sweep while it goes on: one table on a terminal, trials at work first; a JSON line per change everywhere else."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from cineray.cli.sweep_live import SweepLive, in_order
from cineray.config import check
from cineray.sweep import SweepJob, TrialRow

JOB = check(
    SweepJob,
    {
        "name": "sampling",
        "base": {"name": "base", "steps": 10, "recipe": {"datasets": [{"lake": "lake"}], "batch_size": 4}},
        "space": {"stride": {"kind": "choice", "field": "recipe.sampling.stride", "values": [1, 2]}},
        "objectives": [{"name": "skill"}, {"name": "evaluate/direction_accuracy"}],
        "budget": {"seconds": 60},
        "judge": {"evaluate": {}},
    },
)


def row(number: int, state: str, **more: Any) -> TrialRow:
    return TrialRow(number=number, values={"stride": 2, "batch_size": 8}, state=state, budget=60.0, **more)


ROWS = [
    row(0, "done", spent=60.0, step=400, objectives={"skill": 0.7012}),
    row(1, "failed", why="batch_size is 0"),
    row(2, "running", spent=15.0, step=90, objectives={"skill": 0.31}, verdict="bound by data"),
    row(3, "waiting"),
]


def shown(rows: list[TrialRow], **size: int) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=True, **size)  # type: ignore[arg-type]
    live = SweepLive(JOB, console=console)
    out = io.StringIO()
    Console(file=out, width=size["width"]).print(live.table(rows))
    live.close()
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]


def test_a_terminal_shows_each_trial_with_what_it_reached_those_at_work_first() -> None:
    head, columns, *lines = shown(ROWS, width=140, height=40)

    assert head[6:] == "0 sweep sampling: 4 trials, 1 done, 1 failed, 1 running, 1 waiting"
    assert columns == "trial state budget skill direction accuracy values what bounds it, or why it ended"
    assert lines == [
        "2 running 25 % 0.31 stride 2, batch size 8 bound by data",
        "1 failed 0 % stride 2, batch size 8 batch_size is 0",
        "0 done 100 % 0.701 stride 2, batch size 8 -",
        "3 waiting 0 % stride 2, batch size 8 -",
    ]


def test_a_small_terminal_shows_as_many_trials_as_it_has_lines_for_and_leaves_reasons_out() -> None:
    many = [row(number, "done", spent=60.0) for number in range(30)]

    head, columns, *lines = shown(many, width=80, height=10)

    assert "30 trials" in head
    assert columns.endswith("values")
    assert [line.split()[0] for line in lines] == ["29", "28", "27", "26", "25", "24"]


def test_the_table_is_gone_when_the_sweep_is_over_and_what_was_said_stays() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=20, highlight=False)
    live = SweepLive(JOB, console=console)
    live.changed(ROWS)
    live.say("trial 1 [failed]")
    live.close()

    printed: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert "4 trials" in printed
    assert "trial 1 [failed]" in printed
    assert printed.rindex("\x1b[2K") > printed.rindex("4 trials")  # erased


def test_what_is_not_known_is_no_figure() -> None:
    (line,) = shown([row(0, "running", objectives={"skill": float("nan")})], width=80, height=40)[2:]
    assert line == "0 running 0 % stride 2, batch size 8"


def test_texts_of_the_data_are_no_markup_and_no_commands_to_the_terminal() -> None:
    (line,) = shown([row(0, "lost", why="[red]gone[/] \x1b[2J")], width=160, height=40)[2:]
    assert line.endswith("[red]gone[/] \\x1b[2J")


def test_where_no_terminal_is_each_change_of_a_trial_is_one_json_line() -> None:
    stream = io.StringIO()
    live = SweepLive(JOB, stream=stream)

    live.changed(ROWS[:1])
    live.changed([ROWS[0], row(1, "running", spent=30.0, objectives={"skill": float("nan")})])
    live.say("trial 0 is over")
    live.close()

    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    values = {"stride": 2, "batch_size": 8}
    assert told == [
        {"trial": 0, "state": "done", "objectives": {"skill": 0.7012}, "spent_seconds": 60.0, "step": 400}
        | {"values": values},
        {"trial": 1, "state": "running", "objectives": {"skill": None}, "spent_seconds": 30.0, "step": 0}
        | {"values": values},
        {"said": "trial 0 is over"},
    ]


@pytest.mark.parametrize("state", ["judging", "measured alone"])
def test_trials_that_are_judged_or_measured_are_at_work(state: str) -> None:
    assert [one.number for one in in_order([row(0, state), row(1, "done"), row(2, "waiting")])] == [0, 1, 2]
