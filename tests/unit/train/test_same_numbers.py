"""The same run, whoever computes it: one process or several, in one part or many, and every time again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from cineray.train.diffusion_task import DiffusionTask
from cineray.train.loop import Loop, NoRecord, StepFacts
from cineray.train.parallel import World
from cineray.train.setup import make_learner

WITHIN = 1e-3
"""What is promised of a whole curve."""
AT_FIRST = 1e-5
"""And of its first steps: all that differs is the order of sums, 1e-6 in ten steps, which then grows as it must."""
STEPS, SHORT = 50, 10

Together = Callable[..., list[list[dict[str, Any]]]]


class Curve(NoRecord):
    def __init__(self) -> None:
        self.facts: list[StepFacts] = []

    def stepped(self, facts: StepFacts, batch: Any) -> None:
        self.facts.append(facts)


def curve_of(made: ModuleType, **fields: Any) -> list[float]:
    job = made.job_of(**fields)
    task, curve = DiffusionTask(job), Curve()
    size = job.recipe.batch_size
    Loop(
        job,
        task,
        make_learner(job, task, World()),
        lambda steps: made.made_batches(steps, size=size),
        world=World(),
        recorder=curve,
    ).run()
    return [facts.loss for facts in curve.facts]


def have_the_same_curve(found: list[float], wanted: list[float]) -> None:
    assert found[:SHORT] == pytest.approx(wanted[:SHORT], abs=AT_FIRST)
    assert found == pytest.approx(wanted, abs=WITHIN)


@pytest.fixture(scope="module")
def alone(made: ModuleType) -> list[float]:
    return curve_of(made, steps=STEPS)


def test_the_same_seed_gives_the_same_losses_bit_for_bit(made: ModuleType, alone: list[float]) -> None:
    assert curve_of(made, steps=STEPS)[:10] == alone[:10]
    assert curve_of(made, steps=10, seed=4) != alone[:10]


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_taking_a_step_in_parts_changes_nothing(made: ModuleType, alone: list[float], micro_batch: int) -> None:
    have_the_same_curve(curve_of(made, steps=STEPS, micro_batch=micro_batch)[:20], alone[:20])


@pytest.fixture(scope="module")
def two(together: Together) -> dict[str, list[dict[str, Any]]]:
    """What two processes found, with shares of 2 and 3 clips: all in one go, for starting them takes longest."""
    asked = {
        "ddp": {"what": "curve", "kind": "ddp", "steps": STEPS},
        "fsdp2": {"what": "curve", "kind": "fsdp2", "steps": SHORT},
        "ddp in parts": {"what": "curve", "kind": "ddp", "steps": SHORT, "micro_batch": 1},
        "fsdp2 in parts": {"what": "curve", "kind": "fsdp2", "steps": SHORT, "micro_batch": 1},
        "fsdp2 judged": {"what": "curve", "kind": "fsdp2", "steps": SHORT, "judged": True},
        "ddp in bf16": {"what": "curve", "kind": "ddp", "steps": SHORT, "precision": "bf16"},
        "fsdp2 in bf16": {"what": "curve", "kind": "fsdp2", "steps": SHORT, "precision": "bf16"},
        "shares of ddp": {"what": "shares", "kind": "ddp"},
        "shares of fsdp2": {"what": "shares", "kind": "fsdp2"},
        "wishes": {"what": "wishes"},
        "timed": {"what": "timed"},
    }
    return dict(zip(asked, together(2, *asked.values()), strict=True))


@pytest.fixture(scope="module")
def short(made: ModuleType) -> list[float]:
    return curve_of(made, steps=SHORT)


def test_two_processes_with_uneven_shares_have_the_curve_of_one(
    two: dict[str, list[dict[str, Any]]], alone: list[float]
) -> None:
    first, second = two["ddp"]
    assert (first["own_clips"], second["own_clips"]) == (2, 3)
    assert first["losses"] == second["losses"]
    have_the_same_curve(first["losses"], alone)


def test_three_processes_with_uneven_shares_have_the_curve_of_one(together: Together, alone: list[float]) -> None:
    (ranks,) = together(3, {"what": "curve", "kind": "ddp", "steps": STEPS})
    assert [rank["own_clips"] for rank in ranks] == [1, 2, 2]
    have_the_same_curve(ranks[2]["losses"], alone)


@pytest.mark.parametrize("how", ["fsdp2", "ddp in parts", "fsdp2 in parts"])
def test_shared_out_weights_and_uneven_micro_batches_have_it_too(
    two: dict[str, list[dict[str, Any]]], short: list[float], how: str
) -> None:
    """Shares of 2 and 3 in micro-batches of 1: three parts each, of which the first process has one that counts not."""
    have_the_same_curve(two[how][0]["losses"], short)
    # In the warm-up the rates do not depend on how long the run is: gradients have the same length.
    assert two[how][0]["norms"][:4] == pytest.approx(two["ddp"][0]["norms"][:4], rel=1e-3)
    assert two[how][0]["placed"] == (["(Shard(dim=0),)"] if how.startswith("fsdp2") else [])


def test_weights_that_are_shared_out_are_judged_by_their_average_and_train_on_unharmed(
    two: dict[str, list[dict[str, Any]]],
) -> None:
    """A block's weights stay gathered after a forward pass: those of the average must not be taken for its own."""
    assert two["fsdp2 judged"][0]["losses"] == two["fsdp2"][0]["losses"]


