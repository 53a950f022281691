"""A search proposes by what lies in the sweep's folder and by nothing else, so it does not matter who asks it."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from cineray.config import override
from cineray.errors import UsageError
from cineray.sweep import (
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
from cineray.sweep.judging import definite
from cineray.sweep.notes import notes_of, partial_grid
from cineray.sweep.objectives import objectives_of
from cineray.sweep.search import Search, trials_of
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


def test_a_grid_is_whole_unless_somebody_says_how_many(made: ModuleType) -> None:
    space = {"seed": Choice(field="seed", values=tuple(range(24)))}
    search = Search(made.sweep_job(space=space, search=SearchConfig(kind="grid")))
    every = [search.propose(number, []) for number in range(search.total)]
    assert [one.values["seed"] for one in every if one] == list(range(24))
    assert trials_of(made.sweep_job(space=SPACE)) == 16, "of what is no grid"


def test_a_grid_that_nobody_can_have_meant_is_not_begun(made: ModuleType) -> None:
    space = {name: Choice(field=name, values=tuple(range(1, 51))) for name in ("seed", "micro_batch")}
    told = {"space": space, "search": SearchConfig(kind="grid")}
    with pytest.raises(UsageError, match=r"the grid has 2,500 combinations, and nothing says how many.*set trials to"):
        trials_of(made.sweep_job(**told))
    assert trials_of(made.sweep_job(**told, trials=2500)) == 2500


def test_how_many_trials_a_sweep_is_stands_in_its_record(made: ModuleType, lake: str) -> None:
    """Then it is the same sweep tomorrow, whatever is usual by then."""
    grid = definite(made.sweep_job(lake, search=SearchConfig(kind="grid")))
    assert (grid.trials, definite(grid)) == (3, grid)
    assert definite(made.sweep_job(lake)).trials == 16
    more = override(made.sweep_job(lake, search=SearchConfig(kind="grid")), ["space.stride.values=[1, 2, 3, 4]"])
    assert definite(more).trials == 4, "laid over a job, it counts the values that there are then"


def test_a_grid_that_is_tried_in_part_says_so(made: ModuleType) -> None:
    space = {"seed": Choice(field="seed", values=tuple(range(24)))}
    told = {"space": space, "search": SearchConfig(kind="grid")}
    (note,) = partial_grid(made.sweep_job(**told, trials=16))
    assert note.startswith("the grid has 24 combinations, and trials is 16: so many were drawn by lot, and nothing is")
    assert "other 8. A sweep with trials=24 tries all" in note
    assert partial_grid(made.sweep_job(**told)) == partial_grid(made.sweep_job(**told, trials=99)) == []
    assert partial_grid(made.sweep_job(space=space, trials=16)) == [], "a search is not expected to try all"
    assert notes_of(made.sweep_job(**told, trials=16), [], [], best_job="best.yaml") == [note]


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
        (BOTH[:1], ["COMPLETE", "PRUNED"], (None, {0: 0.3})),
        (BOTH, ["COMPLETE", "COMPLETE"], ([0.3, 2.0], {})),
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
    ]
    shown = shown_to_optuna(made.sweep_job(space=SPACE, objectives=objectives), trials)
    assert [one.state.name for one in shown] == told
    assert (shown[1].values, shown[1].intermediate_values) == reached


@pytest.mark.parametrize("objectives", [BOTH[:1], BOTH])
def test_what_could_not_be_trained_is_told_as_the_worst_of_all(
    made: ModuleType, objectives: tuple[ObjectiveSpec, ...]
) -> None:
    """Whatever it had shown until then. A machine that was lost says nothing of values."""
    values = {"stride": 1, "lr": 0.01, "shape": [1, 8, 8]}
    job = made.sweep_job(space=SPACE, objectives=objectives)
    failed = made.record(0, values, state="failed", skill=0.9, clips_per_s=9.0)
    lost = made.record(1, values, state="lost", skill=0.9, clips_per_s=9.0)
    unknown = made.record(2, values, state="data-bound", skill=math.nan, clips_per_s=3.0)
    known = [made.record(3, values, skill=0.5, clips_per_s=2.0), made.record(4, values, skill=0.1, clips_per_s=7.0)]
    shown = shown_to_optuna(job, [failed, lost, unknown, *known])
    ended_early = "PRUNED" if len(objectives) == 1 else "COMPLETE"
    assert [one.state.name for one in shown] == [ended_early, "FAIL", ended_early, "COMPLETE", "COMPLETE"]
    assert [shown[0].values, shown[2].values] == ([None, None] if len(objectives) == 1 else [[0.1, 2.0], [0.1, 3.0]])
    assert shown[0].intermediate_values == {}
    assert shown_to_optuna(job, [failed])[0].state.name == "FAIL", "nothing is known that it would be worse than"


PRICES = PricesConfig(nodes={"cpu": NodePrice(per_hour=1, cpus=4)}, train="cpu")


def test_what_a_stopped_trial_did_not_spend_is_no_merit_of_its(made: ModuleType) -> None:
    """Costs add up over a training: they are told as if it had gone on. Rates and losses are told as they were."""
    names = ("noisiest_loss", "cost", "seconds", "wall_seconds", "clips_per_s")
    job = made.sweep_job(
        space=SPACE,
        objectives=tuple(ObjectiveSpec(name=name) for name in names),
        budget=TrialBudget(steps=40),
        prices=PRICES,
    )
    values = {"stride": 1, "lr": 0.01, "shape": [1, 8, 8]}
    figures = {"noisiest_loss": 0.2, "cost": 3.0, "clips_per_s": 4.0}
    trials = [made.record(number, values, state, **figures) for number, state in enumerate(("done", "stopped"))]
    whole, stopped = shown_to_optuna(job, trials)
    assert trials[1].last["step"] == 10
    assert whole.values == [0.2, 3.0, 10.0, 15.0, 4.0]
    assert stopped.values == [0.2, 12.0, 40.0, 60.0, 4.0]


@pytest.mark.parametrize("objectives", [("noisiest_loss",), ("noisiest_loss", "clips_per_s")])
def test_a_search_leaves_what_cannot_be_trained(made: ModuleType, objectives: tuple[str, ...]) -> None:
    """The larger the better, if slower, until it does not fit: half of what may be proposed."""
    space = {
        "depth": IntRange(field="model.depth", low=1, high=32),
        "lr": FloatRange(field="optimiser.lr", low=1e-4, high=1e-1, log=True),
    }
    shares = []
    for seed in range(3):
        search = {"kind": "tpe", "seed": seed, "startup_trials": 6}
        job = made.sweep_job(
            space=space, objectives=tuple(ObjectiveSpec(name=one) for one in objectives), trials=60, search=search
        )

        def trained(number: int, values: dict[str, Any]) -> Any:
            depth = values["depth"]
            if depth > 16:
                return made.record(number, values, state="failed")
            return made.record(number, values, noisiest_loss=1 / depth, clips_per_s=100 / depth)

        found = proposed(job, 40, trained)
        shares.append(sum(one.state == "failed" for one in found[20:]) / 20)
    assert sum(shares) / len(shares) < 0.5, "chance would have half of them fail"


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_a_search_does_not_go_where_trials_end_early_and_so_cost_little(made: ModuleType, kind: str) -> None:
    space = {**SPACE, "decay": FloatRange(field="optimiser.weight_decay", low=0, high=1)}

    def share_of_bad(*, cheap: bool) -> float:
        found = []
        for seed in range(3):
            job = made.sweep_job(
                space=space,
                objectives=(ObjectiveSpec(name="noisiest_loss"), ObjectiveSpec(name="cost")),
                budget=TrialBudget(steps=40),
                prices=PRICES,
                trials=200,
                search=SearchConfig(kind=kind, startup_trials=6, seed=seed),  # type: ignore[arg-type]
            )

            def trained(number: int, values: dict[str, Any]) -> TrialRecord:
                """Two thirds of all rates are bad ones; who tries one is ended after 10 steps of 40."""
                off = abs(math.log10(values["lr"]) + 2)
                is_bad = off > 0.5
                costs = 0.25 if is_bad and cheap else 1.0
                one = made.record(number, values, noisiest_loss=0.1 + 0.2 * off, cost=costs)
                state = "stopped" if is_bad and cheap else "done"
                return TrialRecord(number=number, values=values, state=state, reports=one.reports)

            found += [abs(math.log10(one.values["lr"]) + 2) > 0.5 for one in proposed(job, 48, trained)[24:]]
        return sum(found) / len(found)

    assert share_of_bad(cheap=True) < share_of_bad(cheap=False) + 0.08


def proposed(job: SweepJob, trials: int, trained: Callable[[int, dict[str, Any]], Any]) -> list[TrialRecord]:
    """Trials of a search, each as `trained` says that it went."""
    search, found = Search(job), []
    for number in range(trials):
        proposal = search.propose(number, found)
        assert proposal is not None
        one = trained(number, proposal.values)
        found.append(
            TrialRecord(number=number, values=one.values, state=one.state, reports=one.reports, search=proposal.facts)
        )
    return found


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
