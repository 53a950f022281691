"""A job that learns in seconds, and batches for it that are made, not decoded: a square that moves as its label says.

Used by the tests and by the processes that they start (`together.py`), so both see the same clips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from cineray.diffusion import DiffusionConfig
from cineray.models.configs import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.records import Batch, ClipSpec, Crop
from cineray.train.config import EmaConfig, OptimiserConfig, TrainJob, ValidationConfig

FRAMES, SIDE = 4, 16
LABELS = ("left", "right")


def job_of(**told: Any) -> TrainJob:
    """Two blocks of width 24 over 16 tokens; 5 clips a step, so that two or three processes have uneven shares."""
    values: dict[str, Any] = {
        "name": "made",
        "recipe": Recipe(
            datasets=(DatasetSpec(lake="nowhere"),),
            sampling=SamplingSpec(mode="stride", frames=FRAMES),
            frame=FrameSpec(height=SIDE, width=SIDE),
            batch_size=5,
        ),
        "seed": 3,
        "steps": 6,
        "model": StDiTConfig(size="custom", width=24, depth=2, heads=2, patch=(1, 8, 8), modulation_std=0.02),
        "classes": LABELS,
        "optimiser": OptimiserConfig(muon_lr=4e-3, lr=2e-3, warmup_steps=3),
        "ema": EmaConfig(decay=0.9),
        "diffusion": DiffusionConfig(least_noise=0.2),
        "precision": "fp32",
        "validation": ValidationConfig(every_steps=0),
    }
    return TrainJob(**(values | told))


def made_batch(step: int, *, rank: int = 0, world: int = 1, size: int = 5, padded: int = 0, seed: int = 0) -> Batch:
    """A rank's share of the step's clips, functions of (seed, step, slot); the last `padded` frames are not real."""
    slots = range(size * rank // world, size * (rank + 1) // world)
    specs = tuple(_spec(step, slot, seed, padded) for slot in slots)
    return Batch(
        step=step,
        first_slot=slots.start,
        global_size=size,
        frames_BTHWC=np.stack([_frames(step, slot, seed) for slot in slots]),
        frame_is_real_BT=np.array([spec.frame_is_real for spec in specs]),
        seconds_BT=np.tile(np.arange(FRAMES) / 8, (len(slots), 1)),
        start_seconds_B=np.zeros(len(slots)),
        specs=specs,
        frames_decoded=FRAMES * len(slots),
    )


def made_batches(steps: range, *, rank: int = 0, world: int = 1, **told: Any) -> Iterator[Batch]:
    """One after the other."""
    return (made_batch(step, rank=rank, world=world, **told) for step in steps)


def without_labels(batch: Batch) -> Batch:
    """The same clips, nothing said of them."""
    return replace(batch, specs=tuple(replace(spec, label=None, caption=None) for spec in batch.specs))


def _label(step: int, slot: int, seed: int) -> str:
    return LABELS[int(np.random.default_rng([seed, step, slot]).integers(2))]


def _spec(step: int, slot: int, seed: int, padded: int) -> ClipSpec:
    label = _label(step, slot, seed)
    return ClipSpec(
        clip_id=f"{step}-{slot}",
        video_id=f"{step}-{slot}",
        dataset=0,
        clip_number=slot,
        epoch=step // 10,
        draw=0,
        frame_numbers=tuple(range(FRAMES)),
        frame_pts=tuple(range(FRAMES)),
        time_base=Fraction(1, 8),
        frame_is_real=(True,) * (FRAMES - padded) + (False,) * padded,
        crop=Crop(top=0, left=0, height=SIDE, width=SIDE, out_height=SIDE, out_width=SIDE),
        caption=f"a square moves to the {label}",
        label=label,
    )


def _frames(step: int, slot: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng([seed, step, slot, 1])
    top, left = generator.integers(0, SIDE - 4, 2)
    colour = generator.integers(100, 256, 3)
    pace = -2 if _label(step, slot, seed) == "left" else 2
    frames = np.full((FRAMES, SIDE, SIDE, 3), 20, np.uint8)
    for t in range(FRAMES):
        columns = (left + pace * t + np.arange(4)) % SIDE
        frames[t, top : top + 4, columns] = colour
    return frames
