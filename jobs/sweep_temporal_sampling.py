"""How many frames, and how far apart? Each answer gets the same seconds, and all are asked for the same instants.

Purpose: to choose a temporal sampling by quality and speed together, in a world whose right answer is known. A disk
goes round and round, a lap in 0.8 s, filmed 20 times a second; every 8th frame shows it half a lap further, which is as
much forwards as backwards. So stride 8 must lose, however fast it is. Hardware: two CPU cores, 4 GB. Needs such videos:

    cineray demo --world laps --until ingest --videos 200 --out laps-out
    cineray sweep jobs/sweep_temporal_sampling.py --quick

`--quick` tries 4 or 8 frames at stride 1, 2 or 8, all six. What is judged is eight frames at 20 a second, whatever a
trial trained on. The loss on the noisiest clips chooses; who wants speed first says so, and still gets no stride 8:

    cineray sweep jobs/sweep_temporal_sampling.py --quick --set \\
        'objectives=[{name: clips_per_s, tolerance: 0.15}, {name: noisiest_loss}]'

Time: six minutes. Last known result (torch 2.13 on two quiet cores of a Xeon): by quality 8 frames at stride 1, with a
loss of 0.059, 674 clips/s, and all clips in the direction that they were told; speed first, 4 frames at stride 1:
0.147, and 765 clips/s where 8 frames had 581. At stride 8 the loss is 0.24 and the direction a coin's. On a busy
machine trials get too few steps to be told apart. The table is in benchmarks/results/sweep_quick.md.
"""

from cineray.diffusion import DiffusionConfig, TimestepConfig
from cineray.evaluate import EvaluateConfig, SampleConfig
from cineray.feed import FeedConfig
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.sweep import (
    Asha,
    Choice,
    FinalistsConfig,
    JudgeConfig,
    ObjectiveSpec,
    SearchConfig,
    SweepJob,
    TrialBudget,
)
from cineray.train import EmaConfig, OptimiserConfig, TrainJob, ValidationConfig


def base() -> TrainJob:
    """What all trials share: the smallest network that learns the disk's way in half a minute."""
    return TrainJob(
        name="laps",
        recipe=Recipe(
            datasets=(DatasetSpec(lake="laps-out/lake", split="train"),),
            sampling=SamplingSpec(mode="stride", stride=1, frames=8),
            frame=FrameSpec(height=16, width=16),
            batch_size=16,
            clips_per_visit=4,
        ),
        seed=0,
        feed=FeedConfig(driver="ray"),
        steps=1000,
        classes="data",
        model=StDiTConfig(
            size="custom",
            width=64,
            depth=2,
            heads=4,
            patch=(1, 8, 8),
            modulation_std=0.02,
            # Nothing here is quicker than a lap; a model that is asked for instants between its own must not see more.
            rope_seconds=(0.8, 16.0),
        ),
        diffusion=DiffusionConfig(
            predict="x",
            least_noise=0.2,
            timesteps=TimestepConfig(mean=-1.2, sd=1.2, uniform_share=0.0),
            drop=0.0,
            drop_pace=0.0,
        ),
        optimiser=OptimiserConfig(muon_lr=1.2e-2, lr=6e-3, warmup_steps=20, schedule="wsd", decay_fraction=0.3),
        ema=EmaConfig(decay=0.98),
        precision="fp32",
        validation=ValidationConfig(clips=128, baseline_clips=256),
    )


def judge() -> JudgeConfig:
    """The same eight instants, 1/20 s apart, for everyone; and do the clips that it makes go where they were told?"""
    return JudgeConfig(
        times=4,
        sampling=SamplingSpec(mode="fps", fps="20", frames=8),
        evaluate=EvaluateConfig(
            clips=32,
            sampler=SampleConfig(steps=15, guidance=1.0),
            metrics=("direction_accuracy", "motion_ok", "trajectory_error"),
            feature_net="",
            training_clips=0,
            controls=False,
            sensitivity_clips=0,
            shown=6,
        ),
    )


def job() -> SweepJob:
    """The whole config."""
    return SweepJob(
        name="temporal-sampling",
        base=base(),
        space={
            "frames": Choice(field="recipe.sampling.frames", values=(2, 4, 8)),
            "stride": Choice(field="recipe.sampling.stride", values=(1, 2, 4, 8)),
            "visits": Choice(field="recipe.clips_per_visit", values=(1, 4)),
        },
        objectives=(
            # Not the skill: what goes round evenly a linear denoiser can nearly draw, and few trials beat it so soon.
            ObjectiveSpec(name="noisiest_loss", tolerance=0.05),
            ObjectiveSpec(name="clips_per_s"),
        ),
        budget=TrialBudget(seconds=60),
        trials=16,
        search=SearchConfig(kind="tpe", seed=0),
        scheduler=Asha(first=0.25),
        judge=judge(),
        finalists=FinalistsConfig(most=3, seconds=15, warmup_seconds=12, repeats=3),
        quick=(
            "space.frames.values=[4, 8]",
            "space.stride.values=[1, 2, 8]",
            "space.visits.values=[4]",
            "search.kind=grid",
            "scheduler={kind: fifo}",
            "trials=6",
            "budget.seconds=18",
            "judge.times=2",
            "finalists={most: 2, seconds: 6, warmup_seconds: 12, repeats: 1}",
        ),
    )
