"""A diffusion model that begins to learn on a laptop: the demo's moving shapes, 300 steps, one process, no Ray.

Purpose: to see every part of a training work, from the lake to the verdict, before anything is spent. Not long enough
for good clips: `train_shapes.py` is. Hardware: two CPU cores, 2 GB. Needs what `make demo` makes:

    cineray train jobs/smoke_cpu.py
    cineray train jobs/smoke_cpu.py --set steps=50 --set validation.every_steps=25

Time: about a minute. Last known result (torch 2.13 on one core of a Xeon with AMX, 24 videos): 51 CPU seconds in all,
0.14 a step; validation/headline 0.075, skill 0.30 over the mean clip and 0.22 over the best linear denoiser,
wrong_over_right 1.11.
"""

from cineray.diffusion import DiffusionConfig, TimestepConfig
from cineray.feed import FeedConfig
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.train import CheckpointConfig, EmaConfig, OptimiserConfig, TrainJob, ValidationConfig


def job() -> TrainJob:
    """The whole config."""
    return TrainJob(
        name="smoke-cpu",
        recipe=Recipe(
            datasets=(DatasetSpec(lake="demo-out/lake", split="train"),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=8),
            frame=FrameSpec(height=32, width=32),
            batch_size=16,
            clips_per_visit=4,
        ),
        seed=0,
        feed=FeedConfig(driver="local"),
        steps=300,
        classes="data",
        model=StDiTConfig(
            size="custom", width=96, depth=4, heads=4, patch=(1, 8, 8), positions="rope+learned", modulation_std=0.02
        ),
        diffusion=DiffusionConfig(
            predict="x", least_noise=0.2, timesteps=TimestepConfig(mean=-1.2, sd=1.2, uniform_share=0.0), drop_pace=0.0
        ),
        optimiser=OptimiserConfig(muon_lr=4e-3, lr=2e-3, warmup_steps=30),
        ema=EmaConfig(decay=0.99),
        precision="fp32",
        validation=ValidationConfig(every_steps=100, clips=64, held_out=0.15, baseline_clips=128),
        checkpoint=CheckpointConfig(every_steps=100),
    )
