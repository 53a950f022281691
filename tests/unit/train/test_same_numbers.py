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


@pytest.fixture(scope="module")
def alone(made: ModuleType) -> list[float]:
    return curve_of(made, steps=STEPS)


def test_the_same_seed_gives_the_same_losses_bit_for_bit(made: ModuleType, alone: list[float]) -> None:
    assert curve_of(made, steps=STEPS)[:10] == alone[:10]
    assert curve_of(made, steps=10, seed=4) != alone[:10]


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_taking_a_step_in_parts_changes_nothing(made: ModuleType, alone: list[float], micro_batch: int) -> None:
    in_parts = curve_of(made, steps=STEPS, micro_batch=micro_batch)[:20]
    assert in_parts == pytest.approx(alone[:20], abs=WITHIN)


@pytest.fixture(scope="module")
def two(together: Together) -> dict[str, list[dict[str, Any]]]:
    """What two processes found, with shares of 2 and 3 clips: all in one go, for starting them takes longest."""
    asked = {
        "ddp": {"what": "curve", "kind": "ddp", "steps": STEPS},
        "fsdp2": {"what": "curve", "kind": "fsdp2", "steps": SHORT},
        "ddp in parts": {"what": "curve", "kind": "ddp", "steps": SHORT, "micro_batch": 1},
        "fsdp2 in parts": {"what": "curve", "kind": "fsdp2", "steps": SHORT, "micro_batch": 1},
        "wishes": {"what": "wishes"},
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
    assert first["losses"] == pytest.approx(alone, abs=WITHIN)


def test_three_processes_with_uneven_shares_have_the_curve_of_one(together: Together, alone: list[float]) -> None:
    (ranks,) = together(3, {"what": "curve", "kind": "ddp", "steps": STEPS})
    assert [rank["own_clips"] for rank in ranks] == [1, 2, 2]
    assert ranks[2]["losses"] == pytest.approx(alone, abs=WITHIN)


@pytest.mark.parametrize("how", ["fsdp2", "ddp in parts", "fsdp2 in parts"])
def test_shared_out_weights_and_uneven_micro_batches_have_it_too(
    two: dict[str, list[dict[str, Any]]], short: list[float], how: str
) -> None:
    """Shares of 2 and 3 in micro-batches of 1: three parts each, of which the first process has one that counts not."""
    assert two[how][0]["losses"] == pytest.approx(short, abs=WITHIN)
    # In the warm-up the rates do not depend on how long the run is: gradients have the same length.
    assert two[how][0]["norms"][:4] == pytest.approx(two["ddp"][0]["norms"][:4], rel=1e-3)
    assert two[how][0]["placed"] == (["(Shard(dim=0),)"] if how.startswith("fsdp2") else [])


def test_all_processes_stop_at_the_step_at_which_one_was_told(two: dict[str, list[dict[str, Any]]]) -> None:
    first, second = two["wishes"]
    assert (first["next_step"], second["next_step"]) == (3, 3)
    assert (first["stopped"], second["stopped"]) == ("another process was told to stop", "SIGTERM")


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
    assert ranks[3]["losses"] == pytest.approx(short, abs=WITHIN)


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
