"""A driver for the tests of scaling, as a job of its own: takes batches at the pace that a file names, until told.

    python paced_driver.py '{"folder": ..., "lake": ..., "label": "decode", "busy": 0.6}'

`folder/pace` holds how busy decoding is kept, in cores: for what a task made, the trainer takes as long as the task
took, divided by that. Where it still had to wait for a batch it takes half as long again from then on: it is to be the
limit, however busy this machine is. `0` is as fast as it can, `end` ends. What came is appended to
`folder/came.jsonl`, a line a step.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from cineray.batch import batch_digest
from cineray.feed import FeedConfig, FeedSpec
from cineray.feed.ray_feed import RayFeed, ray_options
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.telemetry.ray_session import connected

ENDLESS = range(1_000_000)


def spec_of(lake: str) -> FeedSpec:
    """What the tests compare with, too: 12 clips a step, out of made videos."""
    recipe = Recipe(
        datasets=(DatasetSpec(lake=lake, split=None),),
        sampling=SamplingSpec(frames=8, stride=2),
        frame=FrameSpec(height=48, width=48),
        batch_size=12,
        clips_per_visit=2,
        max_substituted_fraction=1.0,
    )
    return FeedSpec(recipe=recipe, seed=5).pinned()


def main(told: dict[str, Any]) -> None:
    """Take batches until `pace` says `end`."""
    folder = Path(told["folder"])
    pace, came = folder / "pace", folder / "came.jsonl"
    with connected():
        spec = spec_of(told["lake"])
        feed = FeedConfig(driver="ray", decode_subcluster=told["label"], prefetch_steps=2, task_seconds=0.5)
        (shard,) = RayFeed(ray_options(spec, feed), ENDLESS).shards()
        tasks, seconds, waited, slower = 0, 0.0, 0.0, 1.0
        with came.open("a", encoding="utf-8") as sink:
            for batch in shard.batches():
                sink.write(json.dumps({"step": batch.step, "digest": batch_digest([batch])}) + "\n")
                sink.flush()
                wish = pace.read_text(encoding="utf-8")
                if wish == "end":
                    break
                if float(wish) and shard.times.tasks > tasks:  # the first batch of a row
                    took = shard.times.task_seconds - seconds
                    slower *= 1.5 if tasks and shard.times.waited_seconds - waited > took / 10 else 1.0
                    time.sleep(slower * took / float(wish))
                tasks, seconds, waited = shard.times.tasks, shard.times.task_seconds, shard.times.waited_seconds


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
