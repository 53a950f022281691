"""A space is checked before anything starts: what cannot be is told by the parameter, the field and the value."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import pytest

from cineray.config import override
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
        (
            {"ema": Variants(variants={"long": {"ema": {"deccay": 0.9}}})},
            "space.ema.long: TrainJob has no field `ema.deccay`",
        ),
        (
            {"workers": Choice(field="feed.workers", values=(2, 0))},
            "space.workers = 0 (feed.workers): feed.workers is 0, which is one process for every core that there is",
        ),
        (
            {"ahead": Choice(field="feed.ahead_bytes", values=(1 << 30, 1))},
            "space.ahead = 1 (feed.ahead_bytes): ahead_bytes is 1; 1 ranks with",
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


def test_one_value_that_clashes_with_the_base_is_told_how_to_go_together(made: ModuleType, lake: str) -> None:
    told = refusal(made.sweep_job(lake, space={"mode": Choice(field="recipe.sampling.mode", values=("uniform",))}))
    assert told.startswith("space.mode = uniform (recipe.sampling.mode): recipe.sampling got")
    assert "sampling.stride is given but sampling.mode is uniform" in told
    assert 'Variants(variants={"NAME": {"recipe.sampling.mode": "uniform", "OTHER.FIELD": ...}, ...})' in told
    assert "None (null) takes back" in told
    alone = refusal(made.sweep_job(lake, space={"frames": Choice(field="recipe.sampling.frames", values=(4, 0))}))
    assert "Variants" not in alone, "a value that is no value clashes with nothing"


def test_ways_of_sampling_are_variants_that_take_back_what_others_use(made: ModuleType, lake: str) -> None:
    """As the docstring of parameters.py has it."""
    sampling = "recipe.sampling"
    time = {
        "every frame": {f"{sampling}.stride": 1},
        "every fourth": {f"{sampling}.stride": 4},
        "8 a second": {f"{sampling}.mode": "fps", f"{sampling}.stride": None, f"{sampling}.fps": "8"},
        "anywhere": {f"{sampling}.mode": "random", f"{sampling}.stride": None},
    }
    job = definite(made.sweep_job(lake, space={"time": Variants(variants=time)}))
    check_sweep(job)
    found = [apply(job.base, job.space, {"time": name}).recipe.sampling for name in time]
    assert [(one.mode, one.stride, one.fps) for one in found] == [
        ("stride", 1, None),
        ("stride", 4, None),
        ("fps", None, "8"),
        ("random", None, None),
    ]


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


# ---- what would end a trial at once ----------------------------------------------------------------------------------


def of_latents(made: ModuleType, lake: str, path: str, **told: Any) -> Any:
    """2 x 2 places of a latent in each frame of it."""
    small = {"kind": "stdit", "size": "custom", "width": 16, "depth": 1, "heads": 2, "patch": [1, 2, 2]}
    return made.base_job(lake, **({"model": small, "autoencoder": {"kind": "vae_lite", "path": path}} | told))


def test_an_autoencoder_that_is_not_there_is_told_by_its_value(made: ModuleType, lake: str, vae: str) -> None:
    space = {"vae": Choice(field="autoencoder.path", values=(vae, "no/such/file")), "lr": RATE}
    told = {"objectives": [{"name": "clips_per_s"}], "base": of_latents(made, lake, vae)}
    assert refusal(made.sweep_job(lake, space=space, **told)).startswith(
        "space.vae = no/such/file (autoencoder.path): autoencoder.path is no/such/file, which cannot be opened: "
    )
    missing = made.sweep_job(lake, base=of_latents(made, lake, "no/such/file"))
    assert refusal(missing).startswith("base: autoencoder.path is no/such/file, which cannot be opened")


OF_CHANNELS = tuple({"data_mean": [0.0] * channels, "data_sd": [1.0] * channels} for channels in (4, 3))


@pytest.mark.parametrize(
    ("field", "values", "why"),
    [
        (
            "recipe.sampling.frames",
            (5, 9),
            r"space\.x = 9 .*: clips of 9x16x16 have latents of 3x2x2, .* of 2x2x2",
        ),
        (
            "recipe.frame.width",
            (16, 20),
            r"space\.x = 20 .*: a clip of 16x20 pixels was given to .* of 8x8 pixels",
        ),
        ("model.patch", ([1, 2, 2], [1, 4, 4]), r"space\.x = \[1, 4, 4\] .* do not divide into .* patches of 1x4x4"),
        ("diffusion", OF_CHANNELS, r"space\.x = .*data_mean has 3 numbers; the latents have 4 channels"),
    ],
)
def test_clips_that_do_not_divide_as_latents_are_told_by_their_value(
    made: ModuleType, lake: str, vae: str, field: str, values: tuple[Any, ...], why: str
) -> None:
    small = {"kind": "stdit", "size": "custom", "width": 16, "depth": 1, "heads": 2}
    model = small | {"patch": [2 if field == "recipe.sampling.frames" else 1, 2, 2]}
    recipe = made.base_job(lake).recipe
    recipe = recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"frames": 5})})
    base = of_latents(made, lake, vae, model=model, recipe=recipe)
    space = {"x": Choice(field=field, values=values), "lr": RATE}
    told = refusal(made.sweep_job(lake, base=base, space=space, objectives=[{"name": "clips_per_s"}]))
    assert re.match(why, told), told
    possible = {"x": Choice(field=field, values=values[:1])}
    check_sweep(definite(made.sweep_job(lake, base=base, space=possible, objectives=[{"name": "clips_per_s"}])))


def test_bytes_ahead_that_do_not_hold_what_ranks_have_in_hand_are_refused(made: ModuleType, lake: str) -> None:
    """A step of 4 clips of 4 frames of 16 x 16 is 12,288 bytes; two ranks have half of it each."""
    short = {"share": {"object_store_bytes": 12_288}}
    assert refusal(made.sweep_job(lake, **short)).startswith("base: ahead_bytes is 12,288; 1 ranks with")
    check_sweep(definite(made.sweep_job(lake, share={"object_store_bytes": 1 << 20})))
    steps = {"steps": Choice(field="feed.prefetch_steps", values=(4, 10**7))}
    told = refusal(made.sweep_job(lake, space=steps, share={"object_store_bytes": 1 << 30}))
    assert told.startswith("space.steps = 10000000 (feed.prefetch_steps): ahead_bytes is 1,073,741,824; 1 ranks with")


def test_a_share_that_holds_no_decode_process_is_refused(made: ModuleType, lake: str) -> None:
    told = refusal(made.sweep_job(lake, share={"decode_cpus": 0.3}))
    assert told.startswith("base: share.decode_cpus is 0.3 and feed.cpus_per_task is 1: a decode process reserves")
    check_sweep(
        definite(
            made.sweep_job(lake, base=made.base_job(lake, feed={"cpus_per_task": 0.3}), share={"decode_cpus": 0.3})
        )
    )


# ---- objectives and schedulers ---------------------------------------------------------------------------------------


def test_an_objective_that_does_not_exist_is_refused_by_name(made: ModuleType, lake: str) -> None:
    told = refusal(made.sweep_job(lake, objectives=[{"name": "beauty"}]))
    assert told.startswith("there is no objective 'beauty'; there are skill, noisiest_loss")


def test_who_is_told_nothing_is_not_judged_by_whether_it_listens(made: ModuleType, lake: str) -> None:
    """Another class or caption than the right one: there must be two."""
    base = made.base_job(lake)
    for name in ("wrong_over_right", "validation/wrong_over_right"):
        asked = {"objectives": [{"name": name}]}
        told = refusal(made.sweep_job(lake, base=override(base, ["classes=none"]), **asked))
        assert told.startswith(f"the objective {name} is measured by telling the network a wrong class or caption, and")
        assert "base.classes is none, and base.text.kind is none. Set base.classes=data" in told
    every = definite(made.sweep_job(lake, **asked))
    assert len(every.base.classes) > 1
    check_sweep(every)
    only = every.model_copy(update={"base": every.base.model_copy(update={"classes": every.base.classes[:1]})})
    with pytest.raises(UsageError, match=f"base.classes is {every.base.classes[0]} alone, and"):
        check_sweep(only)


@pytest.mark.parametrize("space", [{"classes": "data"}, {"text": {"kind": "builtin"}}])
def test_a_space_may_give_something_to_listen_to(made: ModuleType, lake: str, space: dict[str, Any]) -> None:
    variants = Variants(variants={"told": space, "not": {}})
    base = override(made.base_job(lake), ["classes=none"])
    job = made.sweep_job(lake, base=base, space={"told": variants}, objectives=[{"name": "wrong_over_right"}])
    check_sweep(definite(job))


def test_a_skill_needs_clips_that_it_is_measured_against(made: ModuleType, lake: str) -> None:
    base = override(made.base_job(lake), ["validation.baseline_clips=0"])
    for name in ("skill", "validation/skill_mean", "validation/skill_linear2"):
        told = refusal(made.sweep_job(lake, base=base, objectives=[{"name": name}]))
        assert told.startswith(f"the objective {name} needs base.validation.baseline_clips, which is 0")


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
