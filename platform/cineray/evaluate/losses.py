"""The losses of a checkpoint on its run's validation clips: a loaded model goes in; bins, headline and skill come out.

They are those that the training measured, by the same code, on the same clips, noise and noise levels; read
`train/validation.py` for what each of them means. The best known rank of motion is `headline` and `wrong_over_right`,
not the mean.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from cineray.evaluate.samples import Sampler
from cineray.train.parallel import World
from cineray.train.tasks import flow_validation


@torch.no_grad()
def validation_losses(sampler: Sampler) -> dict[str, Any]:
    """As an evaluation's record has them; `skipped` says why there are none."""
    device = next(sampler.model.parameters()).device
    validation = flow_validation(sampler.job, sampler.run, World.here(device))
    if validation is None:
        return {"skipped": "the run was trained with validation.every_steps=0, so it has no validation clips"}
    bf16 = sampler.job.precision == "bf16"
    with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
        figures = validation.measure(sampler.task, sampler.model, sampler.info.step)
    told = {name.removeprefix("validation/"): value for name, value in figures.items()}
    bins = range(sampler.job.validation.bins)
    return {
        "bins": [told[f"bin{number}"] for number in bins],
        "headline": told["headline"],
        "mean": told["loss"],
        "wrong_over_right": told.get("wrong_over_right"),
        "skill_over_mean": told.get("skill_mean"),
        "skill_over_linear": told.get("skill_linear"),
        "skill_linear": [told[f"skill_linear{number}"] for number in bins] if "skill_linear0" in told else [],
        "clips": sampler.job.validation.clips,
    }
