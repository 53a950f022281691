"""What a sweep may be told: contradictions are refused by the names of the fields, and a record gives the same job."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from cineray.config import check, job_from_yaml, job_to_yaml, override
from cineray.errors import UsageError
from cineray.plan import BucketSpec
from cineray.sweep import (
    SWEEP_KINDS,
    Asha,
    Choice,
    FloatRange,
    IntRange,
    NodePrice,
    ObjectiveSpec,
    Pbt,
    PricesConfig,
    SearchConfig,
    SweepJob,
    TrialBudget,
    Variants,
)

RATE = FloatRange(field="optimiser.lr", low=1e-4, high=1e-2, log=True, also={"optimiser.muon_lr": 2.0})


def refusal(made: ModuleType, **told: Any) -> str:
    values = made.sweep_job().model_dump(mode="json") | told
    with pytest.raises(UsageError) as error:
        check(SweepJob, values)
    return str(error.value)


def test_a_sweeps_record_is_the_same_job(made: ModuleType) -> None:
    job = made.sweep_job(
        space={
            "lr": RATE,
            "depth": IntRange(field="model.depth", low=1, high=3),
            "shape": Variants(
                variants={
                    "one": {},
                    "two": {
                        "recipe.sampling.frames": None,
                        "recipe.frame": {"height": None, "width": None},
                        "recipe.buckets": (
                            BucketSpec(frames=4, height=16, width=16),
                            BucketSpec(frames=8, height=16, width=16),
                        ),
                    },
                }
            ),
            "captions": Choice(field="recipe.captions", values=("first", "random")),
        },
        scheduler=Asha(first=0.5),
        prices=PricesConfig(nodes={"gpu": NodePrice(per_hour=4, cpus=32, gpus=8)}, train="gpu"),
        quick=("trials=2",),
    )
    told = job_from_yaml(job_to_yaml(job, SWEEP_KINDS), SWEEP_KINDS, where="a record")
    assert told == job


def test_fields_of_a_sweep_are_set_as_those_of_any_job(made: ModuleType) -> None:
    job = override(made.sweep_job(), ["budget.seconds=3", "space.stride.values=[1, 8]", "base.recipe.batch_size=2"])
    assert (job.budget.amount, job.space["stride"].values, job.base.recipe.batch_size) == (3.0, (1, 8), 2)


@pytest.mark.parametrize(
    ("given", "unit", "amount"),
    [({"cost": 2.5}, "cost", 2.5), ({"clips": 100}, "clips", 100), ({"steps": 7}, "steps", 7)],
)
def test_a_budget_is_in_one_unit(made: ModuleType, given: dict[str, float], unit: str, amount: float) -> None:
    budget = TrialBudget(**given)  # type: ignore[arg-type]
    assert (budget.unit, budget.amount) == (unit, amount)
    assert "budget has nothing; wanted exactly one" in refusal(made, budget={})
    assert "budget has seconds and steps; wanted exactly one" in refusal(made, budget={"seconds": 1, "steps": 2})


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("validation.clips", "what trials are judged on is the same for all"),
        ("steps", "how long a trial is follows from the budget"),
        ("runs", "trials lie in the sweep's folder"),
        ("budget.seconds", "the budget is the same for all"),
        ("recipe.datasets.0.filter", "what judges one trial could train another"),
        ("recipe", "what judges one trial could train another"),
        ("feed.driver", "trials train under Ray"),
    ],
)
def test_what_must_be_alike_for_all_trials_is_not_searched(made: ModuleType, field: str, why: str) -> None:
    told = refusal(made, space={"it": {"kind": "choice", "field": field, "values": [1, 2]}})
    assert f"space.it sets {field}" in told
    assert why in told


def test_how_much_of_a_dataset_is_shown_may_be_searched(made: ModuleType) -> None:
    made.sweep_job(space={"weight": Choice(field="recipe.datasets.0.weight", values=(1.0, 2.0))})


def test_two_parameters_do_not_set_one_field(made: ModuleType) -> None:
    told = refusal(
        made,
        space={
            "a": {"kind": "choice", "field": "recipe.sampling", "values": [{}]},
            "b": {"kind": "choice", "field": "recipe.sampling.stride", "values": [1]},
        },
    )
    assert told.startswith("space.b sets recipe.sampling.stride and space.a sets recipe.sampling, which is the same")


def test_values_are_different_and_ranges_have_two_ends(made: ModuleType) -> None:
    assert "wanted different values" in refusal(
        made, space={"a": {"kind": "choice", "field": "seed", "values": [1, 1]}}
    )
    Choice(field="x", values=(1, True))  # equal for Python, and not for a field
    backwards = {"kind": "float", "field": "optimiser.lr", "low": 2, "high": 1}
    assert "low is 2 and high is 1" in refusal(made, space={"a": backwards})
    from_zero = {"kind": "float", "field": "optimiser.lr", "low": 0, "high": 1, "log": True}
    assert "the logarithm needs numbers above 0" in refusal(made, space={"a": from_zero})


def test_a_grid_has_even_values_of_a_range() -> None:
    assert RATE.even() == pytest.approx([1e-4, 1e-3, 1e-2])
    assert FloatRange(field="a", low=0, high=1, grid=5).even() == [0, 0.25, 0.5, 0.75, 1]
    assert IntRange(field="a", low=2, high=8, step=3).even() == [2, 5, 8]


def test_a_cost_needs_prices_and_an_evaluation_its_config(made: ModuleType) -> None:
    assert "prices is not given" in refusal(made, budget={"cost": 1})
    assert "prices is not given" in refusal(made, objectives=[{"name": "cost_per_million_clips"}])
    assert "judge.evaluate is not given" in refusal(made, objectives=[{"name": "evaluate/motion_ok"}])
    with pytest.raises(ValueError, match=r"prices\.train is 'tpu', which prices\.nodes has not: gpu"):
        PricesConfig(nodes={"gpu": NodePrice(per_hour=4, cpus=32)}, train="tpu")


def test_a_search_and_a_scheduler_fit_the_objectives(made: ModuleType) -> None:
    assert "nsga2, which needs several objectives" in refusal(made, search={"kind": "nsga2"})
    assert "scheduler.objective is mfu; wanted one of skill" in refusal(
        made, scheduler={"kind": "asha", "objective": "mfu"}
    )
    assert "scheduler.unit is clips and scheduler.longest is not given" in refusal(
        made, scheduler={"kind": "asha", "unit": "clips"}
    )
    twice = [{"name": "skill"}, {"name": "skill"}]
    assert "wanted each one once" in refusal(made, objectives=twice)


def test_a_population_does_not_explore_what_shapes_the_network(made: ModuleType) -> None:
    space = {"lr": RATE, "width": Choice(field="model.width", values=(24, 48))}
    made.sweep_job(space=space, scheduler=Pbt(explore=("lr",)))
    with pytest.raises(ValueError, match=r"scheduler\.explore has width, which shapes the network"):
        made.sweep_job(space=space, scheduler=Pbt(explore=("lr", "width")))
    with pytest.raises(ValueError, match=r"scheduler\.explore has rate, which is no parameter: lr, width"):
        made.sweep_job(space=space, scheduler=Pbt(explore=("rate",)))


def test_a_word_that_was_probably_meant_is_named(made: ModuleType) -> None:
    assert "SweepJob has no field `budgte`; did you mean `budget`?" in refusal(made, budgte={})


def test_the_job_of_a_sweep_needs_neither_torch_nor_ray() -> None:
    names = "SweepJob, SweepFolder, TrialFolder, Watcher"
    heavy = "{'torch', 'ray', 'optuna'}"
    code = f"import sys; from cineray.sweep import {names}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_seeds_may_be_searched_and_objectives_be_told_which_way(made: ModuleType) -> None:
    job = made.sweep_job(
        space={"seed": Choice(field="seed", values=(0, 1))},
        objectives=(ObjectiveSpec(name="skill", goal="max", tolerance=0.05),),
        search=SearchConfig(kind="grid"),
    )
    assert job.objectives[0].tolerance == 0.05