def test_in_bf16_one_process_two_with_copies_and_two_with_shares_learn_the_same(
    made: ModuleType, two: dict[str, list[dict[str, Any]]], short: list[float]
) -> None:
    """Autocast, or weights gathered as bf16: not the numbers of fp32 (it is computed otherwise), and not far from them;
    noise levels, losses and the optimiser stay in fp32."""
    alone = curve_of(made, steps=SHORT, precision="bf16")
    for losses in (alone, two["ddp in bf16"][0]["losses"], two["fsdp2 in bf16"][0]["losses"]):
        assert 3e-6 < max(abs(a - b) for a, b in zip(losses, short, strict=True)) < WITHIN
    assert two["fsdp2 in bf16"][0]["placed"] == ["(Shard(dim=0),)"]


def test_weights_that_are_shared_out_are_never_whole_on_a_device(two: dict[str, list[dict[str, Any]]]) -> None:
    """Built in main memory; only its share of each goes to a process's device, whoever still names the whole ones."""
    for rank in two["shares of ddp"]:
        assert (rank["moved"], rank["own"]) == (["cpu"], rank["whole"])
    shared = two["shares of fsdp2"]
    assert [rank["moved"] for rank in shared] == [[], []]
    assert sum(rank["own"] for rank in shared) == shared[0]["whole"]
    assert [rank["still_held_whole"] for rank in shared] == [0, 0]


def test_every_process_knows_who_waited_longest_for_data(two: dict[str, list[dict[str, Any]]]) -> None:
    """All others wait for that one, in their sums: its waiting is what a step waited, not theirs."""
    assert [rank["longest_wait"] for rank in two["ddp"]] == [[11.0, 1], [11.0, 1]]


def test_all_processes_stop_at_the_step_at_which_one_was_told(two: dict[str, list[dict[str, Any]]]) -> None:
    first, second = two["wishes"]
    assert (first["next_step"], second["next_step"]) == (3, 3)
    assert (first["stopped"], second["stopped"]) == ("another process was told to stop", "SIGTERM")


def test_all_processes_end_and_are_judged_by_the_first_ones_clock(two: dict[str, list[dict[str, Any]]]) -> None:
    first, second = two["timed"]
    assert first == second
    assert (first["next_step"], first["judged"]) == (12, [4, 7, 10, 12])
    assert first["rates"][8] > first["rates"][9] > first["rates"][11]


@pytest.mark.slow
def test_a_run_may_go_on_with_more_and_with_fewer_processes(together: Together, tmp_path: Path) -> None:
    """Three with shared weights, then one alone, then two with copies: weights, average and optimisers come along."""
    told = {"what": "begun", "where": str(tmp_path / "state"), "steps": 12}
    parts = [
        together(3, {"kind": "fsdp2", "stop_after": 4, **told})[0][0],
        together(1, {"kind": "none", "stop_after": 8, **told})[0][0],
        together(2, {"kind": "ddp", "stop_after": 0, **told})[0][1],
    ]
    whole = together(1, {"kind": "none", "stop_after": 0, **told, "where": str(tmp_path / "whole")})[0][0]
    assert [step for part in parts for step in part["steps"]] == list(range(12))
    assert [loss for part in parts for loss in part["losses"]] == pytest.approx(whole["losses"], abs=WITHIN)
    assert parts[-1]["average"] == pytest.approx(whole["average"], rel=1e-3)


@pytest.mark.slow
def test_copies_of_shares_have_the_curve_of_one(together: Together, short: list[float]) -> None:
    """hsdp with four processes: two copies of the weights, each in two shares."""
    (ranks,) = together(4, {"what": "curve", "kind": "hsdp", "steps": SHORT})
    assert ranks[0]["placed"] == ["(Replicate(), Shard(dim=0))"]
    have_the_same_curve(ranks[3]["losses"], short)


def test_a_clips_noise_follows_its_slot_and_step_alone(made: ModuleType) -> None:
    job = made.job_of()
    task = DiffusionTask(job)
    model = task.build().eval()
    inputs = task.inputs(made.made_batch(2))
    whole = task.clip_losses(model, inputs, 2)
    alone = torch.cat([task.clip_losses(model, inputs.cut(b, b + 1, 1), 2) for b in range(5)])
    assert torch.allclose(whole, alone, atol=1e-6)
    assert not torch.allclose(whole, task.clip_losses(model, inputs, 3), rtol=1e-2)
    elsewhere = replace(inputs, slots_B=inputs.slots_B + 5)
    assert not torch.allclose(whole, task.clip_losses(model, elsewhere, 2), rtol=1e-2)
