"""Moving shapes from noise, in the direction that they are told: the recipe that learns motion in minutes on two cores.

Purpose: the smallest training whose clips are right, to see what a change of the data, the sampling or the model does
to motion. 8 frames of 32 px at 8 frames per second, 8 directions, 0.6 million weights. Hardware: two CPU cores, 2 GB.
Needs more of the demo's shapes than `make demo` makes, so that directions and not videos are learnt:

    cineray demo --out demo-out --videos 400
    cineray train jobs/train_shapes.py

On a GPU: --set precision=bf16 --set compile=true. What ranks motion is `validation/headline` (the noisiest bins) and
`validation/wrong_over_right`; the mean loss over all noise levels does not.

Time: 200 CPU seconds, 0.16 a step. Last known result (torch 2.13 on one core of a Xeon with AMX, 400 videos, seed 0):
validation/headline 0.074, skill 0.52 over the mean clip and 0.41 over the best linear denoiser, wrong_over_right 1.48.
Of 64 clips sampled from the averaged weights (16 Euler steps, guidance 1.5), 57 move in the direction that they were
told (0.89; by chance 0.125).
"""

from cineray.diffusion import DiffusionConfig, TimestepConfig
from cineray.feed import FeedConfig
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.train import CheckpointConfig, EmaConfig, OptimiserConfig, TrainJob, ValidationConfig


def job() -> TrainJob:
    """The whole config."""
    return TrainJob(
        name="train-shapes",
        recipe=Recipe(
            datasets=(DatasetSpec(lake="demo-out/lake", split="train"),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=8),
            frame=FrameSpec(height=32, width=32),
            batch_size=16,
            clips_per_visit=4,
        ),
        seed=0,
        feed=FeedConfig(driver="local"),
        steps=1100,
        classes="data",
        model=StDiTConfig(
            # A learnt table beside the rotations, and modulation that does not start at zero: both for short trainings.
            size="custom",
            width=96,
            depth=4,
            heads=4,
            patch=(1, 8, 8),
            positions="rope+learned",
            modulation_std=0.02,
        ),
        diffusion=DiffusionConfig(
            # A patch has 192 values and a token 96: the data can be predicted through that, noise could not.
            predict="x",
            least_noise=0.2,
            # Where motion is decided: most clips are mostly noise.
            timesteps=TimestepConfig(mean=-1.2, sd=1.2, uniform_share=0.0),
            drop=0.1,
            drop_pace=0.0,
        ),
        optimiser=OptimiserConfig(muon_lr=4e-3, lr=2e-3, warmup_steps=30, schedule="wsd", decay_fraction=0.3),
        ema=EmaConfig(decay=0.99),
        precision="fp32",
        validation=ValidationConfig(every_steps=275, clips=256, held_out=0.05, baseline_clips=256),
        checkpoint=CheckpointConfig(every_steps=275),
    )
