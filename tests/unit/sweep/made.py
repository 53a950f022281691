"""Jobs and trials to try a sweep's parts on: small enough to train in seconds, and often never trained at all."""

from __future__ import annotations

from typing import Any

from cineray.config import Config
from cineray.diffusion import DiffusionConfig
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.sweep import Choice, ObjectiveSpec, SweepFolder, SweepJob, TrialBudget
from cineray.sweep.trial_folder import TrialFolder
from cineray.sweep.trial_record import TrialRecord
from cineray.train import OptimiserConfig, TrainJob, ValidationConfig


def base_job(lake: str = "nowhere", **told: Any) -> TrainJob:
    """Clips of 4 frames of 16 px, by a stride of 1, 4 of them a step."""
    values: dict[str, Any] = {
        "name": "base",
        "recipe": Recipe(
            datasets=(DatasetSpec(lake=lake, split=None),),
            sampling=SamplingSpec(mode="stride", stride=1, frames=4),
            frame=FrameSpec(height=16, width=16),
            batch_size=4,
        ),
        "steps": 8,
        "classes": "data",
        "model": StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8)),
        "diffusion": DiffusionConfig(least_noise=0.2),
        "optimiser": OptimiserConfig(warmup_steps=2, schedule="constant"),
        "precision": "fp32",
        "validation": ValidationConfig(every_steps=4, clips=8, bins=4, held_out=0.2, baseline_clips=16),
    }
    return TrainJob.model_validate(values | told)


def sweep_job(lake: str = "nowhere", **told: Any) -> SweepJob:
    """By default: three strides, judged by skill, ten seconds each."""
    values: dict[str, Any] = {
        "name": "made",
        "base": base_job(lake),
        "space": {"stride": Choice(field="recipe.sampling.stride", values=(1, 2, 4))},
        "objectives": (ObjectiveSpec(name="skill"),),
        "budget": TrialBudget(seconds=10),
    }
    return SweepJob.model_validate(values | told)


def judged(job: SweepJob) -> SweepJob:
    """As if it were definite, for what does not look at data."""
    return job.model_copy(update={"judge": job.judge.model_copy(update={"recipe": job.base.recipe})})


def report(step: int, seconds: float, **figures: float) -> dict[str, Any]:
    """What a trial says at a judgement."""
    told = {"generation": 1, "step": step, "seconds": seconds, "clips": 4 * step, "frames": 16 * step}
    return told | {"wall_seconds": seconds + 5, "clips_per_s": 4 * step / seconds} | figures


def record(number: int, values: dict[str, Any], state: str = "done", **figures: float) -> TrialRecord:
    """A trial with one report; skill by its name: `skill=0.5`."""
    named = {"skill": "validation/skill_linear", "noisiest_loss": "validation/headline"}
    reports = [report(10, 10.0) | {named.get(name, name): value for name, value in figures.items()}] if figures else []
    return TrialRecord(number=number, values=values, state=state, reports=reports)


def add_trial(
    sweep: SweepFolder, number: int, values: dict[str, Any], *reports: dict[str, Any], state: str = "done"
) -> TrialFolder:
    """A trial that lies in a sweep's folder, as if it had been trained."""
    job: Config = base_job()
    trial = sweep.add_trial(number, values=values, fields=values, job=job, rate_per_hour=3.6)
    log = trial.open_reports()
    for one in reports:
        log.add(one)
    if state:
        trial.end(state, "")  # type: ignore[arg-type]  # of a test
    return trial
