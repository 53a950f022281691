"""A trial's job: its values, the same judgements for all, its share; and the best one as a job of its own."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from cineray.config import job_from_yaml, job_to_yaml
from cineray.errors import UsageError
from cineray.feed import FeedSpec
from cineray.lake import Lake
from cineray.plan import BucketSpec, DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.sweep import Choice, IntRange, JudgeConfig, NodePrice, Pbt, PricesConfig, TrialBudget, judging
from cineray.sweep.capacity import Share
from cineray.sweep.judging import definite
from cineray.sweep.trial_job import UNBOUNDED_STEPS, best_job, trial_job
from cineray.train import OptimiserConfig, RunFolder, TrainJob, run_local
from cineray.train.ending import planned_steps
from cineray.train.job_kinds import JOB_KINDS
from cineray.train.ledger import read_all_rows
from cineray.train.resolve import resolved, training_spec, validation_spec

SHARE = Share(decode_cpus=3.0, object_store_bytes=1 << 20)
STRIDES = (1, 2, 4)
IN_REAL_TIME = SamplingSpec(mode="fps", fps="8", frames=6)


# ---- what all are judged on ------------------------------------------------------------------------------------------


def test_trials_of_any_stride_are_asked_for_the_same_instants(made: ModuleType, lake: str) -> None:
    job = definite(made.sweep_job(lake, judge=JudgeConfig(sampling=IN_REAL_TIME, clips=6)))
    asked = []
    for stride in STRIDES:
        trial = resolved(trial_job(job, {"stride": stride}))
        spec = validation_spec(trial)
        assert spec is not None
        asked.append([(clip.video_id, clip.frame_pts, clip.crop) for clip in spec.open().plan.batch(0)])
        assert trial.recipe.sampling.stride == stride
    assert asked[0] == asked[1] == asked[2]
    assert {len(pts) for _, pts, _ in asked[0]} == {6}


def test_no_trial_trains_on_what_trials_are_judged_on(made: ModuleType, lake: str) -> None:
    job = definite(made.sweep_job(lake))
    assert job.judge.recipe is not None
    plan = FeedSpec(recipe=job.judge.recipe).open().plan
    judged_on = {clip.video_id for step in range(plan.steps_per_epoch) for clip in plan.batch(step)}
    for stride in STRIDES:
        plan = training_spec(resolved(trial_job(job, {"stride": stride}))).open().plan
        trained_on = {clip.video_id for step in range(plan.steps_per_epoch) for clip in plan.batch(step)}
        assert judged_on
        assert trained_on
        assert not judged_on & trained_on


def test_a_definite_job_is_definite(made: ModuleType, lake: str) -> None:
    job = definite(made.sweep_job(lake))
    assert definite(job) == job
    assert job.base.recipe.datasets[0].version == "1"
    assert job.base.classes != "data"
    assert job.judge.recipe == job.base.validation.recipe


def test_a_base_of_several_buckets_is_judged_on_one_shape_or_on_all(made: ModuleType, lake: str) -> None:
    values = made.base_job(lake).recipe.model_dump()
    shapes = (BucketSpec(frames=4, height=16, width=16), BucketSpec(frames=8, height=16, width=16))
    values |= {"buckets": shapes, "sampling": SamplingSpec(mode="stride"), "frame": FrameSpec()}
    base = made.base_job(lake, recipe=values)
    both = definite(made.sweep_job(lake, base=base)).judge.recipe
    assert both is not None
    assert both.shapes == shapes
    one = JudgeConfig(sampling=IN_REAL_TIME, frame=FrameSpec(height=32, width=32))
    recipe = definite(made.sweep_job(lake, base=base, judge=one)).judge.recipe
    assert recipe is not None
    assert [bucket.shape for bucket in recipe.shapes] == [(6, 32, 32)]
    with pytest.raises(UsageError, match=r"give judge\.sampling"):
        definite(made.sweep_job(lake, base=base, judge=JudgeConfig(sampling=IN_REAL_TIME)))


def test_judging_on_clips_that_no_video_has_is_refused(made: ModuleType, lake: str) -> None:
    judge = JudgeConfig(sampling=SamplingSpec(mode="fps", fps="1", frames=60))
    with pytest.raises(UsageError, match="there is nothing to judge trials on"):
        definite(made.sweep_job(lake, judge=judge))


def test_judging_on_what_trials_train_on_is_refused(made: ModuleType, lake: str) -> None:
    """Held out by hand, and wrongly: a recipe that was given is held out by nobody."""
    ids = sorted(Lake.open(lake).read(Lake.open(lake).resolve("latest"), "media")["video_id"].to_pylist())
    base = made.base_job(lake)

    def of(videos: list[str]) -> Recipe:
        among = ", ".join(f"'{video}'" for video in videos)
        dataset = base.recipe.datasets[0].model_copy(update={"filter": f"video_id IN ({among})"})
        return base.recipe.model_copy(update={"datasets": (dataset,)})  # type: ignore[no-any-return]

    trains = base.model_copy(update={"recipe": of(ids[:8])})
    with pytest.raises(UsageError, match=r"of 4 videos .* 2 are trained on too, .*learnt by heart"):
        definite(made.sweep_job(lake, base=trains, judge=JudgeConfig(recipe=of(ids[6:10]))))
    own = base.validation.model_copy(update={"recipe": of(ids[7:9])})
    with pytest.raises(UsageError, match=r"of 2 videos .* 1 are trained on too"):
        definite(made.sweep_job(lake, base=trains.model_copy(update={"validation": own})))
    job = definite(made.sweep_job(lake, base=trains, judge=JudgeConfig(recipe=of(ids[8:]))))
    assert job.judge.recipe is not None
    assert definite(job) == job


def test_judging_on_another_cut_of_a_recording_that_trains_is_refused(
    made: ModuleType, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = definite(made.sweep_job(lake))
    own = judging.group_of_videos

    def in_two_groups(spec: DatasetSpec) -> dict[str, str]:
        found = own(spec)
        return found | {min(found): "one recording"}

    monkeypatch.setattr(judging, "group_of_videos", in_two_groups)
    with pytest.raises(UsageError, match=r"0 are trained on too, and 1 more are of groups that are trained on"):
        definite(job)


# ---- what a trial is -------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_found_out_by_a_second_try_and_no_more(made: ModuleType) -> None:
    job = made.judged(made.sweep_job())
    assert job.base.limits.failures_without_progress > 1
    assert trial_job(job, {"stride": 1}).limits.failures_without_progress == 1


def test_a_budget_of_seconds_ends_a_trial_by_the_clock(made: ModuleType) -> None:
    trial = trial_job(made.judged(made.sweep_job()), {"stride": 2}, number=7, share=SHARE)
    assert (trial.name, trial.steps, trial.budget.seconds) == ("made-0007", UNBOUNDED_STEPS, 10.0)
    assert (trial.validation.every_seconds, trial.validation.every_steps) == (pytest.approx(2.625), 0)
    assert 3 * 2.625 < 10 < 4 * 2.625, "three times on its way, and at its end"
    assert trial.validation.recipe == made.base_job().recipe, "what the sweep says that all are judged on"
    assert (trial.checkpoint.every_steps, trial.checkpoint.keep_best) == (None, 1), "saved whenever it is judged"
    assert (trial.feed.driver, trial.feed.workers, trial.feed.ahead_bytes) == ("ray", 3, 1 << 20)
    assert trial.samples.every_steps == 0
    told = trial_job(made.judged(made.sweep_job()), {"stride": 2}, group="made-1a2b3c4d")
    assert told.tracking.wandb_group == "made-1a2b3c4d", "the sweep's id: others may have its name"


def test_a_budget_of_clips_gives_larger_batches_fewer_steps(made: ModuleType) -> None:
    space = {"batch": IntRange(field="recipe.batch_size", low=4, high=8)}
    job = made.judged(made.sweep_job(space=space, budget=TrialBudget(clips=100)))
    found = [trial_job(job, {"batch": size}) for size in (4, 8)]
    assert [(trial.steps, trial.budget.seconds, trial.validation.every_steps) for trial in found] == [
        (25, None, 7),
        (13, None, 4),
    ]


def test_a_budget_of_money_gives_cheaper_trials_more_seconds(made: ModuleType) -> None:
    space = {"workers": Choice(field="feed.workers", values=(2, 6))}
    prices = PricesConfig(nodes={"cpu": NodePrice(per_hour=8, cpus=8)}, train="cpu")  # a core is 1 an hour
    job = made.judged(made.sweep_job(space=space, budget=TrialBudget(cost=0.01), prices=prices))
    seconds = [trial_job(job, {"workers": workers}, share=SHARE).budget.seconds for workers in (2, 6)]
    assert seconds == pytest.approx([0.01 / 3 * 3600, 0.01 / 7 * 3600]), "one core trains, the others decode"


def test_what_a_search_decides_about_decoding_is_not_taken_from_it(made: ModuleType) -> None:
    space = {"ahead": Choice(field="feed.ahead_bytes", values=(1000, 2000))}
    trial = trial_job(made.judged(made.sweep_job(space=space)), {"ahead": 2000}, share=SHARE)
    assert (trial.feed.ahead_bytes, trial.feed.workers) == (2000, 3)


def test_a_population_keeps_the_checkpoints_that_others_may_take_over(made: ModuleType) -> None:
    space = {"lr": Choice(field="optimiser.lr", values=(1e-3, 1e-2))}
    job = made.judged(made.sweep_job(space=space, scheduler=Pbt(explore=("lr",))))
    assert trial_job(job, {"lr": 1e-3}).checkpoint.keep_last == job.judge.times


# ---- the best one ----------------------------------------------------------------------------------------------------


def test_the_best_trial_is_a_job_of_its_own(made: ModuleType, lake: str, tmp_path: Path) -> None:
    job = definite(made.sweep_job(lake))
    best = best_job(job, {"stride": 4}, steps=321)
    trial = trial_job(job, {"stride": 4}, share=SHARE)
    assert (best.name, best.steps, best.budget.seconds) == ("made-best", 321, None)
    assert job_from_yaml(job_to_yaml(best, JOB_KINDS), JOB_KINDS, where="best.yaml") == best
    same = ("recipe", "seed", "model", "optimiser", "diffusion", "ema", "classes", "micro_batch", "precision")
    assert [name for name in same if getattr(best, name) != getattr(trial, name)] == []
    assert training_spec(resolved(best)).fingerprint == training_spec(resolved(trial)).fingerprint
    assert (best.feed, best.checkpoint, best.tracking) == (job.base.feed, job.base.checkpoint, job.base.tracking)
    assert best.validation.recipe == trial.validation.recipe


def test_the_best_job_takes_the_steps_that_the_trial_took(made: ModuleType, lake: str, tmp_path: Path) -> None:
    """By the clock the trial found out when its rates must begin to fall; its job knows that from the beginning."""
    base = made.base_job(lake, optimiser=OptimiserConfig(warmup_steps=2, schedule="wsd", decay_fraction=0.5))
    job = definite(made.sweep_job(lake, base=base, budget=TrialBudget(seconds=0.5)))
    trial = trial_job(job, {"stride": 2})
    run_local(_here(trial), uri=str(tmp_path / "trial"))
    steps = planned_steps(RunFolder.open(str(tmp_path / "trial")), trial)
    run_local(_here(best_job(job, {"stride": 2}, steps=steps)), uri=str(tmp_path / "best"))
    first, again = (steps_of(tmp_path / name) for name in ("trial", "best"))
    assert len(first) == steps > 4
    assert first == again
    assert first[-1][2] < first[steps // 2][2], "the rates fell"


def steps_of(run: Path) -> list[tuple[int, str, float, float]]:
    return [(row["step"], row["clips_digest"], row["lr"], row["loss"]) for row in read_all_rows(str(run / "ledger"))]


def _here(job: TrainJob) -> TrainJob:
    return job.model_copy(update={"feed": job.feed.model_copy(update={"driver": "local"})})
