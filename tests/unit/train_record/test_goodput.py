"""Where a run's life went, over attempts that were killed; and the one line that says what to change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from cineray.train.goodput import CAUSES, account, set_aside
from cineray.train.ledger import last_of_each_step
from cineray.train.run_folder import RunFolder
from cineray.train.verdict import judge

Row = dict[str, Any]


def rows(attempt: int, steps: range, *, begin: float, step_s: float = 1.0, **changed: Any) -> list[Row]:
    """Steps one after the other; `at` is when each ended."""
    made = []
    for number, step in enumerate(steps):
        told: Row = {
            "attempt": attempt,
            "step": step,
            "at": begin + (number + 1) * step_s,
            "bucket": "16x64x64",
            "clips": 8,
            "frames": 128,
            "step_s": step_s,
            "compute_s": step_s,
            "data_wait_s": 0.0,
            "gpu_stall_s": math.nan,
            "checkpoint_s": 0.0,
            "validation_s": 0.0,
            "mfu": math.nan,
        }
        made.append(told | {name: value(step) if callable(value) else value for name, value in changed.items()})
    return made


def begin(attempt: int, at: float) -> Row:
    return {"attempt": attempt, "at": at, "event": "begin"}


def test_an_undisturbed_run_is_accounted_to_the_second() -> None:
    events = [
        begin(1, 0.0),
        {"attempt": 1, "at": 8.0, "event": "restored", "seconds": 3.0},
        {"attempt": 1, "at": 34.0, "event": "rest", "checkpoint": 2.0, "validation": 1.0},
        {"attempt": 1, "at": 34.0, "event": "end", "reason": "done"},
    ]
    done = rows(1, range(20), begin=10.0, data_wait_s=0.25, compute_s=0.75)
    done[-1] |= {"step_s": 2.0, "at": 31.0, "checkpoint_s": 0.5, "validation_s": 0.5}

    found = account(events, done)

    assert found["lifetime_s"] == pytest.approx(34.0)
    assert found["seconds"] == pytest.approx(
        dict.fromkeys(CAUSES, 0.0)
        | {
            "init": 7.0,
            "checkpoint_restore": 3.0,
            "data": 5.0,
            "checkpoint_save": 2.5,
            "evaluation": 1.5,
            "productive": 15.0,
        }
    )
    assert found["goodput"] == pytest.approx(15.0 / 34.0)


def test_what_a_kill_cost_is_said_by_cause() -> None:
    """Killed after step 14, 20 s of nothing, resumed from step 10: four steps done twice, two starts."""
    events = [begin(1, 0.0), begin(2, 45.0), {"attempt": 2, "at": 60.0, "event": "end", "reason": "done"}]
    done = rows(1, range(14), begin=11.0) + rows(2, range(10, 20), begin=50.0)

    found = account(events, done)

    assert (found["attempts"], found["steps_redone"]) == (2, 4)
    assert found["lifetime_s"] == pytest.approx(60.0)
    assert found["seconds"] == pytest.approx(
        dict.fromkeys(CAUSES, 0.0) | {"init": 16.0, "idle": 20.0, "lost_progress": 4.0, "productive": 20.0}
    )


def test_what_was_done_beyond_the_checkpoint_that_a_run_went_back_to_is_lost_though_it_is_not_done_again() -> None:
    """Killed after step 14, resumed from step 10 with only 12 steps to do."""
    events = [begin(1, 0.0), begin(2, 14.0), {"attempt": 2, "at": 16.0, "event": "end", "reason": "done"}]
    done = rows(1, range(14), begin=0.0) + rows(2, range(10, 12), begin=14.0)

    found = account(events, done)

    assert [(row["step"], row["attempt"]) for row in last_of_each_step(done)][9:] == [(9, 1), (10, 2), (11, 2)]
    assert (found["steps_redone"], found["seconds"]["lost_progress"]) == (4, pytest.approx(4.0))


def test_the_compilers_time_is_what_first_steps_took_too_long() -> None:
    def compute(step: int) -> float:
        return {0: 31.0, 1: 2.0}.get(step, 1.0)

    done = rows(1, range(10), begin=0.0, compute_s=compute, step_s=1.0)
    for one in done:
        one["step_s"] = one["compute_s"]

    assert account([begin(1, -1.0)], done)["seconds"]["compile"] == pytest.approx(31.0)


def test_on_a_gpu_waiting_is_what_the_device_felt() -> None:
    done = rows(1, range(10), begin=0.0, data_wait_s=0.9, gpu_stall_s=0.1)
    assert account([begin(1, 0.0)], done)["seconds"]["data"] == pytest.approx(1.0)


def test_an_attempt_that_never_made_a_step_is_all_loss() -> None:
    events = [begin(1, 0.0), {"attempt": 1, "at": 30.0, "event": "end", "reason": "failed: OutOfMemory"}]
    found = account(events, [])
    assert (found["goodput"], found["seconds"]["other"]) == (0.0, pytest.approx(30.0))


def test_what_others_decided_is_set_aside_and_the_rest_is_judged_alone() -> None:
    """Of 50 s 20 went into judgements: bound by them. Who has no say in them is told what else there is."""
    done = rows(1, range(20), begin=0.0, step_s=2.0, compute_s=0.9, data_wait_s=0.1, validation_s=1.0)
    told = account([begin(1, -10.0)], done)
    assert judge(done, told).bound == "validation"

    rest = set_aside(told, ["evaluation"])

    assert (rest["lifetime_s"], rest["goodput"]) == (pytest.approx(30.0), pytest.approx(18 / 30))
    assert judge(done, rest).bound == "data"
    assert judge(done, rest).text.endswith("goodput 60 % of 0:30")
    assert set_aside(told, []) == told


def test_a_run_that_was_never_started_has_no_life(run: RunFolder) -> None:
    from cineray.train.goodput import goodput_of

    assert goodput_of(run)["lifetime_s"] == 0.0


def judged(done: Sequence[Row], events: Sequence[Row] = ()) -> Any:
    return judge(done, account([begin(1, 0.0), *events], list(done)))


def test_a_run_that_waits_for_data_is_told_how_many_cores_it_lacks() -> None:
    verdict = judged(rows(1, range(20), begin=0.0, data_wait_s=0.5, compute_s=0.5))

    assert verdict.bound == "data"
    assert verdict.data_wait_fraction == pytest.approx(0.5)
    assert str(verdict).startswith("data-bound: 50 % of each step waits for batches; with 2.0 times the decoding cores")


def test_a_process_that_waits_for_data_is_found_though_the_others_seem_to_compute() -> None:
    done = rows(
        1, range(20), begin=0.0, compute_s=0.98, data_wait_s=0.02, longest_wait_s=0.5, longest_wait_rank=3, world_size=4
    )
    verdict = judged(done)

    assert (verdict.bound, verdict.data_wait_fraction) == ("data", pytest.approx(0.5))
    assert "50 % of each step waits for batches, mostly those of rank 3; with 2.0 times" in str(verdict)
    assert account([begin(1, 0.0)], done)["seconds"]["data"] == pytest.approx(10.0)


def test_a_run_that_decodes_in_turn_is_told_to_decode_beside_it() -> None:
    done = rows(1, range(20), begin=0.0, data_wait_s=0.5, compute_s=0.5)
    assert (
        "with feed.driver=torch or ray they come beside it"
        in judge(done, account([begin(1, 0.0)], done), driver="local").text
    )


def test_a_run_that_computes_all_the_time_is_told_so() -> None:
    verdict = judged(rows(1, range(20), begin=0.0, data_wait_s=0.02, compute_s=0.98, mfu=0.5))

    assert verdict.bound == "compute"
    assert "98 % of each step computes, 2.0 % waits for data, at 50 % MFU" in str(verdict)
    assert str(verdict).endswith("goodput 98 % of 0:20")
    assert verdict.clips_per_s == pytest.approx(8.0)


def test_a_device_that_computes_but_little_is_launch_bound() -> None:
    verdict = judged(rows(1, range(20), begin=0.0, mfu=0.1))
    assert verdict.bound == "launch"
    assert "compile=true" in str(verdict)


def test_checkpoints_that_hold_up_training_are_named() -> None:
    done = rows(1, range(20), begin=0.0, checkpoint_s=0.3, compute_s=0.7)
    assert judged(done).bound == "checkpoints"
    assert "30 % of the run" in str(judged(done))


def test_a_run_that_is_restarted_all_the_time_is_told_so() -> None:
    done = rows(1, range(10), begin=0.0) + rows(2, range(10, 20), begin=40.0)
    verdict = judge(done, account([begin(1, 0.0), begin(2, 40.0)], done))
    assert verdict.bound == "restarts"
    assert "passed between attempts" in str(verdict)


def test_a_few_steps_say_nothing() -> None:
    verdict = judged(rows(1, range(4), begin=0.0))
    assert (verdict.bound, str(verdict)[:13]) == ("unknown", "too few steps")
