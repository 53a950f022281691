"""What trials are chosen by: names become keys of reports, with a direction and a unit."""

from __future__ import annotations

import math
from types import ModuleType

import pytest

from cineray.errors import UsageError
from cineray.evaluate import EvaluateConfig
from cineray.sweep import Asha, JudgeConfig, NodePrice, ObjectiveSpec, PricesConfig
from cineray.sweep.formulas import figures_in_words, formulas_of
from cineray.sweep.objectives import OBJECTIVES, check_gpus, compared_while_training, objective_of, objectives_of

REPORT = {
    "validation/skill_linear": 0.4,
    "validation/headline": 0.05,
    "validation/bin3": 0.2,
    "clips_per_s": 80.0,
    "data_wait_fraction": 0.1,
    "gpu_stall_fraction": None,
    "mfu": math.nan,
    "clips": 4000,
    "cost": 0.5,
    "evaluate/motion_ok": 0.9,
}


def test_every_objective_has_a_name_for_people_and_a_direction() -> None:
    assert [name for name, one in OBJECTIVES.items() if name != one.name or not one.label] == []


@pytest.mark.parametrize(
    ("name", "value", "goal"),
    [
        ("skill", 0.4, "max"),
        ("noisiest_loss", 0.05, "min"),
        ("clips_per_s", 80.0, "max"),
        ("data_wait", 0.1, "min"),
        ("gpu_stall", math.nan, "min"),
        ("mfu", math.nan, "max"),
        ("cost_per_million_clips", 125.0, "min"),
        ("validation/bin3", 0.2, "min"),
        ("validation/skill_mean", math.nan, "max"),
        ("evaluate/motion_ok", 0.9, "max"),
        ("evaluate/speed_error", math.nan, "min"),
    ],
)
def test_an_objective_is_read_from_a_report(made: ModuleType, name: str, value: float, goal: str) -> None:
    prices = PricesConfig(nodes={"cpu": NodePrice(per_hour=1, cpus=1)}, train="cpu")
    job = made.sweep_job(judge=JudgeConfig(evaluate=EvaluateConfig()), prices=prices)
    found = objective_of(ObjectiveSpec(name=name), job)
    assert found.value(REPORT) == pytest.approx(value, nan_ok=True)
    assert found.goal == goal


def test_amounts_of_money_say_their_currency(made: ModuleType) -> None:
    prices = PricesConfig(currency="EUR", nodes={"cpu": NodePrice(per_hour=1, cpus=1)}, train="cpu")
    (cost,) = objectives_of(made.sweep_job(objectives=(ObjectiveSpec(name="cost", tolerance=0.1),), prices=prices))
    assert (cost.unit, cost.tolerance) == ("EUR", 0.1)


def test_what_is_not_known_is_never_better() -> None:
    skill, loss = OBJECTIVES["skill"], OBJECTIVES["loss"]
    assert skill.is_better(0.2, 0.1)
    assert loss.is_better(0.1, 0.2)
    assert skill.is_better(0.1, math.nan)
    assert not skill.is_better(math.nan, 0.1)


def test_metrics_that_should_be_like_real_clips_need_a_direction(made: ModuleType) -> None:
    job = made.sweep_job(judge=JudgeConfig(evaluate=EvaluateConfig()))
    with pytest.raises(UsageError, match="flicker is good when it is as that of real clips"):
        objective_of(ObjectiveSpec(name="evaluate/flicker"), job)
    assert objective_of(ObjectiveSpec(name="evaluate/flicker", goal="min"), job).goal == "min"
    with pytest.raises(UsageError, match="there is no metric beauty"):
        objective_of(ObjectiveSpec(name="evaluate/beauty"), job)
    narrow = made.sweep_job(judge=JudgeConfig(evaluate=EvaluateConfig(metrics=("motion_ok",))))
    with pytest.raises(UsageError, match=r"judge\.evaluate\.metrics has not speed_error"):
        objective_of(ObjectiveSpec(name="evaluate/speed_error"), narrow)


def test_figures_of_the_validation_are_known_by_their_names(made: ModuleType) -> None:
    """The job judges by four noise levels."""
    job = made.sweep_job()
    assert objective_of(ObjectiveSpec(name="validation/skill_linear3"), job).goal == "max"
    assert objective_of(ObjectiveSpec(name="validation/bin3"), job).goal == "min"
    with pytest.raises(
        UsageError, match=r"validation/hedline: .* no figure hedline; did you mean validation/headline\?"
    ):
        objective_of(ObjectiveSpec(name="validation/hedline"), job)
    with pytest.raises(UsageError, match=r"no figure bin7; .*\(base\.validation\.bins=4\) bin0 to bin3"):
        objective_of(ObjectiveSpec(name="validation/bin7"), job)
    assert figures_in_words(12) == (
        "headline, loss, wrong_over_right, skill_mean, skill_linear, and by noise level (base.validation.bins=12) bin0 "
        "to bin11 and skill_linear0 to skill_linear11"
    )
    more = {
        name for name in formulas_of(4) if objective_of(ObjectiveSpec(name=f"validation/{name}"), job).goal == "max"
    }
    by_level = {f"skill_linear{level}" for level in range(4)}
    assert more == {"wrong_over_right", "skill_mean", "skill_linear", *by_level}, "all others are losses"


def test_what_only_gpus_say_is_refused_where_trials_train_without(made: ModuleType) -> None:
    job = made.sweep_job(objectives=tuple(ObjectiveSpec(name=name) for name in ("skill", "mfu", "gpu_stall")))
    check_gpus(job, 1.0)
    check_gpus(made.sweep_job(), 0.0)
    with pytest.raises(UsageError, match=r"objectives has mfu, gpu_stall, which only .* leave it out, or sweep on"):
        check_gpus(job, 0.0)


def test_a_scheduler_compares_by_what_is_known_while_training(made: ModuleType) -> None:
    judge = JudgeConfig(evaluate=EvaluateConfig())
    names = (ObjectiveSpec(name="evaluate/motion_ok"), ObjectiveSpec(name="noisiest_loss"))
    assert (
        compared_while_training(made.sweep_job(objectives=names, judge=judge, scheduler=Asha())).name == "noisiest_loss"
    )
    with pytest.raises(UsageError, match="every objective is only known at the end"):
        compared_while_training(made.sweep_job(objectives=names[:1], judge=judge, scheduler=Asha()))
