"""How many decoding cores a training needs: its plan's cost and its steps' seconds go in, cores per GPU come out.

    cores per GPU  =  CPU seconds that a step's clips take to decode  /  GPU seconds that a step takes to compute

Neither changes with the number of GPUs (a step is the same clips on any number of them), so what one run measured says
it for another size too. Of a run only the computing counts: a step that waited for its data tells nothing of the GPU.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cineray.errors import UsageError
from cineray.plan.cost import PlanCost
from cineray.train.goodput import FIRST_STEPS, waited
from cineray.train.ledger import last_of_each_step, read_all_rows
from cineray.train.run_folder import RunFolder

HEADROOM = 1.25
"""Nodes that are taken away are missed until others have come, and some clips take far longer than most."""
LEAST_STEPS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeNeed:
    """What a training's decoding takes."""

    gpus: int
    decode_cpu_seconds_per_step: float
    """By the plan's cost model."""
    gpu_seconds_per_step: float
    """Of all GPUs together."""
    measured: str
    """Where that comes from."""
    headroom: float

    @property
    def cores_per_gpu(self) -> float:
        """That keep up with one GPU."""
        return self.decode_cpu_seconds_per_step / self.gpu_seconds_per_step

    @property
    def cores(self) -> int:
        """For all GPUs, with room."""
        return math.ceil(round(self.cores_per_gpu * self.gpus * self.headroom, 6))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self) | {"cores_per_gpu": self.cores_per_gpu, "cores": self.cores}


def decode_need(
    cost: PlanCost, *, gpus: int, gpu_seconds_per_step: float, measured: str, headroom: float = HEADROOM
) -> DecodeNeed:
    """Of a plan whose steps take so long."""
    return DecodeNeed(
        gpus=gpus,
        decode_cpu_seconds_per_step=cost.decode_cpu_seconds_per_epoch / cost.steps_per_epoch,
        gpu_seconds_per_step=gpu_seconds_per_step,
        measured=measured,
        headroom=headroom,
    )


def measured_gpu_seconds(run: str) -> float:
    """What a run's steps took to compute, on all its GPUs together: the median of its ledger."""
    rows = last_of_each_step(read_all_rows(RunFolder.open(run).folder("ledger")))
    return gpu_seconds_of(rows, where=run)


def gpu_seconds_of(rows: Sequence[Mapping[str, Any]], *, where: str) -> float:
    """The same from a ledger's rows; the first steps of each shape, which compile and settle, are left out."""
    seen: dict[tuple[int, str], int] = {}
    found = []
    for row in rows:
        key = (int(row["attempt"]), str(row.get("bucket", "")))
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > FIRST_STEPS:
            between = float(row.get("checkpoint_s") or 0) + float(row.get("validation_s") or 0)
            found.append((float(row["step_s"]) - between - waited(row)) * int(row["world_size"]))
    if len(found) < LEAST_STEPS:
        raise UsageError(
            f"the run {where} has {len(found)} steps to measure by; wanted {LEAST_STEPS} after the first "
            f"{FIRST_STEPS} of each shape. Let it go on, or say --step-seconds"
        )
    return max(statistics.median(found), 1e-6)
