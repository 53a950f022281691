"""How long a checkpoint holds up training, and how long it takes: by size, on one process and a local disk.

    python jobs/benchmarks/checkpoint_speed.py [--quick] [--rounds 5] [--folder FOLDER]

The state is that of a model with Muon and AdamW: weights, their average and one to two moments, fp32, in tensors of 4
MB. Measured per size, as medians of rounds in turn:

    held up       `save` of an asynchronous checkpoint: a copy in host memory, then training goes on
    written       until its manifest is there: files written and forced to disk, hashed, old ones removed
    held up (sync)  the same with `blocking=True`: what a run without the copy would wait
    torch.save    the same tensors in one file, forced to disk: what people write
    verified      `latest`: every file read and hashed
    loaded        `load`: tensors filled in place

On a GPU `held up` is the copy to pinned host memory instead, which this machine cannot measure.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import median, table, write_page

from cineray.feed import DataJob, FeedSpec
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train.checkpoint import Checkpoints
from cineray.train.run_folder import RunFolder

TENSOR_BYTES = 4 << 20
STEP_EVERY_SECONDS = 600
"""How often a run of that size would save; for the share of its time that it is held up."""


class Rule:
    """Only the newest."""

    keep_last, keep_best, keep_every, best_metric = 1, 0, None, "loss"


def made_run(folder: Path) -> RunFolder:
    """A run to save into; its data does not matter here."""
    make_shapes(folder / "videos", videos=2)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    recipe = Recipe(
        datasets=(DatasetSpec(lake=str(folder / "lake"), split=None),),
        sampling=SamplingSpec(frames=4),
        frame=FrameSpec(height=32, width=32),
        batch_size=2,
    )
    job = DataJob(name="checkpoint-speed", recipe=recipe)
    return RunFolder.create(job, FeedSpec(recipe=recipe).pinned(), str(folder / "run"))


def made_state(megabytes: int) -> dict[str, Any]:
    """So many bytes in all, a quarter each for weights, average and two moments."""
    count = max(1, megabytes * 1_000_000 // TENSOR_BYTES // 4)
    draw = torch.Generator().manual_seed(0)

    def tensors() -> dict[str, torch.Tensor]:
        return {f"blocks.{n}.weight": torch.randn(TENSOR_BYTES // 4, generator=draw) for n in range(count)}

    return {"model": tensors(), "ema": tensors(), "optimisers": {"state": {"exp_avg": tensors(), "square": tensors()}}}


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def torch_save(state: dict[str, Any], path: Path) -> None:
    """As people write it, but durable as ours is."""
    with open(path, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def one_round(checkpoints: Checkpoints, state: dict[str, Any], step: int, folder: Path) -> dict[str, float]:
    """Each way once."""
    found = {"held up": timed(lambda: checkpoints.save(state, step))}
    found["written"] = found["held up"] + timed(checkpoints.wait)
    found["held up (sync)"] = timed(lambda: checkpoints.save(state, step + 1, blocking=True))
    found["torch.save"] = timed(lambda: torch_save(state, folder / "state.pt"))
    (folder / "state.pt").unlink()
    found["verified"] = timed(checkpoints.latest)
    info = checkpoints.latest()
    assert info is not None
    found["loaded"] = timed(lambda: checkpoints.load(state, info))
    return found


def main() -> None:
    """Measure each size, print the table and write the page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="half a minute: two small sizes, two rounds, no page")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    told = words.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    sizes, rounds = ((16, 64), 2) if told.quick else ((16, 64, 256, 1024), told.rounds)
    rows = []
    with tempfile.TemporaryDirectory(dir=told.folder) as made:
        run = made_run(Path(made))
        for size in sizes:
            state, checkpoints = made_state(size), Checkpoints(run, Rule())
            first = one_round(checkpoints, state, 10 * size, Path(made))  # makes the memory that later ones copy into
            costs = [one_round(checkpoints, state, 10 * size + 2 * n + 2, Path(made)) for n in range(rounds)]
            found = {name: median([cost[name] for cost in costs]) for name in first}
            share = 100 * found["held up"] / STEP_EVERY_SECONDS
            cells = [f"{1000 * seconds:,.0f}" for seconds in found.values()]
            rows.append([f"{size:,}", f"{1000 * first['held up']:,.0f}", *cells, f"{share:.3f} %"])
            checkpoints.close()
    titles = ["MB", "held up, first", *found, f"share of {STEP_EVERY_SECONDS} s held up"]
    text = "Milliseconds, medians.\n\n" + table(titles, rows)
    if told.quick:
        print(text)
    else:
        title = "Checkpoints: how long training is held up, and how long saving and loading take"
        write_page("checkpoint_speed", title, "python jobs/benchmarks/checkpoint_speed.py", text)


if __name__ == "__main__":
    main()
