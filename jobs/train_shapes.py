"""Moving shapes from noise, in the direction and at the speed that they are told: motion in minutes on two cores.

Purpose: the smallest training whose clips are right, to see what a change of the data, the sampling or the model does
to motion; `cineray demo` trains it. 8 frames of 32 px at 8 frames per second, 0.7 million weights beside the words'.
Hardware: two CPU cores, 4 GB. Needs the demo's shapes:

    cineray demo --until ingest
    cineray train jobs/train_shapes.py

On a GPU: --set precision=bf16 --set compile=true. What ranks motion is `validation/headline` (the noisiest bins) and
`validation/wrong_over_right`; the mean loss over all noise levels does not.

Time: four minutes of two cores. Last known result (torch 2.13 on two cores of a Xeon with AMX, the 800 videos of `make
demo`, seed 0), of 128 clips from the averaged weights (25 Euler steps, guidance 1.5), with 95 % intervals: direction
right 1.00 [0.97, 1.00], by permuted labels 0.12; all of direction, speed, path and object right 1.00 [0.97, 1.00], of
real clips 0.98; off a straight path by 0.32 px; combinations that no training clip has 1.00. Skill over the best linear
denoiser 0.70 on the noisiest half, wrong_over_right 3.05. Without captions, which alone say the speed, 0.84 of the
clips take the right direction. Seen, and judged by no metric: squares and diamonds come out roundish. One clip of those
128 leaves through an edge and comes back through the opposite one, as no real one does: it counted as one object then,
and does not any more.
"""

from cineray.diffusion import DiffusionConfig, TimestepConfig
from cineray.feed import FeedConfig
from cineray.models import StDiTConfig
from cineray.models.configs import TextConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.train import CheckpointConfig, EmaConfig, OptimiserConfig, ParallelConfig, TrainJob, ValidationConfig


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
        feed=FeedConfig(driver="ray"),
        parallel=ParallelConfig(workers=2),
        steps=1100,
        classes="data",
        # The direction is the class; speed, shape and colour are in the caption alone.
        text=TextConfig(kind="builtin", tokens=16, width=64, depth=1, heads=4),
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
        validation=ValidationConfig(every_steps=550, clips=128, baseline_clips=256),
        checkpoint=CheckpointConfig(every_steps=550),
    )
