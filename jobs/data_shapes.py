"""Batches of the demo's moving shapes: 8 frames of 64 px at 8 frames per second, 4 clips per visit.

Purpose: the smallest job that has everything a plan has. Hardware: any. Time: seconds. Needs what `make demo` makes:

    cineray plan jobs/data_shapes.py
    cineray batch jobs/data_shapes.py --step 0
    cineray bench jobs/data_shapes.py --set feed.driver=local
"""

from cineray.feed.job import DataJob, FeedConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec


def job() -> DataJob:
    """The whole config."""
    return DataJob(
        name="data-shapes",
        recipe=Recipe(
            datasets=(DatasetSpec(lake="demo-out/lake", split="train"),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=8),
            frame=FrameSpec(height=64, width=64),
            batch_size=8,
            clips_per_visit=4,
        ),
        seed=0,
        feed=FeedConfig(driver="ray"),
    )
