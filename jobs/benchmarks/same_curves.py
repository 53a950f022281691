"""How far the loss curves of 1, 2 and 3 workers under Ray Train are apart: the same job, the same seed, 50 steps.

    python jobs/benchmarks/same_curves.py [--steps 50] [--workers 1 2 3]

An embedded Ray on this machine, workers joined by gloo, a small model in fp32, uneven shares (8 clips over 3 workers).
Each step's clips must be the same for all (the ledger's `clips_digest`); losses differ by the order in which gradients
are summed, and a run that is repeated with as many workers must not differ at all.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from measure import table, write_page
from restart_time import made_job

from cineray.telemetry.ray_session import connected
from cineray.train import ParallelConfig, RunFolder
from cineray.train.config import TrainJob
from cineray.train.ledger import read_ledger
from cineray.train.ray_train import run_on_ray


def curve(job: TrainJob, workers: int, uri: str) -> list[dict[str, Any]]:
    """The ledger of a run of so many workers."""
    run_on_ray(job.model_copy(update={"parallel": ParallelConfig(workers=workers)}), uri=uri)
    rows: list[dict[str, Any]] = read_ledger(RunFolder.open(uri).folder("ledger")).to_pylist()
    assert all(row["world_size"] == workers for row in rows)
    return rows


def main() -> None:
    """Train with each number of workers, the first twice; print how they differ and write the page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--steps", type=int, default=50)
    words.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    told = words.parse_args()
    with tempfile.TemporaryDirectory() as made, connected(num_cpus=max(told.workers) + 1):
        job = made_job(Path(made))
        recipe = job.recipe.model_copy(update={"batch_size": 8})
        job = job.model_copy(update={"steps": told.steps, "recipe": recipe})
        order = [*told.workers, told.workers[-1]]
        curves = [curve(job, workers, str(Path(made) / f"run-{n}")) for n, workers in enumerate(order)]
    first, rows = curves[0], []
    for workers, other in zip(order[1:], curves[1:], strict=True):
        against = curves[-2] if other is curves[-1] else first
        apart = [abs(a["loss"] - b["loss"]) for a, b in zip(against, other, strict=True)]
        same = all(a["clips_digest"] == b["clips_digest"] for a, b in zip(against, other, strict=True))
        pair = f"{workers} and {against[0]['world_size']}"
        rows.append([pair, "yes" if same else "NO", f"{apart[0]:.1e}", f"{max(apart):.1e}", f"{apart[-1]:.1e}"])
    some = max(1, told.steps // 5)
    begins, ends = (sum(row["loss"] for row in rows) / some for rows in (first[:some], first[-some:]))
    falls = (
        f"{told.steps} steps. Each step draws noise levels of its own, so its loss goes up and down; the mean of the "
        f"first {some} is {begins:.4f}, of the last {some} {ends:.4f}."
    )
    header = ["workers", "the same clips at each step", "apart at step 0", "at most", "at the last step"]
    body = f"{falls}\n\n{table(header, rows)}"
    write_page("same_curves", "Loss curves of 1, 2 and 3 workers", "python jobs/benchmarks/same_curves.py", body)


if __name__ == "__main__":
    main()
