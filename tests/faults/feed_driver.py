"""A feed as a process of its own on some machine of a cluster: writes down each batch when it has it.

    RAY_ADDRESS=... python feed_driver.py FOLDER

`FOLDER/told.json` has the recipe, its seed, the steps and options of the feed. A line `step digest seconds` per batch
goes to `FOLDER/seen`. Where there is a file `FOLDER/<step>.hold`, the batch of that step is not asked for before there
is a file `FOLDER/<step>.go`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from cineray.batch import batch_digest
from cineray.feed import FeedSpec
from cineray.feed.ray_feed import RayOptions, ray_batches
from cineray.plan import Recipe
from cineray.telemetry.ray_session import connected


def main(folder: Path) -> None:
    told = json.loads((folder / "told.json").read_text())
    spec = FeedSpec(recipe=Recipe.model_validate(told["recipe"]), seed=told["seed"])
    options = RayOptions(spec=spec, decode_label={"ray-subcluster": "decode"}, **told["options"])
    with connected():
        batches = ray_batches(options, range(told["start"], told["stop"]))
        for step in range(told["start"], told["stop"]):
            wait_at(folder, step)
            batch = next(batches)
            with (folder / "seen").open("a") as file:
                file.write(f"{batch.step} {batch_digest([batch])} {time.time()}\n")


def wait_at(folder: Path, step: int) -> None:
    if (folder / f"{step}.hold").exists():
        (folder / f"{step}.holds").touch()
        while not (folder / f"{step}.go").exists():
            time.sleep(0.02)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
