"""A search proposes by what lies in the sweep's folder and by nothing else, so it does not matter who asks it."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest

from cineray.sweep import Choice, FloatRange, ObjectiveSpec, Pbt, SearchConfig, SweepJob, Variants
from cineray.sweep.objectives import objectives_of
from cineray.sweep.search import Search
from cineray.sweep.trial_record import TrialRecord

SPACE: dict[str, Any] = {
    "stride": Choice(field="recipe.sampling.stride", values=(1, 2, 4)),
    "lr": FloatRange(field="optimiser.lr", low=1e-4, high=1e-1, log=True),
    "shape": Choice(field="model.patch", values=([1, 8, 8], [1, 4, 4])),
}
BOTH = (ObjectiveSpec(name="skill"), ObjectiveSpec(name="clips_per_s"))


def truth(values: dict[str, Any]) -> dict[str, float]:
    """The best is stride 2 at a rate of 1e-2; a large stride is slow."""
    skill = 1 - 0.2 * abs(math.log2(values["stride"]) - 1) - 0.3 * abs(math.log10(values["lr"]) + 2)
    return {"skill": skill, "clips_per_s": 100 / values["stride"]}


def searched(made: ModuleType, job: SweepJob, trials: int) -> list[TrialRecord]:
    search, found = Search(job), []
    for number in range(trials):
        proposal = search.propose(number, found)
        assert proposal is not None
        one = made.record(number, proposal.values, **truth(proposal.values))
        found.append(
            TrialRecord(number=number, values=one.values, state="done", reports=one.reports, search=proposal.facts)
        )
    return found


@pytest.mark.parametrize(
    ("kind", "objectives"), [("random", BOTH[:1]), ("tpe", BOTH[:1]), ("tpe", BOTH), ("nsga2", BOTH)]
)
def test_a_search_that_is_started_again_proposes_the_same(
    made: ModuleType, kind: str, objectives: tuple[ObjectiveSpec, ...]
) -> None:
    told = {"space": SPACE, "objectives": objectives, "trials": 16}
    job = made.sweep_job(**told, search=SearchConfig(kind=kind, startup_trials=4))  # type: ignore[arg-type]
    whole = searched(made, job, 16)
    for number in (0, 5, 15):
        again = Search(job).propose(number, list(reversed(whole[:number])))
        assert again is not None
        assert again.values == whole[number].values
    other = made.sweep_job(**told, search=SearchConfig(kind=kind, seed=1))  # type: ignore[arg-type]
    assert [one.values for one in searched(made, other, 6)] != [one.values for one in whole[:6]]


@pytest.mark.parametrize(("kind", "objectives"), [("tpe", BOTH[:1]), ("nsga2", BOTH)])
def test_a_search_that_learns_comes_nearer_to_the_truth_than_chance(
    made: ModuleType, kind: str, objectives: tuple[ObjectiveSpec, ...]
) -> None:
    def mean_distance(kind: str) -> float:
        """Of the later half's rates, in powers of ten. With every objective a rate of 1e-2 is the right one."""
        found = []
        for seed in range(3):
            search = SearchConfig(kind=kind, seed=seed, startup_trials=8)  # type: ignore[arg-type]
            job = made.sweep_job(space=SPACE, objectives=objectives, trials=48, search=search)
            found += [abs(math.log10(one.values["lr"]) + 2) for one in searched(made, job, 48)[24:]]
        return sum(found) / len(found)

    assert mean_distance(kind) < 0.75 * mean_distance("random")


def test_a_grid_tries_every_combination_once(made: ModuleType) -> None:
    space = {"stride": SPACE["stride"], "size": Variants(variants={"a": {}, "b": {"model.width": 48}})}
    search = Search(made.sweep_job(space=space, search=SearchConfig(kind="grid"), trials=100))
    every = [search.propose(number, []) for number in range(search.total + 1)]
    assert every[-1] is None
    assert [tuple(one.values.values()) for one in every if one] == [(s, size) for s in (1, 2, 4) for size in "ab"]


