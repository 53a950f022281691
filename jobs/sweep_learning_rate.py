"""Which learning rate, which average, which batch? Sixteen trials of a minute each; half of them end early.

Purpose: the usual first sweep, for the demo's moving shapes. Trials get equal seconds, so a larger batch must be worth
its slower steps. Rates are found by their order of magnitude; Muon's goes with AdamW's. Hardware: two CPU cores, 4 GB.
Needs what `make demo` makes:

    cineray demo --until ingest
    cineray sweep jobs/sweep_learning_rate.py --quick

`--quick` tries six rates over three orders of magnitude, each for 20 s at a quarter of the size: the least learns too
little in that time, the greatest breaks, and the best lies in between. Rates that change while trials train, worse
trials going on from better ones' weights: --set 'scheduler={kind: pbt, explore: [lr]}' --set
base.optimiser.schedule=constant --set search.kind=random

Time: half an hour, estimated; `--quick` four to six minutes. Last known result of `--quick` (torch 2.13 on two quiet
cores of a Xeon, the 800 videos of the demo): from 1e-4 to 2.5e-2 losses of 0.244, 0.147, 0.102, 0.081 and 0.112; 1e-1
was stopped with 0.454. The whole one was not run yet.
"""

from cineray.diffusion import DiffusionConfig, TimestepConfig
from cineray.feed import FeedConfig
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.sweep import (
    Asha,
    Choice,
    FinalistsConfig,
    FloatRange,
    JudgeConfig,
    ObjectiveSpec,
    SearchConfig,
    SweepJob,
    TrialBudget,
)
from cineray.train import EmaConfig, OptimiserConfig, TrainJob, ValidationConfig


def base() -> TrainJob:
    """What all trials share: `smoke_cpu.py`, under Ray."""
    return TrainJob(
        name="shapes",
        recipe=Recipe(
            datasets=(DatasetSpec(lake="demo-out/lake", split="train"),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=8),
            frame=FrameSpec(height=32, width=32),
            batch_size=16,
            clips_per_visit=4,
        ),
        seed=0,
        feed=FeedConfig(driver="ray"),
        steps=1000,
        classes="data",
        model=StDiTConfig(
            size="custom", width=96, depth=4, heads=4, patch=(1, 8, 8), positions="rope+learned", modulation_std=0.02
        ),
        diffusion=DiffusionConfig(
            predict="x", least_noise=0.2, timesteps=TimestepConfig(mean=-1.2, sd=1.2, uniform_share=0.0), drop_pace=0.0
        ),
        optimiser=OptimiserConfig(muon_lr=4e-3, lr=2e-3, warmup_steps=30, schedule="wsd", decay_fraction=0.3),
        ema=EmaConfig(decay=0.99),
        precision="fp32",
        validation=ValidationConfig(clips=128, baseline_clips=256),
    )


def job() -> SweepJob:
    """The whole config."""
    return SweepJob(
        name="learning-rate",
        base=base(),
        space={
            "lr": FloatRange(field="optimiser.lr", low=1e-4, high=1e-1, log=True, also={"optimiser.muon_lr": 2.0}),
            "average": Choice(field="ema.decay", values=(0.95, 0.98, 0.99)),
            "batch": Choice(field="recipe.batch_size", values=(8, 16, 32)),
        },
        # Of all noise levels: on the noisiest ones so short trainings hardly differ yet.
        objectives=(ObjectiveSpec(name="loss", tolerance=0.02), ObjectiveSpec(name="clips_per_s")),
        budget=TrialBudget(seconds=60),
        trials=16,
        search=SearchConfig(kind="tpe", seed=0),
        scheduler=Asha(first=0.25),
        judge=JudgeConfig(times=4),
        finalists=FinalistsConfig(most=2, seconds=15, warmup_seconds=12, repeats=3),
        quick=(
            "base.recipe.frame={height: 16, width: 16}",
            "base.model={kind: stdit, size: custom, width: 64, depth: 2, heads: 4, patch: [1, 8, 8], "
            "positions: rope+learned, modulation_std: 0.02}",
            "space.lr.grid=6",
            "space.average.values=[0.98]",
            "space.batch.values=[16]",
            "search.kind=grid",
            "trials=6",
            "budget.seconds=20",
            "finalists.most=0",
        ),
    )
