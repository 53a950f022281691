"""A row of the ledger: what a step did and where its seconds went, in columns whose names are kept. Plain values.

Seconds are those of the first process, but for `longest_wait_s`; clips, frames, tokens and rates are of all processes
together. A process that waits for data lets all others wait in their sums, which is `compute_s` there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # reading a ledger needs no torch
    from cineray.train.device_clock import StepTimes
    from cineray.train.loop import StepFacts

COLUMNS: dict[str, str] = {
    "step": "int64",
    "attempt": "int64",
    "at": "double",
    "epoch": "int64",
    "bucket": "string",
    "clips": "int64",
    "clips_digest": "string",
    "frames": "int64",
    "tokens": "int64",
    "loss": "double",
    "lr": "double",
    "grad_norm": "double",
    "data_wait_s": "double",
    "longest_wait_s": "double",
    "longest_wait_rank": "int64",
    "host_to_device_s": "double",
    "compute_s": "double",
    "gpu_stall_s": "double",
    "checkpoint_s": "double",
    "validation_s": "double",
    "step_s": "double",
    "clips_per_s": "double",
    "frames_per_s": "double",
    "tokens_per_s": "double",
    "mfu": "double",
    "padding_fraction": "double",
    "substituted": "int64",
    "decode_waste": "double",
    "gpu_memory_bytes": "int64",
    "world_size": "int64",
    "training_seconds": "double",
}
"""Column -> Arrow type. Add, never rename."""

BACKWARD = 3
"""A training step computes as much as three forward passes: one forward, two for the gradients of inputs and weights.
What is computed again to save memory does not count."""


def row_of(
    facts: StepFacts,
    times: StepTimes,
    *,
    attempt: int,
    bucket: str,
    world_size: int,
    peak_flops: float = math.nan,
    gpu_memory_bytes: int = 0,
    training_seconds: float = math.nan,
) -> dict[str, Any]:
    """One row. `peak_flops` is of one device; where it is NaN, so is the MFU. `training_seconds`: of the run's steps up
    to this one, as `budget.seconds` counts them; a restart takes them up where its checkpoint was."""
    seconds = times.step_s or math.nan
    return {
        "step": facts.step,
        "attempt": attempt,
        "at": times.ended,
        "epoch": facts.epoch,
        "bucket": bucket,
        "clips": facts.clips,
        "clips_digest": facts.clips_digest,
        "frames": facts.frames,
        "tokens": facts.tokens,
        "loss": facts.loss,
        "lr": facts.lr,
        "grad_norm": facts.grad_norm,
        "data_wait_s": times.data_wait_s,
        "longest_wait_s": facts.longest_wait_s,
        "longest_wait_rank": facts.longest_wait_rank,
        "host_to_device_s": times.host_to_device_s,
        "compute_s": times.compute_s,
        "gpu_stall_s": times.gpu_stall_s,
        "checkpoint_s": times.checkpoint_s,
        "validation_s": times.validation_s,
        "step_s": times.step_s,
        "clips_per_s": facts.clips / seconds,
        "frames_per_s": facts.frames / seconds,
        "tokens_per_s": facts.tokens / seconds,
        "mfu": BACKWARD * facts.forward_flops / (peak_flops * world_size * seconds),
        "padding_fraction": facts.padding_fraction,
        "substituted": facts.substituted,
        "decode_waste": facts.frames_decoded / max(facts.frames, 1),
        "gpu_memory_bytes": gpu_memory_bytes,
        "world_size": world_size,
        "training_seconds": training_seconds,
    }
