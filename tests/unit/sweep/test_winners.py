"""Who won: at equal budget, by figures that were measured in the same way; and who is measured again before that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cineray.sweep import NodePrice, ObjectiveSpec, PricesConfig, SweepFolder, TrialBudget
from cineray.sweep.objectives import objectives_of
from cineray.sweep.pareto import best_of, pareto_set, ranked
from cineray.sweep.results import finalists, winners, write_results
from cineray.sweep.trial_record import TrialRecord


def objectives(made: ModuleType, *, tolerance: float = 0.0) -> Any:
    specs = (ObjectiveSpec(name="skill", tolerance=tolerance), ObjectiveSpec(name="clips_per_s"))
    return objectives_of(made.sweep_job(objectives=specs))


def values(*pairs: tuple[float, float]) -> dict[int, dict[str, float]]:
    return {number: {"skill": skill, "clips_per_s": pace} for number, (skill, pace) in enumerate(pairs)}


def test_the_pareto_set_is_what_no_other_beats(made: ModuleType) -> None:
    trials = values((0.70, 10), (0.68, 25), (0.68, 24), (0.50, 60), (0.70, 10), (0.9, math.nan))
    assert pareto_set(trials, objectives(made)) == [0, 1, 3, 4]


@pytest.mark.parametrize(("tolerance", "best"), [(0.0, 0), (0.05, 1), (0.5, 2)])
def test_a_tolerance_lets_the_next_objective_decide(made: ModuleType, tolerance: float, best: int) -> None:
    assert best_of(values((0.70, 10), (0.68, 25), (0.50, 60)), objectives(made, tolerance=tolerance)) == best


def test_of_equals_the_first_is_taken_and_of_nothing_none(made: ModuleType) -> None:
    assert best_of(values((0.7, 10), (0.7, 10)), objectives(made)) == 0
    assert best_of(values((math.nan, 10)), objectives(made)) is None
    assert ranked(values((0.5, 10), (math.nan, 1), (0.7, 10)), objectives(made)) == [2, 0]


def test_only_trials_with_the_whole_budget_win(made: ModuleType) -> None:
    told = [
        made.record(0, {}, skill=0.5, clips_per_s=10.0),
        made.record(1, {}, state="stopped", skill=0.9, clips_per_s=99.0),
        made.record(2, {}, state="", skill=0.9, clips_per_s=99.0),
    ]
    assert winners(told, objectives(made)) == ([0], 0)


def test_the_best_is_chosen_by_what_it_does_alone(made: ModuleType) -> None:
    """Beside others trial 0 was the faster one; alone it is the slower."""
    told = [
        made.record(n, {}, skill=skill, clips_per_s=pace)
        for n, (skill, pace) in enumerate([(0.70, 30.0), (0.71, 20.0)])
    ]
    assert winners(told, objectives(made, tolerance=0.1)) == ([0, 1], 0)
    assert finalists(told, objectives(made, tolerance=0.1), 1) == [0]
    alone = [
        TrialRecord(
            number=one.number,
            values={},
            state="done",
            reports=one.reports,
            alone={"figures": {"clips_per_s": {"value": pace, "low": pace - 1, "high": pace + 1, "n": 9}}},
        )
        for one, pace in zip(told, (31.0, 40.0), strict=True)
    ]
    assert winners(alone, objectives(made, tolerance=0.1)) == ([1], 1), "the set and the best by the same figures"
    assert finalists(alone, objectives(made, tolerance=0.1), 2) == [0, 1], "who is measured does not change by it"


def test_like_is_compared_with_like(made: ModuleType) -> None:
    """Trial 2 was beaten by trial 0 beside others; that trial 0, measured again, is slower than trial 2 was then says
    nothing of the two. Between trials 0 and 1, both measured alone, that counts."""
    by_loss = objectives_of(
        made.sweep_job(objectives=(ObjectiveSpec(name="noisiest_loss"), ObjectiveSpec(name="clips_per_s")))
    )
    beside = [(0.139, 320.0), (0.129, 290.0), (0.206, 300.0), (0.300, 110.0)]
    told = [made.record(n, {}, noisiest_loss=loss, clips_per_s=pace) for n, (loss, pace) in enumerate(beside)]
    assert winners(told, by_loss) == ([0, 1], 1)

    def measured(**alone: float) -> list[TrialRecord]:
        figures = {f"trial{n}": {"clips_per_s": {"value": alone[f"trial{n}"]}} for n in (0, 1)}
        return [replace(one, alone={"figures": figures.get(f"trial{one.number}", {})}) for one in told]

    assert winners(measured(trial0=280.0, trial1=260.0), by_loss) == ([0, 1], 1)
    assert winners(measured(trial0=280.0, trial1=285.0), by_loss) == ([1], 1), "alone trial 1 is the faster, too"
    assert finalists(measured(trial0=280.0, trial1=285.0), by_loss, 3) == [1, 0, 2], "who is measured stays the same"
    nothing_found = [replace(one, alone={"figures": {}}) for one in told]
    assert winners(nothing_found, by_loss) == ([0, 1], 1), "a measurement without a figure measured nothing"


def paces(made: ModuleType, beside: Sequence[float], alone: Mapping[int, float]) -> list[TrialRecord]:
    """Trials that were chosen by their pace alone, and some of them measured again."""
    told = [made.record(number, {}, clips_per_s=pace) for number, pace in enumerate(beside)]
    again = {n: {"figures": {"clips_per_s": {"value": pace}}} for n, pace in alone.items()}
    return [replace(one, alone=again.get(one.number, {})) for one in told]


def test_by_one_objective_the_first_can_lose_when_it_is_measured_again(made: ModuleType) -> None:
    """The Pareto set of one objective is one trial; measured again with nobody to lose to it would always win."""
    by_pace = objectives_of(made.sweep_job(objectives=(ObjectiveSpec(name="clips_per_s"),)))
    beside = (98.0, 100.0, 90.0, 99.0)
    assert finalists(paces(made, beside, {}), by_pace, 3) == [1, 3, 0]
    assert finalists(paces(made, beside, {}), by_pace, 9) == [1, 3, 0, 2]
    alone = {1: 50.0, 3: 99.0, 0: 98.0}
    assert winners(paces(made, beside, alone), by_pace) == ([3], 3)
    assert finalists(paces(made, beside, alone), by_pace, 3) == [1, 3, 0]


def test_the_pareto_set_is_measured_before_better_ones_that_are_beaten(made: ModuleType) -> None:
    """Trial 1 is beaten by trial 0, and still comes second by the first objective."""
    told = [made.record(n, {}, skill=s, clips_per_s=p) for n, (s, p) in enumerate([(0.7, 10), (0.69, 9), (0.5, 60)])]
    assert finalists(told, objectives(made), 2) == [0, 2]
    assert finalists(told, objectives(made), 3) == [0, 2, 1]


def test_who_could_not_be_measured_again_makes_no_ring_of_trials_that_beat_each_other(made: ModuleType) -> None:
    """In the sweep 0 beat 1, which beat 2; alone 2 beats 0, and 1 could not be measured."""
    by_pace = objectives_of(made.sweep_job(objectives=(ObjectiveSpec(name="clips_per_s"),)))
    assert winners(paces(made, (100.0, 99.0, 98.0), {0: 50.0, 2: 97.0}), by_pace) == ([2], 2)
    first_is_unknown = paces(made, (100.0, 99.0, 98.0), {1: 50.0, 2: 97.0})
    assert winners(first_is_unknown, by_pace) == ([0], 0), "nothing beat it, by figures of one kind"


@pytest.mark.parametrize("budget", [TrialBudget(steps=10), TrialBudget(clips=40), TrialBudget(seconds=10)])
def test_what_follows_from_the_pace_is_of_the_pace_alone(made: ModuleType, tmp_path: Path, budget: TrialBudget) -> None:
    """40 clips in 10 s beside others, and in 4 s alone. A budget in seconds says how many these are, beside others and
    alone."""
    prices = PricesConfig(nodes={"a": NodePrice(per_hour=36, cpus=4)}, train="a")
    specs = tuple(ObjectiveSpec(name=name) for name in ("seconds", "cost"))
    job = made.judged(made.sweep_job(objectives=specs, budget=budget, prices=prices))
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    trial = made.add_trial(sweep, 0, {"stride": 1}, made.report(10, 10.0, cost=0.1))
    paid = {"value": 1000.0, "low": 900.0, "high": 1100.0, "n": 9}
    pace = {"value": 10.0, "low": 8.0, "high": 16.0, "n": 9}
    beside = {"clips_per_s": 5.0, "cost_per_million_clips": 2000.0}
    trial.keep("alone", {"figures": {"clips_per_s": pace, "cost_per_million_clips": paid}, "in_the_sweep": beside})
    (told,) = write_results(sweep)["trials"]
    if budget.unit == "seconds":
        assert (told["objectives"]["seconds"]["value"], told["objectives"]["cost"]["value"]) == (10.0, 0.1)
        return
    alone = {"n": 9, "measured": "alone"}
    took, paid = {"in_the_sweep": 10.0, "in_the_sweep_warm": 8.0}, {"in_the_sweep": 0.1, "in_the_sweep_warm": 0.08}
    assert told["objectives"]["seconds"] == {**alone, "value": 4.0, "low": 2.5, "high": 5.0, **took}
    cost = {name: pytest.approx(one) for name, one in (("value", 0.04), ("low", 0.036), ("high", 0.044))}
    assert told["objectives"]["cost"] == {**alone, **cost, **paid}


def test_the_pace_of_a_members_last_values_says_nothing_of_what_all_its_clips_took(
    made: ModuleType, tmp_path: Path
) -> None:
    """It learnt from some of them by other values, and from some in another member."""
    prices = PricesConfig(nodes={"a": NodePrice(per_hour=36, cpus=4)}, train="a")
    specs = tuple(ObjectiveSpec(name=name) for name in ("seconds", "cost", "clips_per_s"))
    job = made.judged(made.sweep_job(objectives=specs, budget=TrialBudget(steps=10), prices=prices))
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    for number in (0, 1):
        trial = made.add_trial(sweep, number, {"stride": 1}, made.report(10, 10.0, cost=0.1))
        if number:
            begins_from = {"run": sweep.trial(0).run_uri(), "step": 5}
            trial.begin_generation(values={"stride": 2}, job=made.base_job(), begins_from=begins_from)
        pace, paid = ({"value": one, "low": one, "high": one, "n": 9} for one in (10.0, 1000.0))
        trial.keep("alone", {"figures": {"clips_per_s": pace, "cost_per_million_clips": paid}})
    told = write_results(sweep)
    ways = [{name: one["measured"] for name, one in trial["objectives"].items()} for trial in told["trials"]]
    assert ways[0] == {"seconds": "alone", "cost": "alone", "clips_per_s": "alone"}
    assert ways[1] == {"seconds": "in the sweep", "cost": "in the sweep", "clips_per_s": "alone"}
    assert [trial["objectives"]["seconds"]["value"] for trial in told["trials"]] == [4.0, 10.0]
    assert (
        "training seconds and cost to train of trial 1 are as in the sweep: their values changed on the way, and alone "
        "only the last ones were measured"
    ) in told["notes"]
