"""A space is checked before anything starts: what cannot be is told by the parameter, the field and the value."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from cineray.errors import UsageError
from cineray.sweep import Choice, FloatRange, IntRange, SweepJob, Variants
from cineray.sweep.check import check_sweep
from cineray.sweep.judging import definite
from cineray.sweep.space import apply, combination, fields_set, grid_size, probes

STRIDE = Choice(field="recipe.sampling.stride", values=(1, 2, 4))
RATE = FloatRange(field="optimiser.lr", low=1e-4, high=1e-2, log=True, also={"optimiser.muon_lr": 2.0})
SIZE = Variants(variants={"as it is": {}, "small": {"model.width": 16, "model.heads": 1}})


def refusal(job: SweepJob) -> str:
    with pytest.raises(UsageError) as error:
        check_sweep(definite(job))
    return str(error.value)


def test_values_reach_their_fields(made: ModuleType) -> None:
    space = {"stride": STRIDE, "lr": RATE, "size": SIZE}
    job = apply(made.base_job(), space, {"stride": 4, "lr": 0.003, "size": "small"})
    assert job.recipe.sampling.stride == 4
    assert (job.optimiser.lr, job.optimiser.muon_lr) == (0.003, 0.006)
    assert (job.model.width, job.model.heads) == (16, 1)  # type: ignore[union-attr]
    assert fields_set(space, {"size": "as it is"}) == {}
    assert apply(made.base_job(), space, {"size": "as it is"}) == made.base_job()


def test_whole_parts_of_a_job_are_values_too(made: ModuleType) -> None:
    buckets = [{"frames": 4, "height": 16, "width": 16}, {"frames": 8, "height": 16, "width": 16}]
    nothing = {"recipe.sampling.frames": None, "recipe.frame": {"height": None, "width": None}}
    space = {"shapes": Variants(variants={"two": {**nothing, "recipe.buckets": buckets}})}
    with pytest.raises(UsageError, match="both given"):
        apply(made.base_job(), {"b": Choice(field="recipe.buckets", values=(buckets,))}, {"b": buckets})
    found = apply(made.base_job(), space, {"shapes": "two"})
    assert [bucket.frames for bucket in found.recipe.shapes] == [4, 8]


def test_a_grid_is_every_combination_the_last_one_fastest() -> None:
    space = {"stride": STRIDE, "size": SIZE}
    every = [tuple(combination(space, number).values()) for number in range(grid_size(space))]
    assert every == [(s, name) for s in (1, 2, 4) for name in ("as it is", "small")]


def test_a_space_that_is_possible_is_let_through(made: ModuleType, lake: str) -> None:
    check_sweep(definite(made.sweep_job(lake, space={"stride": STRIDE, "lr": RATE, "size": SIZE})))


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (
            {"stride": Choice(field="recipe.sampling.strid", values=(1, 2))},
            "space.stride: recipe.sampling.strid: `recipe.sampling` has no `strid`; did you mean `stride`?",
        ),
        (
            {"size": Variants(variants={"small": {"model.wide": 3}})},
            "space.size.small: model.wide: `model` has no `wide`",
        ),
        (
            {"frames": Choice(field="recipe.sampling.frames", values=(4, 0))},
            "space.frames = 0 (recipe.sampling.frames): recipe.sampling.frames got 0",
        ),
        (
            {"lr": FloatRange(field="optimiser.lr", low=-1, high=1)},
            "space.lr = -1.0 (optimiser.lr): optimiser.lr got -1.0",
        ),
        (
            {"workers": Choice(field="parallel.workers", values=(1, [1, 2]))},
            "space.workers = [1, 2] (parallel.workers): parallel.workers is (1, 2): a trial that grows and shrinks",
        ),
        (
            {"stride": Choice(field="recipe.sampling.stride", values=(1, 16))},
            "space.stride = 16 (recipe.sampling.stride): there are no clips for that",
        ),
        (
            {"schedule": Choice(field="optimiser.schedule", values=("constant", "cosine"))},
            "space.schedule = cosine (optimiser.schedule): budget.seconds is given and optimiser.schedule is cosine",
        ),
    ],
)
def test_what_cannot_be_is_told_by_parameter_field_and_value(
    made: ModuleType, lake: str, space: dict[str, Any], told: str
) -> None:
    assert refusal(
        made.sweep_job(lake, space={"depth": IntRange(field="model.depth", low=1, high=2), **space})
    ).startswith(told)


def test_values_that_only_clash_together_are_told_together(made: ModuleType, lake: str) -> None:
    space = {
        "stride": Choice(field="recipe.sampling.stride", values=(1, 2)),
        "mode": Choice(field="recipe.sampling.mode", values=("stride", "uniform")),
        "lr": RATE,
    }
    # Without a stride of its own the base could be uniform, and with this stride it could be sampled by stride.
    recipe = made.base_job(lake).recipe.model_dump() | {"sampling": {"mode": "stride", "frames": 4}}
    told = refusal(made.sweep_job(lake, base=made.base_job(lake, recipe=recipe), space=space))
    assert "space.mode = uniform (recipe.sampling.mode)" in told
    assert "space.lr" not in told
    assert "as variants" in told


def test_an_impossible_base_is_not_blamed_on_the_space(made: ModuleType, lake: str) -> None:
    base = made.base_job(lake, parallel={"workers": [1, 2]})
    assert refusal(made.sweep_job(lake, base=base)).startswith("base: parallel.workers is (1, 2)")


def test_a_large_space_is_probed_at_its_ends_and_by_lot() -> None:
    space = {f"p{n}": Choice(field=f"f{n}", values=tuple(range(200))) for n in range(3)}
    found = list(probes(space))
    assert len(found) < 1000
    for name in space:
        assert {values[name] for values in found} == set(range(200)), "every value is tried at least once"
    assert found == list(probes(space))


# ---- objectives and schedulers ---------------------------------------------------------------------------------------


def test_an_objective_that_does_not_exist_is_refused_by_name(made: ModuleType, lake: str) -> None:
    told = refusal(made.sweep_job(lake, objectives=[{"name": "beauty"}]))
    assert told.startswith("there is no objective 'beauty'; there are skill, noisiest_loss")


def test_trials_are_not_chosen_by_what_the_budget_makes_equal(made: ModuleType, lake: str) -> None:
    told = refusal(made.sweep_job(lake, objectives=[{"name": "seconds"}]))
    assert "the budget gives every trial the same" in told


@pytest.mark.parametrize(
    ("field", "values", "objective"),
    [
        ("autoencoder.kind", ("none", "vae"), "skill"),
        ("diffusion.data_sd", ([0.5] * 3, [1.0] * 3), "noisiest_loss"),
        ("diffusion", ({"predict": "v"}, {}), "validation/skill_linear3"),
        ("diffusion.least_noise", (0.1, 0.2), "loss"),
    ],
)
def test_trials_are_not_compared_by_losses_of_different_kinds(
    made: ModuleType, lake: str, field: str, values: tuple[Any, ...], objective: str
) -> None:
    space = {"kind": Choice(field=field, values=values)}
    told = refusal(made.sweep_job(lake, space=space, objectives=[{"name": objective}]))
    assert told.startswith(f"space.kind sets {field}, by which {objective} is counted in another unit in each trial")


def test_what_does_not_touch_the_noisiest_levels_may_differ(made: ModuleType, lake: str) -> None:
    space = {"kind": Choice(field="diffusion.predict", values=("x", "v"))}
    check_sweep(definite(made.sweep_job(lake, space=space, objectives=[{"name": "skill"}, {"name": "noisiest_loss"}])))


PRICES = {"nodes": {"gpu": {"per_hour": 8.0, "cpus": 64, "gpus": 8}}, "train": "gpu"}
WORKERS = Choice(field="parallel.workers", values=(1, 2))


@pytest.mark.parametrize(
    ("objective", "budget", "why"),
    [
        ("wall_seconds", {"seconds": 10}, ", but for starts, judgements and checkpoints; leave it out"),
        ("cost", {"seconds": 10}, ": it is in seconds, and nothing in the space (parallel, feed) changes what an hour"),
        ("seconds", {"cost": 1}, ": it is in cost, and nothing in the space (parallel, feed) changes what an hour"),
    ],
)
def test_what_an_hour_costs_must_differ_for_trials_to_be_chosen_by_it(
    made: ModuleType, lake: str, objective: str, budget: dict[str, float], why: str
) -> None:
    told = {"objectives": [{"name": objective}], "budget": budget, "prices": PRICES}
    assert f"objectives has {objective}, of which the budget gives every trial the same{why}" in refusal(
        made.sweep_job(lake, **told)
    )
    by_workers = made.sweep_job(lake, **told, space={"stride": STRIDE, "workers": WORKERS})
    if objective == "wall_seconds":
        assert why in refusal(by_workers)
    else:
        check_sweep(definite(by_workers))


@pytest.mark.parametrize(
    ("parameter", "sizes"),
    [
        (Choice(field="recipe.batch_size", values=(2, 4)), "2 or 4"),
        (Variants(variants={"as it is": {}, "more": {"recipe.batch_size": 8}}), "4 or 8"),
    ],
)
def test_a_population_with_a_budget_in_clips_keeps_its_batch(
    made: ModuleType, lake: str, parameter: Choice | Variants, sizes: str
) -> None:
    told = {"space": {"lr": RATE, "batch": parameter}, "budget": {"clips": 64}}
    moving = {"kind": "pbt", "explore": ["lr", "batch"]}
    why = refusal(made.sweep_job(lake, scheduler=moving, **told))
    assert why.startswith(f"scheduler.explore has batch, by which a step has {sizes} clips, and the budget is in clips")
    check_sweep(definite(made.sweep_job(lake, scheduler=moving | {"explore": ["lr"]}, **told)))
    check_sweep(definite(made.sweep_job(lake, scheduler=moving, **(told | {"budget": {"steps": 16}}))))


def test_halving_needs_a_judgement_at_its_first_rung(made: ModuleType, lake: str) -> None:
    told = refusal(made.sweep_job(lake, scheduler={"kind": "asha", "first": 0.1}))
    assert told.startswith("scheduler.first is 0.1 of a trial, and with judge.times=4 it is judged every 0.25")
    check_sweep(definite(made.sweep_job(lake, scheduler={"kind": "asha", "first": 0.25})))
