"""A small video autoencoder over the moving shapes: what latent runs build on, judged before they may.

Purpose: the smallest `vae_lite` worth having, and the pattern for larger ones. 9 frames of 64 px, 12 frames per second,
become 8 x 3 x 8 x 8 numbers. Hardware: two CPU cores, 2 GB. Needs the demo's shapes, best many of them:

    cineray demo --until ingest
    cineray train jobs/train_vae.py --run runs/vae

The run's folder then holds `autoencoder.safetensors`, with its held-out figures. A training job takes it by `--set
'autoencoder={kind: vae_lite, path: runs/vae/autoencoder.safetensors}'` if they pass that job's gate; shapes with sharp
edges, five pixels further in each frame, come back a little smoother than they are: allow for that on purpose, with
`gate: {most_flicker_error: 0.25}` in the same braces. For real videos at 128 px, on a GPU: --set shape.width=128 --set
shape.blocks=3 --set recipe.frame.height=128 --set recipe.frame.width=128 --set recipe.batch_size=64 --set
precision=bf16 --set steps=50000.

Last known result: 28.6 dB PSNR, 25.6 dB temporal PSNR and 0.76 of the real flicker on 64 held-out clips of 200 videos,
after 224 s on one busy core (0.29 million weights); 30.6 dB, 27.7 dB and 0.83 with shape.width=64 and 1500 steps,
after 560 s.
"""

from cineray.feed import FeedConfig
from cineray.models import VaeLiteShape
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.train import CheckpointConfig, EmaConfig, OptimiserConfig, TrainVaeJob, ValidationConfig


def job() -> TrainVaeJob:
    """The whole config."""
    return TrainVaeJob(
        name="train-vae",
        recipe=Recipe(
            datasets=(DatasetSpec(lake="demo-out/lake", split="train"),),
            # One frame, then whole groups of four: nothing of a latent is filling.
            sampling=SamplingSpec(mode="fps", fps="12", frames=9),
            frame=FrameSpec(height=64, width=64),
            batch_size=8,
            clips_per_visit=4,
        ),
        seed=0,
        feed=FeedConfig(driver="local"),
        steps=1200,
        shape=VaeLiteShape(width=32, blocks=2, channels=8),
        optimiser=OptimiserConfig(muon_lr=3e-3, lr=3e-3, warmup_steps=30, schedule="wsd", decay_fraction=0.4),
        ema=EmaConfig(decay=0.995),
        precision="fp32",
        validation=ValidationConfig(every_steps=300, clips=64, held_out=0.1),
        checkpoint=CheckpointConfig(every_steps=600),
    )
