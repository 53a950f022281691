"""Captioned video from WebDataset shards: text-conditional, three shapes of clip, in the latents of a `vae_lite`.

Purpose: the whole of cineray in one job. Each member of a shard is a video with its caption beside it (`0001.mp4`,
`0001.txt`); one without a caption is learnt from as if its caption were hidden. The autoencoder is trained first, by
jobs/train_vae.py on the same lake (its docstring has the settings for real videos; add them):

    cineray ingest s3://bucket/shards --lake s3://bucket/lakes/captioned
    cineray train jobs/train_vae.py --run runs/vae --set recipe.datasets.0.lake=s3://bucket/lakes/captioned
    cineray train jobs/train_captioned.py

Hardware: one node of eight GPUs, decode nodes as `cineray plan` says. One GPU: --set parallel.workers=1
--set micro_batch=32. Two nodes: --set parallel.workers=16 --set parallel.kind=hsdp. Preemptible machines:
--set parallel.workers=[4,16].
Time: as long as one likes; 100,000 steps are the default. Last known result: none yet.
"""

from cineray.diffusion.config import DiffusionConfig, TimestepConfig
from cineray.feed.job import FeedConfig
from cineray.models.autoencoder_config import VaeLiteConfig
from cineray.models.configs import StDiTConfig, TextConfig
from cineray.plan import BucketSpec, DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.train.config import (
    CheckpointConfig,
    EmaConfig,
    OptimiserConfig,
    ParallelConfig,
    TrainJob,
    ValidationConfig,
)
from cineray.train.latents_config import LatentsConfig


def job() -> TrainJob:
    """The whole config."""
    return TrainJob(
        name="captioned",
        recipe=Recipe(
            datasets=(DatasetSpec(lake="s3://bucket/lakes/captioned", split="train"),),
            sampling=SamplingSpec(mode="random", fps="12"),
            frame=FrameSpec(),
            buckets=(
                BucketSpec(frames=17, height=256, width=256),
                BucketSpec(frames=33, height=192, width=192),
                BucketSpec(frames=17, height=192, width=320),
            ),
            batch_size=256,
            clips_per_visit=4,
        ),
        feed=FeedConfig(driver="ray"),
        text=TextConfig(kind="builtin", width=256, depth=4),
        autoencoder=VaeLiteConfig(path="runs/vae/autoencoder.safetensors"),
        latents=LatentsConfig(mode="online"),
        model=StDiTConfig(size="L", patch=(1, 2, 2)),
        diffusion=DiffusionConfig(predict="v", first_frame=0.1, timesteps=TimestepConfig(mean=-0.4, shift=1.0)),
        steps=100_000,
        optimiser=OptimiserConfig(kind="adamw", lr=1e-4, warmup_steps=2000),
        ema=EmaConfig(decay=0.9999),
        parallel=ParallelConfig(workers=8, kind="fsdp2"),
        compile=True,
        validation=ValidationConfig(every_steps=2500, clips=512),
        checkpoint=CheckpointConfig(every_steps=1000, every_seconds=900, keep_last=2, keep_best=1, keep_every=20_000),
    )
