"""Step time, arithmetic and waiting, by size of model: the real feed beside a batch that lies in memory already.

    python jobs/benchmarks/train_speed.py [--sizes XS S] [--steps 20] [--batch 4] [--driver local]
    python jobs/benchmarks/train_speed.py --sizes S B L XL --batch 32 --driver torch --gpu      on a GPU

Clips of 16 frames of 64 px from made videos, patches of (2, 8, 8): 512 tokens. Each size trains twice through the whole
loop (ledger, EMA, optimisers; no validation, no checkpoint but the last): once fed by its job's driver, once with its
first batch handed over again and again. Medians over steps after the first ones.

    step          median seconds of a step, fed
    TFLOP/s       three forward passes by the written formula, over a step's seconds
    MFU           the same over the device's peak, where that is known (GPUs)
    wait          seconds that a step waits for data, over its seconds: as the host saw it; on a GPU as the device did
    stall         by difference: 1 - steps per second fed / steps per second with the resident batch
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measure import table, write_page

from cineray.diffusion import DiffusionConfig
from cineray.feed import FeedConfig, local_batches
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.records import Batch
from cineray.testing import make_shapes
from cineray.train import CheckpointConfig, OptimiserConfig, TrainJob, ValidationConfig
from cineray.train.attempt import attempt_run, open_or_create
from cineray.train.goodput import FIRST_STEPS, waited
from cineray.train.ledger import read_ledger
from cineray.train.local_run import batches_of
from cineray.train.parallel import World
from cineray.train.run_folder import RunFolder
from cineray.train.stop import StopRequest


def job_of(size: str, lake: Path, told: argparse.Namespace) -> TrainJob:
    """A training of one size."""
    return TrainJob(
        name=f"speed-{size}",
        recipe=Recipe(
            datasets=(DatasetSpec(lake=str(lake), split=None),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=16, short_videos="loop"),
            frame=FrameSpec(height=64, width=64),
            batch_size=told.batch,
            clips_per_visit=4,
        ),
        feed=FeedConfig(driver=told.driver),
        steps=told.steps,
        model=StDiTConfig(size=size, patch=(2, 8, 8)),  # type: ignore[arg-type]
        diffusion=DiffusionConfig(data_mean=(0.0, 0.0, 0.0), data_sd=(0.5, 0.5, 0.5)),
        optimiser=OptimiserConfig(warmup_steps=2),
        precision="bf16" if told.gpu else "fp32",
        compile=told.gpu,
        validation=ValidationConfig(every_steps=0),
        checkpoint=CheckpointConfig(every_steps=None),
    )


def rows_of(job: TrainJob, folder: Path, *, resident: bool) -> list[dict[str, Any]]:
    """The ledger's rows of the steady steps of one run."""
    run, job = open_or_create(job, str(folder))
    world = World.here()
    batches = batches_of(job, run.spec(), world)
    if resident:
        first = next(local_batches(run.spec(), range(1)))

        def again(steps: range) -> Iterator[Batch]:
            return (dataclasses.replace(first, step=step) for step in steps)

        batches = again
    attempt_run(job, run, batches, world=world, stop=StopRequest())
    rows: list[dict[str, Any]] = read_ledger(RunFolder.open(run.uri).folder("ledger")).to_pylist()
    return rows[FIRST_STEPS + 1 :]


def line_of(size: str, fed: list[dict[str, Any]], resident: list[dict[str, Any]], weights: int) -> list[str]:
    """A row of the table."""
    step, alone = (statistics.median(row["step_s"] for row in rows) for rows in (fed, resident))
    flops = statistics.median(row["mfu"] for row in fed)
    wait = sum(waited(row) for row in fed) / sum(row["step_s"] for row in fed)
    rate = statistics.median(row["clips_per_s"] for row in fed)
    return [
        size,
        f"{weights / 1e6:.1f}",
        f"{step:.3f}",
        f"{alone:.3f}",
        f"{rate:.1f}",
        f"{train_flops(size) * fed[0]['clips'] / step / 1e12:.3f}",
        "not known" if flops != flops else f"{100 * flops:.1f} %",
        f"{100 * wait:.1f} %",
        f"{100 * (1 - alone / step):.1f} %",
    ]


def model_of(size: str) -> Any:
    """The network alone."""
    from cineray.models import build_model

    config = StDiTConfig(size=size, patch=(2, 8, 8))  # type: ignore[arg-type]
    with torch.device("meta"):
        return build_model(config, channels=3, num_classes=0, text_width=None, longest=(16, 64, 64))


def train_flops(size: str) -> int:
    """Of one clip: a forward pass, and twice as much backwards."""
    return 3 * int(model_of(size).forward_flops((3, 16, 64, 64)))


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["XS", "S"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--driver", choices=("local", "torch"), default="local")
    parser.add_argument("--videos", type=int, default=48)
    parser.add_argument("--gpu", action="store_true", help="bf16 and compiled, as on a GPU")
    told = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_shapes(folder / "videos", videos=told.videos, size_px=128)
        ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
        for number, size in zip(itertools.count(), told.sizes, strict=False):
            job = job_of(size, folder / "lake", told)
            fed = rows_of(job, folder / f"fed-{number}", resident=False)
            resident = rows_of(job, folder / f"resident-{number}", resident=True)
            weights = sum(weight.numel() for weight in model_of(size).parameters())
            lines.append(line_of(size, fed, resident, weights))
    header = ["size", "M weights", "step s", "resident s", "clips/s", "TFLOP/s", "MFU", "wait", "stall"]
    page = table(header, lines)
    command = f"python jobs/benchmarks/train_speed.py --sizes {' '.join(told.sizes)} --batch {told.batch}"
    command += f" --steps {told.steps} --driver {told.driver}" + (" --gpu" if told.gpu else "")
    write_page("train_speed", "Training: seconds of a step by size of model", command, page)


if __name__ == "__main__":
    main()
