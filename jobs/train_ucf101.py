"""UCF101, class-conditional: 16 frames of 128 px at 12.5 frames per second, straight from the videos.

Purpose: the small benchmark that video diffusion papers share. Needs the data set as it unpacks, one folder per class
(`UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi`). The clips of one group (`g01`) of a class were cut from one
recording, so the splits are drawn by group:

    cineray ingest UCF-101 --lake lakes/ucf101 --group-by 'path:(v_.*_g[0-9]+)' --split train=0.9 --split validation=0.1
    cineray train jobs/train_ucf101.py

Hardware: one H200, or any GPU of 80 GB with --set micro_batch=64. Eight GPUs: --set parallel.workers=8. Two nodes of
eight: --set parallel.workers=16 --set parallel.kind=hsdp, on their cluster. The batch is 256 either way.
Time: about a day on one H200 (estimated from its arithmetic; not measured). Last known result: none yet.
"""

from cineray.diffusion.config import DiffusionConfig, TimestepConfig
from cineray.feed.job import FeedConfig
from cineray.models.configs import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.train.config import CheckpointConfig, EmaConfig, OptimiserConfig, TrainJob, ValidationConfig


def job() -> TrainJob:
    """The whole config."""
    return TrainJob(
        name="ucf101",
        recipe=Recipe(
            datasets=(DatasetSpec(lake="lakes/ucf101", split="train"),),
            sampling=SamplingSpec(mode="fps", fps="12.5", frames=16, short_videos="loop"),
            frame=FrameSpec(height=128, width=128, flip=0.5),
            batch_size=256,
            clips_per_visit=4,
        ),
        feed=FeedConfig(driver="ray"),
        classes="data",
        model=StDiTConfig(size="B", patch=(2, 16, 16), bottleneck=256),
        # Pixels: the network says the clip itself, and the noise levels lean to where motion is decided.
        diffusion=DiffusionConfig(predict="x", timesteps=TimestepConfig(mean=-0.8, sd=1.0)),
        steps=200_000,
        optimiser=OptimiserConfig(kind="muon+adamw", muon_lr=1e-3, lr=5e-4, warmup_steps=1000),
        ema=EmaConfig(decay=0.9999),
        compile=True,
        validation=ValidationConfig(every_steps=5000, clips=512),
        checkpoint=CheckpointConfig(every_steps=2500, keep_last=2, keep_best=1),
    )
