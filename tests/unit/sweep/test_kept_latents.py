"""Trials that keep latents: a store for each sampling, made before where a budget runs by the clock, and said so."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from cineray.cli.main import app
from cineray.config import job_to_yaml
from cineray.errors import UsageError
from cineray.plan import SamplingSpec
from cineray.sweep import SWEEP_KINDS, Choice, FloatRange, SweepJob, TrialBudget, Variants
from cineray.sweep.check import check_sweep
from cineray.sweep.judging import definite
from cineray.sweep.latents import latents_digest
from cineray.sweep.made_before import encoded_before, jobs_made_before
from cineray.sweep.trial_job import UNBOUNDED_STEPS, best_job, trial_job
from cineray.train import TrainJob, run_local
from cineray.train.latents_job import prepare

STRIDE = Choice(field="recipe.sampling.stride", values=(1, 2))
MODE = Choice(field="latents.mode", values=("online", "cache", "precomputed"))
IN_STEPS, BY_THE_CLOCK = TrialBudget(steps=4), TrialBudget(seconds=10)
VAE = {"kind": "vae_lite", "path": "a/run"}


def kept(made: ModuleType, mode: str, lake: str = "nowhere", vae: str = "", **told: Any) -> SweepJob:
    """Over strides, of a base job that keeps latents in `kept`."""
    autoencoder = {"kind": "vae_lite", "path": vae} if vae else VAE
    latents = {"mode": mode, "store": told.pop("store", "kept"), "compute": "fp32"}
    small = {"kind": "stdit", "size": "custom", "width": 16, "depth": 1, "heads": 2, "patch": [1, 2, 2]}
    own = {"steps": 8, "model": small, "autoencoder": autoencoder, "latents": latents}
    base = made.base_job(lake, **(own | told.pop("base", {})))
    job: SweepJob = made.sweep_job(lake, base=base, **({"space": {"stride": STRIDE}, "budget": IN_STEPS} | told))
    return job


def stores(made: ModuleType, job: SweepJob, *values: dict[str, Any]) -> list[str]:
    return [trial_job(made.judged(job), one).latents.store for one in values]


# ---- a store for each setting ----------------------------------------------------------------------------------------


def test_each_sampling_has_a_latent_store_of_its_own(made: ModuleType) -> None:
    job = kept(made, "cache", space={"stride": STRIDE, "seed": Choice(field="seed", values=(0, 1))})
    first, again, other = stores(
        made, job, {"stride": 1, "seed": 0}, {"stride": 1, "seed": 1}, {"stride": 2, "seed": 0}
    )
    assert first == again == f"kept/{latents_digest(trial_job(made.judged(job), {'stride': 1, 'seed': 0}))}"
    assert other != first


def test_one_store_serves_a_search_that_does_not_change_latents(made: ModuleType) -> None:
    job = kept(made, "cache", space={"lr": Choice(field="optimiser.lr", values=(1e-3, 1e-2))})
    assert stores(made, job, {"lr": 1e-3}, {"lr": 1e-2}) == ["kept", "kept"]


def test_how_latents_come_is_a_plain_choice_beside_any_sampling(made: ModuleType) -> None:
    job = kept(made, "cache", space={"mode": MODE, "stride": STRIDE})
    told = {
        (mode, stride): trial_job(made.judged(job), {"mode": mode, "stride": stride}).latents
        for mode in MODE.values
        for stride in (1, 2)
    }
    assert [told["online", 1].store, told["online", 2].store] == ["", ""], "which keeps nothing"
    assert told["cache", 1].store == told["precomputed", 1].store, "the same latents"
    assert told["cache", 1].store != told["cache", 2].store
    assert {one.mode for one in told.values()} == set(MODE.values)


def test_a_mode_that_brings_a_common_store_is_still_kept_apart_by_stride(made: ModuleType) -> None:
    modes = {"online": {}, "cache": {"latents.mode": "cache", "latents.store": "kept"}}
    base = {"latents": {"mode": "online"}}
    job = kept(made, "online", base=base, space={"mode": Variants(variants=modes), "stride": STRIDE})
    cached = stores(made, job, {"mode": "cache", "stride": 1}, {"mode": "cache", "stride": 2})
    assert len(set(cached)) == 2
    assert all(store.startswith("kept/") for store in cached)


@pytest.mark.parametrize(("second", "by_hand"), [("two", True), ("one", False)])
def test_stores_that_are_named_by_hand_stay_unless_two_samplings_share_one(
    made: ModuleType, second: str, by_hand: bool
) -> None:
    time = {
        "every": {"recipe.sampling.stride": 1, "latents.store": "one"},
        "other": {"recipe.sampling.stride": 2, "latents.store": second},
        "online": {"recipe.sampling.stride": 4, "latents.mode": "online"},
    }
    job = kept(made, "precomputed", space={"time": Variants(variants=time)})
    found = stores(made, job, *({"time": name} for name in time))
    assert found[2] == ""
    if by_hand:
        assert found == ["one", "two", ""]
    else:
        assert found[0] != found[1]
        assert all(store.startswith("one/") for store in found[:2])


def test_two_trials_of_different_strides_open_different_stores_and_those_of_one_stride_share_it(
    made: ModuleType, lake: str, vae: str, tmp_path: Path
) -> None:
    """Trained, without Ray: a store refuses latents of another sampling, so a wrong one would end the second trial."""
    lr = Choice(field="optimiser.lr", values=(1e-3, 1e-2))
    still = {"recipe": made.base_job(lake).recipe.model_copy(update={"sampling": sampling(start="first")})}
    job = definite(
        kept(made, "cache", lake, vae, store=str(tmp_path / "kept"), base=still, space={"stride": STRIDE, "lr": lr})
    )
    check_sweep(job)
    facts = []
    for stride, rate in ((1, 1e-3), (2, 1e-3), (1, 1e-2)):
        trial = trial_job(job, {"stride": stride, "lr": rate}, number=len(facts))
        here = trial.model_copy(update={"feed": trial.feed.model_copy(update={"driver": "local"})})
        facts.append(run_local(here, uri=str(tmp_path / trial.name))["latents"])
    first, other, again = ((one["encoded"], one["found"]) for one in facts)
    assert first[0] > 0
    assert other[0] > 0, "of which the first one's latents say nothing"
    assert again == (0, 16), "all 4 clips of all 4 steps: who has the same sampling finds what the first one kept"
    assert len(list((tmp_path / "kept").iterdir())) == 2


def sampling(**told: Any) -> SamplingSpec:
    return SamplingSpec(mode="stride", stride=1, frames=4, **told)


# ---- made before, and judged by the clock ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"budget": BY_THE_CLOCK}, "the budget is in seconds"),
        ({"objectives": [{"name": "skill"}, {"name": "clips_per_s"}]}, "clips_per_s is an objective"),
    ],
)
def test_a_cache_that_the_first_trial_would_fill_for_all_is_refused(
    made: ModuleType, told: dict[str, Any], why: str
) -> None:
    job = made.judged(kept(made, "cache", **told))
    with pytest.raises(UsageError, match=rf"latents\.mode is cache and {why}: the first trial .*`cineray latents`"):
        trial_job(job, {"stride": 1})
    job = made.judged(kept(made, "precomputed", **told))
    assert trial_job(job, {"stride": 1}).latents.store.startswith("kept/"), "which all trials only read"


def test_by_the_clock_latents_are_looked_for_in_as_many_steps_as_the_base_job_has(made: ModuleType) -> None:
    job = made.judged(kept(made, "precomputed", budget=BY_THE_CLOCK))
    trial = trial_job(job, {"stride": 1})
    assert (trial.steps, trial.latents.steps, trial.latents.made_steps(trial.steps)) == (UNBOUNDED_STEPS, 8, 8)
    assert best_job(job, {"stride": 1}, steps=321).latents.steps == 8
    of_steps = trial_job(made.judged(kept(made, "precomputed")), {"stride": 1})
    assert of_steps.latents.made_steps(of_steps.steps) == of_steps.steps == 4
    online = trial_job(
        made.judged(kept(made, "precomputed", budget=BY_THE_CLOCK, space={"mode": MODE})), {"mode": "online"}
    )
    assert online.latents.steps is None


def made_sweep(made: ModuleType, lake: str, vae: str, tmp_path: Path) -> SweepJob:
    """Clips begin anywhere, so each step draws others: only what was drawn beforehand is found."""
    return kept(made, "precomputed", lake, vae, store=str(tmp_path / "kept"), budget=BY_THE_CLOCK)


def test_latents_that_are_missing_are_missed_before_anything_starts_and_by_whose_they_are(
    made: ModuleType, lake: str, vae: str, tmp_path: Path
) -> None:
    job = definite(made_sweep(made, lake, vae, tmp_path))
    with pytest.raises(
        UsageError, match=r"space\.stride = 1 .*nothing is in .*kept/\w+\. Make .*`cineray latents JOB`"
    ):
        check_sweep(job)
    assert not (tmp_path / "kept").exists(), "looking begins no store"
    one, two = jobs_made_before(job)
    prepare(one, range(8)).make("local")
    with pytest.raises(UsageError, match=r"space\.stride = 2 .*nothing is in"):
        check_sweep(job)
    prepare(two, range(4)).make("local")
    with pytest.raises(UsageError, match=r"space\.stride = 2 .*of 32 clips of the run's 8 steps .*\d+ have no latent"):
        check_sweep(job)
    prepare(two, range(8)).make("local")
    check_sweep(job)


def test_one_command_makes_what_all_trials_read(made: ModuleType, lake: str, vae: str, tmp_path: Path) -> None:
    job = made_sweep(made, lake, vae, tmp_path)
    path = tmp_path / "sweep.yaml"
    path.write_text(job_to_yaml(job, SWEEP_KINDS))
    told = CliRunner().invoke(app, ["latents", str(path), "--engine", "local", "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert (found["sweep"], len({one["store"] for one in found["stores"]})) == ("made", 2)
    assert [(one["steps"], one["draws"]) for one in found["stores"]] == [(8, 32), (8, 32)]
    job = definite(job)
    check_sweep(job)
    for values in ({"stride": 1}, {"stride": 2}):
        trial = trial_job(job, values)
        budget = trial.budget.model_copy(update={"seconds": 0.2})
        feed = trial.feed.model_copy(update={"driver": "local"})
        ran = run_local(
            trial.model_copy(update={"budget": budget, "feed": feed}), uri=str(tmp_path / f"run{values['stride']}")
        )
        assert ran["latents"]["found"] >= 4, "it was let begin, and read what was made"
    again = json.loads(CliRunner().invoke(app, ["latents", str(path), "--engine", "local", "--json"]).stdout)
    assert [one["encoded"] for one in again["stores"]] == [0, 0]


def test_what_nobody_can_make_before_is_said(made: ModuleType) -> None:
    jitter = FloatRange(field="recipe.sampling.jitter", low=0.1, high=0.5)
    with pytest.raises(UsageError, match=r"space\.jitter is a range of recipe\.sampling\.jitter"):
        jobs_made_before(made.judged(kept(made, "precomputed", space={"jitter": jitter})))
    with pytest.raises(UsageError, match=r"no trial of the sweep made has latents\.mode=precomputed"):
        jobs_made_before(made.judged(kept(made, "cache")))
    lr = FloatRange(field="optimiser.lr", low=1e-4, high=1e-2)
    jobs = jobs_made_before(made.judged(kept(made, "precomputed", space={"stride": STRIDE, "lr": lr})))
    assert [job.recipe.sampling.stride for job in jobs] == [1, 2], "a rate draws no other clips"


def test_a_plain_choice_of_batches_makes_the_latents_of_each(made: ModuleType) -> None:
    batch = Choice(field="recipe.batch_size", values=(2, 4))
    found: list[TrainJob] = jobs_made_before(made.judged(kept(made, "precomputed", space={"batch": batch})))
    assert [(job.recipe.batch_size, job.latents.store) for job in found] == [(2, "kept"), (4, "kept")]


# ---- what it cost ----------------------------------------------------------------------------------------------------


def test_what_encoding_before_took_is_said_for_no_budget_has_it(
    made: ModuleType, lake: str, vae: str, tmp_path: Path
) -> None:
    job = definite(made_sweep(made, lake, vae, tmp_path))
    for one in jobs_made_before(job):
        prepare(one, range(8)).make("local")
    tried = [{"number": n, "values": {"stride": stride}, "step": step} for n, stride, step in [(0, 1, 8), (1, 2, 20)]]
    (cost, beyond) = encoded_before(job, tried)
    assert cost.startswith("latents of ")
    assert "which no trial's seconds and no cost have in them" in cost
    assert beyond.startswith(
        "trial 1 trained on past the 8 steps (base.steps, or latents.steps) whose latents were made before"
    )
    (cost,) = encoded_before(job, tried[:1])
    assert encoded_before(definite(kept(made, "cache", lake, vae)), tried) == []


def test_a_store_that_is_damaged_since_costs_a_sentence_and_not_the_result(
    made: ModuleType, lake: str, vae: str, tmp_path: Path
) -> None:
    job = definite(made_sweep(made, lake, vae, tmp_path))
    (store, *_) = [one.latents.store for one in jobs_made_before(job)]
    Path(store).mkdir(parents=True)
    Path(store, "store.json").write_text("{")
    (told,) = encoded_before(job, [{"number": 0, "values": {"stride": 1}, "step": 8}])
    assert told.startswith(f"what the latents in {store} cost is not known: ")