def test_a_grid_without_trials_enough_is_a_part_of_it_by_lot(made: ModuleType) -> None:
    space = {"seed": Choice(field="seed", values=tuple(range(1000)))}
    search = Search(made.sweep_job(space=space, search=SearchConfig(kind="grid"), trials=5))
    drawn = [one.values["seed"] for number in range(5) if (one := search.propose(number, []))]
    assert len(set(drawn)) == 5
    assert drawn != [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_what_was_tried_is_not_tried_again(made: ModuleType, kind: str) -> None:
    space = {"stride": SPACE["stride"], "seed": Choice(field="seed", values=(0, 1, 2))}
    job = made.sweep_job(space=space, trials=50, search=SearchConfig(kind=kind, startup_trials=2))  # type: ignore[arg-type]
    assert Search(job).total == 9
    found = searched_any(made, job)
    assert len({tuple(one.values.values()) for one in found}) == len(found) == 9


def shown_to_optuna(job: SweepJob, trials: list[TrialRecord]) -> list[Any]:
    return Search(job)._study(objectives_of(job), None, trials).trials


def searched_any(made: ModuleType, job: SweepJob) -> list[TrialRecord]:
    search, found = Search(job), []
    while (proposal := search.propose(len(found), found)) is not None:
        found.append(made.record(len(found), proposal.values, skill=0.5))
    return found


def test_a_population_has_as_many_members_as_it_is_told_to(made: ModuleType) -> None:
    space = {"lr": Choice(field="optimiser.lr", values=(1e-3, 1e-2))}
    search = Search(made.sweep_job(space=space, trials=6, scheduler=Pbt(explore=("lr",)), search={"kind": "random"}))
    assert search.total == 6
    assert all(search.propose(number, []) for number in range(6))


def test_trials_that_train_are_not_proposed_again_meanwhile(made: ModuleType) -> None:
    job = made.sweep_job(space={"stride": SPACE["stride"]}, trials=3)
    search, running = Search(job), []
    for number in range(3):
        proposal = search.propose(number, running)
        assert proposal is not None
        running.append(made.record(number, proposal.values, state=""))
    assert {one.values["stride"] for one in running} == {1, 2, 4}


def test_trials_that_train_count_as_bad_ones_until_it_is_known(made: ModuleType) -> None:
    """Else two trials beside each other would be nearly the same one."""
    job = made.sweep_job(space=SPACE, trials=40, search=SearchConfig(startup_trials=4))
    done = searched(made, job, 12)
    first = Search(job).propose(12, done)
    assert first is not None
    nearly = {**first.values, "lr": 1.001 * first.values["lr"]}
    second = Search(job).propose(12, [*done, made.record(13, nearly, state="")])
    assert second is not None
    assert second.values["lr"] != first.values["lr"]


@pytest.mark.parametrize(
    ("objectives", "told", "reached"),
    [
        (BOTH[:1], ["COMPLETE", "PRUNED", "FAIL"], (None, {0: 0.3})),
        (BOTH, ["COMPLETE", "COMPLETE", "FAIL"], ([0.3, 2.0], {})),
    ],
)
def test_what_a_stopped_trial_had_reached_is_told(
    made: ModuleType, objectives: tuple[ObjectiveSpec, ...], told: list[str], reached: Any
) -> None:
    """Optuna stops trials of single objectives only; of several it is told the values that there are."""
    values = {"stride": 1, "lr": 0.01, "shape": [1, 8, 8]}
    trials = [
        made.record(0, values, skill=0.5, clips_per_s=1.0),
        made.record(1, values, state="stopped", skill=0.3, clips_per_s=2.0),
        made.record(2, values, state="failed", skill=0.3, clips_per_s=2.0),
    ]
    shown = shown_to_optuna(made.sweep_job(space=SPACE, objectives=objectives), trials)
    assert [one.state.name for one in shown] == told
    assert (shown[1].values, shown[1].intermediate_values) == reached


@pytest.mark.parametrize("objectives", [BOTH[:1], BOTH])
def test_trials_that_failed_or_were_stopped_do_not_break_a_search(
    made: ModuleType, objectives: tuple[ObjectiveSpec, ...]
) -> None:
    job = made.sweep_job(space=SPACE, objectives=objectives, trials=40, search=SearchConfig(startup_trials=2))
    trials = searched(made, job, 6)
    values = {"stride": 4, "lr": 0.2, "shape": [1, 8, 8]}  # a population may have gone beyond the range
    trials += [
        made.record(6, values, state="failed"),
        made.record(7, values, state="lost", skill=0.1),
        made.record(8, values, state="stopped", skill=0.1, clips_per_s=3.0),
        made.record(9, values, state="data-bound", skill=math.nan, clips_per_s=3.0),
    ]
    proposal = Search(job).propose(10, trials)
    assert proposal is not None
    assert proposal.values["shape"] in ([1, 8, 8], [1, 4, 4])


def test_what_explains_an_objective_is_important_for_it(made: ModuleType) -> None:
    job = made.sweep_job(space=SPACE, objectives=BOTH, trials=40, search=SearchConfig(kind="random"))
    shares = Search(job).importance(searched(made, job, 40))
    assert set(shares) == {"skill", "clips_per_s"}
    assert max(shares["clips_per_s"], key=shares["clips_per_s"].__getitem__) == "stride"
    assert max(shares["skill"], key=shares["skill"].__getitem__) == "lr"
    assert sum(shares["skill"].values()) == pytest.approx(1, abs=1e-4)
    assert Search(job).importance(searched(made, job, 4)) == {}, "four trials say nothing of it"
