"""A driver for the tests of scaling, as a job of its own: takes batches at the pace that a file names, until told.

    RAY_ADDRESS=... python paced_driver.py FOLDER

`FOLDER/told.json` has the recipe and its seed. `FOLDER/pace` holds how busy decoding is kept, in cores: for what a task
made, the trainer takes as long as the task took, divided by that. Where it still had to wait for a batch it takes half
as long again from then on: it is to be the limit, however busy this machine is. `0` is as fast as it can, `end` ends.
What came is appended to `FOLDER/came.jsonl`, a line a step.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from cineray.batch import batch_digest
from cineray.feed import FeedConfig, FeedSpec
from cineray.feed.ray_feed import RayFeed, ray_options
from cineray.feed.ray_shard import RayShard
from cineray.plan import Recipe
from cineray.telemetry.ray_session import connected

ENDLESS = range(1_000_000)


class Trainer:
    """How long it takes over a batch."""

    def __init__(self, pace: Path, shard: RayShard) -> None:
        self._pace, self._shard = pace, shard
        self._tasks, self._task_seconds, self._waited_seconds, self._slower = 0, 0.0, 0.0, 1.0

    def train(self) -> bool:
        """Take the time for a batch that came; false when it is enough."""
        wish, times = self._pace.read_text(encoding="utf-8"), self._shard.times
        if wish == "end":
            return False
        if float(wish) and times.tasks > self._tasks:  # the first batch of a row
            took = times.task_seconds - self._task_seconds
            if self._tasks and times.waited_seconds - self._waited_seconds > took / 10:
                self._slower *= 1.5
            time.sleep(self._slower * took / float(wish))
        self._tasks, self._task_seconds = times.tasks, times.task_seconds
        self._waited_seconds = times.waited_seconds
        return True


def main(folder: Path) -> None:
    told = json.loads((folder / "told.json").read_text())
    spec = FeedSpec(recipe=Recipe.model_validate(told["recipe"]), seed=told["seed"])
    feed = FeedConfig(driver="ray", decode_subcluster="decode", prefetch_steps=2, task_seconds=0.5)
    with connected():
        (shard,) = RayFeed(ray_options(spec, feed), ENDLESS).shards()
        trainer = Trainer(folder / "pace", shard)
        with (folder / "came.jsonl").open("a", encoding="utf-8") as sink:
            for batch in shard.batches():
                came = {"step": batch.step, "digest": batch_digest([batch]), "at": time.time()}
                sink.write(json.dumps(came) + "\n")
                sink.flush()
                if not trainer.train():
                    break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
